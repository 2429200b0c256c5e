"""Names that C takes: of types that share one, of integers by their sizes, of what has no C name at all.

Types of one name become ``flow`` and ``flow___2``: CO-RE passes over what follows three underscores.
"""

import re
from typing import Final

from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.errors import ObjectError

KEYWORDS: Final = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long "
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "_Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert _Thread_local asm "
    "typeof __attribute__".split()
)
BUILTIN: Final = "__builtin_va_list"  # a pointer for BPF, an array of structs on most machines
C23_WORDS: Final = frozenset({"bool", "true", "false"})  # keywords since C23
_TAGGED: Final = frozenset({Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.FWD})
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# What is left of a name without "int", "signed" and "unsigned", and the size of that type for BPF in bytes.
_SIZES: Final = {
    "": 4, "char": 1, "short": 2, "long": 8, "long long": 8, "__int128": 16, "_Bool": 1, "float": 4, "double": 8,
}  # fmt: skip
_BY_SIZE: Final = {1: "char", 2: "short", 4: "int", 8: "long long", 16: "__int128"}


def identifier(name: str) -> str:
    """A name as C takes it: other characters become underscores. "" stays as it is."""
    if not name:
        return ""
    if not _IDENTIFIER.fullmatch(name):
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        name = f"_{name}" if name[0].isdigit() else name
    return f"{name}_" if name in KEYWORDS else name


def number_name(btf: Btf, one: BtfType) -> str:
    """An INT or FLOAT in C, of the same size where BPF has another one for that name."""
    words = one.name.split()
    rest = " ".join(sorted(word for word in words if word not in ("int", "signed", "unsigned")))
    size = one.size_or_type
    if words and _SIZES.get(rest) == size:
        return one.name
    if one.kind is Kind.FLOAT:
        names = {4: "float", 8: "double"}
    else:
        shape = btf.integer(one)
        sign = "signed" if shape.signed else "unsigned"
        names = {bytes_: f"{sign} {word}" for bytes_, word in _BY_SIZE.items()}
        if shape.boolean:
            names[1] = "_Bool"
    if size in names:
        return names[size]
    if size and not size & (size - 1):
        # No number in C for BPF, but its size and its alignment.
        return f"unsigned char __attribute__((vector_size({size})))"
    raise ObjectError(f"BTF type {one.id} is a number of {size} bytes")


class Names:
    """Which name each type of a BTF has in its header. Tags have a name space of their own, as in C."""

    def __init__(self, btf: Btf, types: list[BtfType]) -> None:
        """``types`` of ``btf`` in the order of their ids: the first of several keeps its name."""
        self._tags: dict[int, str] = {}
        self._others: dict[int, str] = {}
        self._taken_tags: dict[str, Kind] = {}
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        later = []
        for one in types:
            if not one.name:
                continue
            if one.kind is Kind.TYPEDEF:
                if one.name == BUILTIN and btf.resolve(one.id).kind is not Kind.PTR:
                    self._taken.add(BUILTIN)
                self._others[one.id] = self._free(identifier(one.name), self._taken)
                self._taken.add(self._others[one.id])
            elif one.kind in _TAGGED:
                if only_declared(one):
                    later.append(one)
                else:
                    self._tags[one.id] = self._tag(identifier(one.name), _word(one))
        for one in later:
            self._tags[one.id] = self._declared(one)

    def _declared(self, one: BtfType) -> str:
        """A declaration means the definition of the same name and kind, where there is one."""
        name = identifier(one.name)
        if self._taken_tags.get(name) is _word(one):
            return name
        return self._tag(name, _word(one))

    def _tag(self, name: str, kind: Kind) -> str:
        found = self._free(name, self._taken_tags)
        self._taken_tags[found] = kind
        return found

    def _free(self, name: str, taken: "set[str] | dict[str, Kind]") -> str:
        found = name
        while found in taken:
            number = self._next[name] = self._next.get(name, 1) + 1
            found = f"{name}___{number}"
        return found

    def tag(self, one: BtfType) -> str:
        """The name behind ``struct``, ``union`` or ``enum``; "" for one without."""
        return self._tags.get(one.id, "")

    def typedef(self, one: BtfType) -> str:
        """The name of a typedef."""
        return self._others.get(one.id) or f"typedef_{one.id}"

    def constant(self, name: str) -> str:
        """The name of a constant of an enum that is being written."""
        found = self._free(identifier(name) or "unnamed", self._taken)
        self._taken.add(found)
        return found

    def taken(self, name: str) -> bool:
        """Whether a typedef or a constant has the name."""
        return name in self._taken


def only_declared(one: BtfType) -> bool:
    """Whether a type is declared without being defined."""
    # An enum without values is one that was only declared: C has no other.
    is_enum = one.kind in (Kind.ENUM, Kind.ENUM64)
    return one.kind is Kind.FWD or (is_enum and not one.vlen and bool(one.name))


def _word(one: BtfType) -> Kind:
    if one.kind is Kind.FWD:
        return Kind.UNION if one.kind_flag else Kind.STRUCT
    return Kind.ENUM if one.kind is Kind.ENUM64 else one.kind


def word(one: BtfType) -> str:
    """``struct``, ``union`` or ``enum``."""
    return _word(one).name.lower()
