"""The kinds of CO-RE relocations and how clang writes the way to a field (enum bpf_core_relo_kind, linux/bpf.h)."""

import re
from enum import IntEnum

from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

MAX_DEPTH = 64  # steps of an access string that are followed, as in libbpf and the kernel
_ACCESS = re.compile(r"[0-9]{1,10}(?::[0-9]{1,10})*")
_FLAVOR = re.compile(r"(.*[^_])___[^_].*", re.DOTALL)

COMPOSITES = frozenset({Kind.STRUCT, Kind.UNION})
ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_C_WORD = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.ENUM64: "enum "}


class CoreKind(IntEnum):
    """``enum bpf_core_relo_kind``: what of a field, type or enumerator an instruction needs to know.

    Field offsets, sizes and existence are known to LLVM 10, types and enumerators to 12, TYPE_MATCHES to 15.
    """

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12

    @property
    def about_field(self) -> bool:
        """Whether it follows an access string through members and elements."""
        return self <= CoreKind.FIELD_RSHIFT_U64

    @property
    def about_enumerator(self) -> bool:
        """Whether it is about one enumerator of an enum."""
        return self in (CoreKind.ENUMVAL_EXISTS, CoreKind.ENUMVAL_VALUE)


def core_kind(number: int) -> CoreKind:
    """The kind of a number from an object; ObjectError for one that is not known."""
    try:
        return CoreKind(number)
    except ValueError:
        raise ObjectError(
            f"CO-RE relocations of kind {number} are not known",
            hint="the object was made by a compiler newer than this netbpf",
        ) from None


def access_path(text: str) -> tuple[int, ...]:
    """The steps of an access string: "0:1:2" is (0, 1, 2); ObjectError for anything else."""
    if not _ACCESS.fullmatch(text):
        raise ObjectError(f"CO-RE access string {escape(text)!r} makes no sense")
    path = tuple(map(int, text.split(":")))
    if len(path) > MAX_DEPTH:
        raise ObjectError(f"a CO-RE access string has more than {MAX_DEPTH} steps")
    return path


def essential_name(name: str) -> str:
    """A name without its flavor, which is what follows the last ``___``.

    >>> [essential_name(name) for name in ("sock", "sock___old", "a___b___c", "___x", "x___")]
    ['sock', 'sock', 'a___b', '___x', 'x___']
    """
    found = _FLAVOR.fullmatch(name)
    return found[1] if found else name


def same_kind(one: Kind, other: Kind) -> bool:
    """Whether a type of one kind can stand for one of the other: ENUM and ENUM64 are of a kind."""
    return one is other or (one in ENUMS and other in ENUMS)


def type_text(kind: BtfType) -> str:
    """A type as C names it: ``struct sk_buff``."""
    word = _C_WORD.get(kind.kind, "")
    if kind.kind is Kind.FWD:
        word = "union " if kind.kind_flag else "struct "
    return word + (escape(kind.name) or f"(anonymous, type {kind.id})")


def composite(btf: Btf, type_id: int) -> BtfType | None:
    """The struct or union behind a type id, or None where it is neither."""
    found = btf.resolve(type_id)
    return found if found.kind in COMPOSITES else None
