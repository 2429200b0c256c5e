"""Reading BTF (Documentation/bpf/btf.rst; include/uapi/linux/btf.h).

The bytes may come from a hostile object: whatever is wrong with them is an ObjectError, never a crash, and no
chain of references is followed forever.
"""

import re
import struct
import sys
from array import array
from collections.abc import Collection, Iterator
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple

from netbpf.errors import ObjectError

MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_FEW = 8  # names: searching for each is then cheaper than looking at every type
MAX_STRING = 4096  # bytes
MAX_DEPTH = 32  # BTF the kernel accepts nests no deeper (MAX_RESOLVE_DEPTH, kernel/bpf/btf.c)


class Kind(IntEnum):
    """``BTF_KIND_*``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# Bytes that follow the 12-byte head of a type: (fixed, per element of vlen).
_EXTRA = (
    (0, 0), (4, 0), (0, 0), (12, 0), (0, 12), (0, 12), (0, 8), (0, 0), (0, 0), (0, 0),
    (0, 0), (0, 0), (0, 0), (0, 8), (4, 0), (0, 12), (0, 0), (4, 0), (0, 0), (0, 12),
)  # fmt: skip
MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})


class _Lengths(dict[int, int]):
    """How many 32-bit words a type takes, by its info word; worked out once for each info word there is."""

    def __missing__(self, info: int) -> int:
        kind = info >> 24 & 0x1F
        if not 0 < kind < len(_EXTRA):
            raise ObjectError(f"of the unknown kind {kind}")
        fixed, each = _EXTRA[kind]
        length = self[info] = 3 + (fixed + each * (info & 0xFFFF)) // 4
        return length


class BtfType(NamedTuple):
    """One type. ``size_or_type`` is a size in bytes or a type id, as the kind has it; ``vlen`` counts its parts.

    ``kind_flag`` is the kind's extra bit: bitfield sizes in struct offsets, signedness of an enum, FWD of a union.
    """

    id: int
    kind: Kind
    name: str
    size_or_type: int
    vlen: int
    kind_flag: bool


class Member(NamedTuple):
    """A struct or union member. Offsets and sizes in bits; ``bitfield_size`` is 0 for an ordinary member."""

    name: str
    type_id: int
    bit_offset: int
    bitfield_size: int


class Integer(NamedTuple):
    """The encoding of an INT: size in bits, offset in bits, and what it means."""

    bits: int
    offset: int
    signed: bool
    char: bool
    boolean: bool


class Array(NamedTuple):
    """An ARRAY: the type of its elements, of its index, and how many there are."""

    type_id: int
    index_type_id: int
    count: int  # type: ignore[assignment]  # hides tuple.count(), which no one asks of a type


class SectionVar(NamedTuple):
    """A variable in a DATASEC: its VAR type, and where it lies, in bytes."""

    type_id: int
    offset: int
    size: int


class Param(NamedTuple):
    """A parameter of a FUNC_PROTO; its name may be empty."""

    name: str
    type_id: int


VOID = BtfType(0, Kind.VOID, "void", 0, 0, False)


class Btf:
    """Parsed BTF. Types are read when asked for; construction only finds where each one starts.

    ``base`` is the BTF a split BTF (of a kernel module) continues: its ids and strings come first.
    ``pointer_size`` (bytes) is that of BPF unless someone who knows better sets it.
    Raises ObjectError where header or types do not fit the bytes.
    """

    pointer_size = 8

    def __init__(self, data: bytes, base: "Btf | None" = None) -> None:
        if len(data) < _HEADER.size:
            raise ObjectError(f"BTF of {len(data)} bytes is too short for its header")
        magic, version, _, header_length, type_offset, type_length, str_offset, str_length = (
            _HEADER.unpack_from(data)
        )
        if magic != MAGIC:
            swapped = " (big-endian)" if magic == 0x9FEB else ""
            raise ObjectError(
                f"BTF has the magic number {magic:#06x} instead of {MAGIC:#06x}{swapped}"
            )
        if version != 1 or header_length < _HEADER.size:
            raise ObjectError(
                f"BTF version {version} with a header of {header_length} bytes is not known"
            )
        types_end = header_length + type_offset + type_length
        strings_end = header_length + str_offset + str_length
        if types_end > len(data) or strings_end > len(data):
            raise ObjectError("BTF is truncated: its sections end behind its data")
        self.data = data
        self.base = base
        self.strings = data[header_length + str_offset : strings_end]
        if not base and (not self.strings or self.strings[0]):
            raise ObjectError("BTF has no valid string section")
        self._first_id = base.count if base else 1
        self._first_string = base.string_size if base else 0
        self._begin: int = header_length + type_offset
        self._end: int = types_end
        self._starts = self._scan()
        self._names: bytes | None = None  # of each type: the offset of its name

    def _words(self) -> "array[int]":
        """The type section as numbers: reading one is many times cheaper than unpacking it."""
        if (self._end - self._begin) % 4:
            raise ObjectError("BTF is truncated: its last type is cut off")
        words = array("I", self.data[self._begin : self._end])
        if sys.byteorder == "big":
            words.byteswap()
        return words

    def _scan(self) -> list[int]:
        """Where each type begins, in words. The kernel has 130,000 types: every step in the loop counts."""
        words = self._words()
        starts: list[int] = []
        append, lengths = starts.append, _Lengths()
        position, end = 1, len(words)  # of the info word, the second of a type
        try:
            while position < end:
                append(position)
                position += lengths[words[position]]
        except ObjectError as error:
            number = self._first_id + len(starts) - 1
            raise ObjectError(f"BTF type {number} is {error.message}") from None
        if position - 1 != end:
            raise ObjectError("BTF is truncated: its last type is cut off")
        return starts

    # --- plain access ---

    @property
    def count(self) -> int:
        """One more than the highest type id."""
        return self._first_id + len(self._starts)

    @property
    def string_size(self) -> int:
        """The offset behind the last string, those of the base included."""
        return self._first_string + len(self.strings)

    def string(self, offset: int) -> str:
        """The string at an offset of the string section, its first 4096 bytes; ObjectError where there is none."""
        if self.base and offset < self._first_string:
            return self.base.string(offset)
        offset -= self._first_string
        if not 0 <= offset < len(self.strings):
            raise ObjectError(f"BTF names a string at offset {offset}, outside its string section")
        # Names have at most 511 bytes in the kernel; only lines of source code are longer. A hostile object
        # could otherwise give each of a million types a name of megabytes.
        limit = offset + MAX_STRING
        end = self.strings.find(b"\0", offset, limit)
        if end < 0 and limit >= len(self.strings):
            raise ObjectError(f"BTF has a string at offset {offset} without an end")
        return self.strings[offset : limit if end < 0 else end].decode(errors="backslashreplace")

    def offset_of(self, type_id: int) -> int:
        """Where in ``data`` a type of this BTF (not of its base) begins; ObjectError for an id that is not there."""
        index = type_id - self._first_id
        if not 0 <= index < len(self._starts):
            raise ObjectError(f"BTF has no type {type_id}")
        return self._begin + 4 * (self._starts[index] - 1)

    def type(self, type_id: int) -> BtfType:
        """The type with an id; ObjectError where there is none."""
        if type_id == 0:
            return VOID
        if self.base and type_id < self._first_id:
            return self.base.type(type_id)
        name, info, size = _TYPE.unpack_from(self.data, self.offset_of(type_id))
        return BtfType(
            type_id,
            Kind(info >> 24 & 0x1F),
            self.string(name),
            size,
            info & 0xFFFF,
            bool(info >> 31),
        )

    def types(self) -> Iterator[BtfType]:
        """Every type of this BTF, without those of its base."""
        return (self.type(number) for number in range(self._first_id, self.count))

    def of_kind(self, *kinds: Kind) -> list[BtfType]:
        """Every type of some kinds (of this BTF, not of its base): faster than looking at all of them."""
        words, wanted = self._words(), frozenset(kinds)
        found = (index for index, at in enumerate(self._starts) if words[at] >> 24 & 0x1F in wanted)
        return [self.type(self._first_id + index) for index in found]

    def _extra(self, type_id: int, layout: str, count: int) -> Iterator[tuple[int, ...]]:
        if self.base and type_id < self._first_id:
            yield from self.base._extra(type_id, layout, count)  # noqa: SLF001 - of the same class
            return
        record = struct.Struct("<" + layout)
        start = self.offset_of(type_id) + 12
        for index in range(count):
            yield record.unpack_from(self.data, start + index * record.size)

    # --- the parts of each kind ---

    def integer(self, kind: BtfType) -> Integer:
        """The encoding of an INT."""
        ((word,),) = self._extra(kind.id, "I", 1)
        encoding = word >> 24 & 0xF
        return Integer(
            word & 0xFF,
            word >> 16 & 0xFF,
            bool(encoding & 1),
            bool(encoding & 2),
            bool(encoding & 4),
        )

    def array(self, kind: BtfType) -> Array:
        """The shape of an ARRAY."""
        ((element, index, count),) = self._extra(kind.id, "III", 1)
        return Array(element, index, count)

    def members(self, kind: BtfType) -> list[Member]:
        """The members of a STRUCT or UNION, in order."""
        found = []
        for name, type_id, offset in self._extra(kind.id, "III", kind.vlen):
            bits, size = (offset & 0xFFFFFF, offset >> 24) if kind.kind_flag else (offset, 0)
            found.append(Member(self.string(name), type_id, bits, size))
        return found

    def enumerators(self, kind: BtfType) -> list[tuple[str, int]]:
        """Names and values of an ENUM or ENUM64, signed where ``kind_flag`` says so."""
        if kind.kind is Kind.ENUM:
            layout = "Ii" if kind.kind_flag else "II"
            return [
                (self.string(name), value)
                for name, value in self._extra(kind.id, layout, kind.vlen)
            ]
        found = []
        for name, low, high in self._extra(kind.id, "III", kind.vlen):
            value = high << 32 | low
            found.append(
                (self.string(name), value - (1 << 64) if kind.kind_flag and value >> 63 else value)
            )
        return found

    def params(self, kind: BtfType) -> list[Param]:
        """The parameters of a FUNC_PROTO, in order."""
        return [
            Param(self.string(name), type_id)
            for name, type_id in self._extra(kind.id, "II", kind.vlen)
        ]

    def section_vars(self, kind: BtfType) -> list[SectionVar]:
        """The variables of a DATASEC, by offset."""
        return [SectionVar(*entry) for entry in self._extra(kind.id, "III", kind.vlen)]

    def linkage(self, kind: BtfType) -> int:
        """Linkage of a VAR (0 static, 1 global, 2 extern) or a FUNC (the same, kept in vlen)."""
        if kind.kind is Kind.FUNC:
            return kind.vlen
        ((linkage,),) = self._extra(kind.id, "I", 1)
        return linkage

    def tag_component(self, kind: BtfType) -> int:
        """Which member or parameter a DECL_TAG is about; -1 for the type itself."""
        ((component,),) = self._extra(kind.id, "i", 1)
        return component

    # --- questions asked everywhere ---

    def resolve(self, type_id: int) -> BtfType:
        """The type behind typedefs and qualifiers; ObjectError for a loop."""
        for _ in range(MAX_DEPTH):
            found = self.type(type_id)
            if found.kind not in MODIFIERS:
                return found
            type_id = found.size_or_type
        raise ObjectError(f"BTF type {type_id} refers to itself")

    def size(self, type_id: int) -> int:
        """Size in bytes; ObjectError for what has none (functions, forward declarations) and for loops."""
        count = 1
        for _ in range(MAX_DEPTH):
            found = self.resolve(type_id)
            if found.kind is Kind.ARRAY:
                shape = self.array(found)
                count *= shape.count
                type_id = shape.type_id
            elif found.kind is Kind.VAR:
                type_id = found.size_or_type
            elif found.kind is Kind.PTR:
                return self.pointer_size * count
            elif found.kind in (Kind.FUNC, Kind.FUNC_PROTO, Kind.FWD, Kind.VOID, Kind.DECL_TAG):
                raise ObjectError(
                    f"BTF type {type_id} ({found.kind.name} {found.name!r}) has no size"
                )
            else:
                return found.size_or_type * count
        raise ObjectError(f"BTF type {type_id} refers to itself")

    def find(self, name: str, *kinds: Kind) -> list[BtfType]:
        """All types of a name (of this BTF, not of its base), only of ``kinds`` where any are given."""
        found = [self.type(number) for number in self.named(self.name_offsets(name))]
        return [one for one in found if not kinds or one.kind in kinds]

    def name_offsets(self, name: str, *, flavors: bool = False) -> list[int]:
        """Where in the string sections, the base's included, a name stands; ``flavors``: and any ``name___...``."""
        raw = name.encode(errors="backslashreplace")
        if not raw:
            return []
        found = self.base.name_offsets(name, flavors=flavors) if self.base else []
        if flavors:
            matches = re.finditer(re.escape(raw) + rb"(?:\0|___)", self.strings)
            return found + [self._first_string + match.start() for match in matches]
        position = self.strings.find(raw + b"\0")
        while position >= 0:
            found.append(self._first_string + position)
            position = self.strings.find(raw + b"\0", position + 1)
        return found

    def named(self, offsets: Collection[int]) -> list[int]:
        """Ids, in order, of the types (of this BTF, not of its base) whose name stands at one of ``offsets``."""
        if self._names is None:
            words = self._words()
            words.insert(
                0, 0
            )  # so that the number of a type's info word finds the word before it, the name
            # One call for all is twice as fast as a loop; the zeros make it a tuple however few there are.
            names = itemgetter(0, 0, *self._starts)(words)
            self._names = array("I", names).tobytes()[8:]
        if len(offsets) > _FEW:
            wanted = frozenset(offsets)
            names = memoryview(self._names).cast("I")
            return [self._first_id + index for index, name in enumerate(names) if name in wanted]
        found = []
        for offset in offsets:
            pattern = offset.to_bytes(4, sys.byteorder)
            position = self._names.find(pattern)
            while position >= 0:
                if position % 4 == 0:
                    found.append(self._first_id + position // 4)
                position = self._names.find(pattern, position + 1)
        return sorted(found)

    def tags(self, type_id: int, component: int = -1) -> list[str]:
        """The texts of ``btf_decl_tag`` attributes on a type, or on one of its members."""
        return [
            one.name
            for one in self.types()
            if one.kind is Kind.DECL_TAG
            and one.size_or_type == type_id
            and self.tag_component(one) == component
        ]
