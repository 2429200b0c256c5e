"""Writing BTF (Documentation/bpf/btf.rst): types one after the other, then the bytes.

Types are added by one method per kind; each returns the id of the new type. Ids count up from 1,
so a type may refer to one that comes later through ``next_id``. What the kernel would refuse is not
checked here, except what cannot be written at all: that is an ObjectError.

>>> builder = Builder()
>>> u32 = builder.integer("unsigned int", 4)
>>> key = builder.record("key", [("addr", u32), ("ports", builder.array(u32, 2))])
>>> btf = builder.build()
>>> btf.size(key)
12
"""

import struct
from collections.abc import Iterable, Sequence

from netbpf.bpf.btf.types import MAGIC, Btf, Kind, Member, Param, SectionVar
from netbpf.errors import ObjectError

_HEADER = struct.Struct("<HBBIIIII")
STATIC, GLOBAL, EXTERN = 0, 1, 2  # BTF_VAR_* and BTF_FUNC_* linkage
_MAX_VLEN = 0xFFFF


class Builder:
    """BTF under construction.

    ``start`` is BTF to continue (not a split one): its types keep their ids, new ones follow.
    ``record`` and ``array`` know the size and alignment of types added here; of those in ``start``
    they know the size, and take its largest power of two, up to 8, as the alignment.
    """

    def __init__(self, start: Btf | None = None) -> None:
        self._types = bytearray()
        self._strings = bytearray(b"\0")
        self._string_offsets = {"": 0}
        self._next_id = 1
        self._alignment: dict[int, tuple[int, int]] = {}
        self._index_type = 0
        self._start = start
        if start is not None:
            if start.base is not None:
                raise ObjectError("split BTF cannot be continued")
            header = _HEADER.unpack_from(start.data)
            begin = header[3] + header[4]
            self._types += start.data[begin : begin + header[5]]
            self._strings = bytearray(start.strings)
            self._next_id = start.count

    @property
    def next_id(self) -> int:
        """The id the next type will get."""
        return self._next_id

    # --- plumbing ---

    def string(self, text: str) -> int:
        """The offset of a string in the string section, added if need be; without NUL."""
        if text not in self._string_offsets:
            raw = text.encode()
            if 0 in raw:
                raise ObjectError("a BTF string cannot hold a NUL character")
            self._string_offsets[text] = len(self._strings)
            self._strings += raw + b"\0"
        return self._string_offsets[text]

    def append_strings(self, section: bytes) -> int:
        """Add a whole string section at once: where it begins; what was at offset n of it is at n from there."""
        self._strings += section
        return len(self._strings) - len(section)

    def add(
        self,
        kind: Kind,
        name: str = "",
        size_or_type: int = 0,
        vlen: int = 0,
        *,
        flag: bool = False,
        rest: bytes = b"",
    ) -> int:
        """A type of any kind from its parts, ``rest`` being what follows its 12-byte head."""
        if vlen > _MAX_VLEN:
            raise ObjectError(f"{kind.name} {name!r} has {vlen} parts; BTF can hold {_MAX_VLEN}")
        if not 0 <= size_or_type <= 0xFFFFFFFF:
            raise ObjectError(f"{kind.name} {name!r}: {size_or_type} does not fit BTF's 32 bits")
        info = int(flag) << 31 | kind << 24 | vlen
        self._types += struct.pack("<III", self.string(name), info, size_or_type) + rest
        self._next_id += 1
        return self._next_id - 1

    def _size_and_alignment(self, type_id: int) -> tuple[int, int]:
        known = self._alignment.get(type_id)
        if known is None and self._start is not None and type_id < self._start.count:
            size = self._start.size(type_id)
            known = size, min(8, size & -size) or 1
        if known is None:
            raise ObjectError(f"BTF type {type_id} has no size that is known here")
        return known

    def _sized(self, type_id: int, size: int, alignment: int) -> int:
        self._alignment[type_id] = size, max(1, alignment)
        return type_id

    def _reference(self, kind: Kind, name: str, target: int) -> int:
        made = self.add(kind, name, target)
        if target in self._alignment:
            self._alignment[made] = self._alignment[target]
        return made

    # --- values ---

    def integer(
        self,
        name: str,
        size: int,
        *,
        signed: bool = False,
        char: bool = False,
        boolean: bool = False,
        bits: int | None = None,
        offset: int = 0,
    ) -> int:
        """An integer of ``size`` bytes.

        ``bits`` and ``offset`` are only for bitfields in the encoding from before Linux 5.0.
        """
        width = size * 8 if bits is None else bits
        encoding = int(signed) | int(char) << 1 | int(boolean) << 2
        word = struct.pack("<I", encoding << 24 | offset << 16 | width)
        return self._sized(self.add(Kind.INT, name, size, rest=word), size, min(size, 16))

    def floating(self, name: str, size: int) -> int:
        """A FLOAT of ``size`` bytes."""
        return self._sized(self.add(Kind.FLOAT, name, size), size, min(size, 8))

    def ptr(self, target: int) -> int:
        """A pointer to a type; 0 for ``void *``."""
        return self._sized(self.add(Kind.PTR, "", target), 8, 8)

    def array(self, element: int, count: int) -> int:
        """``count`` elements; 0 makes a flexible array."""
        if not self._index_type:
            self._index_type = self.integer("__ARRAY_SIZE_TYPE__", 4)
        made = self.add(Kind.ARRAY, rest=struct.pack("<III", element, self._index_type, count))
        if element in self._alignment or (self._start is not None and element < self._start.count):
            size, alignment = self._size_and_alignment(element)
            self._sized(made, size * count, alignment)
        return made

    def _composite(self, kind: Kind, name: str, size: int, members: Sequence[Member]) -> int:
        flag = any(member.bitfield_size for member in members)
        rest = bytearray()
        for member in members:
            offset = member.bit_offset
            if flag:
                if offset > 0xFFFFFF:
                    raise ObjectError(f"struct {name!r} is too large for bitfields")
                offset |= member.bitfield_size << 24
            rest += struct.pack("<III", self.string(member.name), member.type_id, offset)
        made = self.add(kind, name, size, len(members), flag=flag, rest=bytes(rest))
        known = [
            self._alignment[one.type_id][1] for one in members if one.type_id in self._alignment
        ]
        return self._sized(made, size, max(known, default=1))

    def struct(self, name: str, size: int, members: Sequence[Member]) -> int:
        """A struct whose members have their places; ``Member`` offsets are in bits."""
        return self._composite(Kind.STRUCT, name, size, members)

    def union(self, name: str, size: int, members: Sequence[Member]) -> int:
        """A union whose members have their places, in bits; most are at 0."""
        return self._composite(Kind.UNION, name, size, members)

    def record(self, name: str, members: Iterable[tuple[str, int]]) -> int:
        """A struct of (name, type id) pairs, laid out as C does."""
        placed, position, widest = [], 0, 1
        for member, type_id in members:
            size, alignment = self._size_and_alignment(type_id)
            position += -position % alignment
            placed.append(Member(member, type_id, position * 8, 0))
            position += size
            widest = max(widest, alignment)
        return self._sized(
            self.struct(name, position + -position % widest, placed),
            position + -position % widest,
            widest,
        )

    def enum(
        self,
        name: str,
        values: Iterable[tuple[str, int]],
        *,
        size: int = 4,
        signed: bool | None = None,
    ) -> int:
        """An enum of 32 bits; ``signed`` None: where a value is negative.

        Raises ObjectError for a value that does not fit.
        """
        pairs = list(values)
        flag = any(value < 0 for _, value in pairs) if signed is None else signed
        rest = bytearray()
        for label, value in pairs:
            if not -(1 << 31) <= value < 1 << 32:
                raise ObjectError(f"enumerator {label!r} = {value} does not fit 32 bits")
            rest += struct.pack("<II", self.string(label), value & 0xFFFFFFFF)
        return self._sized(
            self.add(Kind.ENUM, name, size, len(pairs), flag=flag, rest=bytes(rest)), size, size
        )

    def enum64(
        self,
        name: str,
        values: Iterable[tuple[str, int]],
        *,
        size: int = 8,
        signed: bool | None = None,
    ) -> int:
        """An enum of 64 bits (Linux 6.0); else as ``enum``."""
        pairs = list(values)
        flag = any(value < 0 for _, value in pairs) if signed is None else signed
        rest = bytearray()
        for label, value in pairs:
            if not -(1 << 63) <= value < 1 << 64:
                raise ObjectError(f"enumerator {label!r} = {value} does not fit 64 bits")
            rest += struct.pack("<IQ", self.string(label), value & 0xFFFFFFFFFFFFFFFF)
        return self._sized(
            self.add(Kind.ENUM64, name, size, len(pairs), flag=flag, rest=bytes(rest)), size, size
        )

    # --- names and qualifiers ---

    def fwd(self, name: str, *, union: bool = False) -> int:
        """A struct or union that is only declared."""
        return self.add(Kind.FWD, name, flag=union)

    def typedef(self, name: str, target: int) -> int:
        """Another name for a type."""
        return self._reference(Kind.TYPEDEF, name, target)

    def volatile(self, target: int) -> int:
        """The type, volatile."""
        return self._reference(Kind.VOLATILE, "", target)

    def const(self, target: int) -> int:
        """The type, const."""
        return self._reference(Kind.CONST, "", target)

    def restrict(self, target: int) -> int:
        """The type, restrict."""
        return self._reference(Kind.RESTRICT, "", target)

    def type_tag(self, text: str, target: int) -> int:
        """The type with a ``btf_type_tag`` (Linux 5.17)."""
        return self._reference(Kind.TYPE_TAG, text, target)

    def decl_tag(self, text: str, target: int, component: int = -1) -> int:
        """A note on a type, or on its member or parameter of that number."""
        return self.add(Kind.DECL_TAG, text, target, rest=struct.pack("<i", component))

    # --- functions and variables ---

    def func_proto(self, returns: int, params: Sequence[Param] = ()) -> int:
        """The signature of a function: what it returns (0 for void) and takes."""
        rest = b"".join(struct.pack("<II", self.string(one.name), one.type_id) for one in params)
        return self.add(Kind.FUNC_PROTO, "", returns, len(params), rest=rest)

    def func(self, name: str, proto: int, linkage: int = STATIC) -> int:
        """A function of some signature."""
        return self.add(Kind.FUNC, name, proto, linkage)

    def var(self, name: str, type_id: int, linkage: int = GLOBAL) -> int:
        """A variable; ``datasec`` gives it a place."""
        return self.add(Kind.VAR, name, type_id, rest=struct.pack("<I", linkage))

    def datasec(self, name: str, size: int, variables: Sequence[SectionVar]) -> int:
        """A section of ``size`` bytes; its variables in order of their offsets."""
        rest = b"".join(struct.pack("<III", *one) for one in variables)
        return self.add(Kind.DATASEC, name, size, len(variables), rest=rest)

    # --- the result ---

    def to_bytes(self) -> bytes:
        """The whole BTF, as the kernel and the ``.BTF`` section take it."""
        types, strings = bytes(self._types), bytes(self._strings)
        return (
            _HEADER.pack(MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(strings))
            + types
            + strings
        )

    def build(self) -> Btf:
        """The same, parsed."""
        return Btf(self.to_bytes())
