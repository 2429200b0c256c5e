"""Writing BTF (Documentation/bpf/btf.rst): new types, and types copied from other BTF with all they refer to."""

import struct
import sys

from netbpf.bpf.btf.types import MAGIC, Btf, BtfType, Kind

_ORDER = "<" if sys.byteorder == "little" else ">"
_HEADER = struct.Struct(_ORDER + "HBBIIIII")
# .BTF.ext without CO-RE: header of 24 bytes (include/linux/btf.h: struct btf_ext_header).
_EXT_HEADER = struct.Struct(_ORDER + "HBBIIIII")
_FUNC_INFO_SIZE = 8
# Kinds whose `size_or_type` is a type: for FUNC_PROTO that of the result.
_TYPE_IN_SIZE = frozenset({
    Kind.PTR, Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.FUNC, Kind.FUNC_PROTO, Kind.VAR,
    Kind.TYPE_TAG, Kind.DECL_TAG,
})  # fmt: skip
LINKAGE_GLOBAL = 1


def _words(*values: int) -> bytes:
    return struct.pack(f"{_ORDER}{len(values)}I", *(value & 0xFFFFFFFF for value in values))


class BtfWriter:
    """Collects types; ids count from 1 in the order of adding."""

    def __init__(self) -> None:
        self._types: list[bytes] = []
        self._strings = bytearray(b"\0")
        self._offsets = {"": 0}
        self._copied: dict[int, int] = {0: 0}
        self._integer = 0

    # --- new types ---

    def text(self, string: str) -> int:
        """The offset of a string in the string section, added where it is new."""
        offset = self._offsets.get(string)
        if offset is None:
            offset = self._offsets[string] = len(self._strings)
            self._strings += string.encode(errors="surrogateescape") + b"\0"
        return offset

    def _add(self, kind: Kind, name: str, vlen: int, size_or_type: int, extra: bytes = b"") -> int:
        self._types.append(_words(self.text(name), kind << 24 | vlen, size_or_type) + extra)
        return len(self._types)

    def int32(self) -> int:
        """The id of ``int``, which arrays need as their index type."""
        if not self._integer:
            self._integer = self._add(Kind.INT, "int", 0, 4, _words(1 << 24 | 32))
        return self._integer

    def pointer(self, target: int) -> int:
        """``target *``."""
        return self._add(Kind.PTR, "", 0, target)

    def array(self, element: int, count: int) -> int:
        """``element[count]``."""
        return self._add(Kind.ARRAY, "", 0, 0, _words(element, self.int32(), count))

    def struct(self, name: str, members: list[tuple[str, int, int]], size: int) -> int:
        """A struct of ``size`` bytes; its members are (name, type id, offset in bytes)."""
        extra = b"".join(
            _words(self.text(member), kind, offset * 8) for member, kind, offset in members
        )
        return self._add(Kind.STRUCT, name, len(members), size, extra)

    def variable(self, name: str, type_id: int) -> int:
        """A global variable."""
        return self._add(Kind.VAR, name, 0, type_id, _words(LINKAGE_GLOBAL))

    def data_section(self, name: str, variables: list[tuple[int, int, int]], size: int) -> int:
        """A section of ``size`` bytes; its variables are (VAR id, offset, size), both in bytes."""
        extra = b"".join(_words(*variable) for variable in variables)
        return self._add(Kind.DATASEC, name, len(variables), size, extra)

    # --- types of other BTF ---

    def copy(self, source: Btf, type_id: int) -> int:
        """The id here of a type of ``source``, copied with everything it refers to.

        Types may refer to each other in circles, so ids are given out before anything is written. One writer
        copies from one source only. Raises ObjectError where ``source`` is malformed.
        """
        pending = [type_id]
        added = []
        while pending:
            current = pending.pop()
            if current in self._copied:
                continue
            found = source.type(current)
            self._types.append(b"")
            self._copied[current] = len(self._types)
            added.append(found)
            pending += _references(source, found)
        for found in added:
            self._types[self._copied[found.id] - 1] = self._rewritten(source, found)
        return self._copied[type_id]

    def _rewritten(self, source: Btf, found: BtfType) -> bytes:
        new = self._copied
        position = source.offset_of(found.id)
        info = struct.unpack_from(_ORDER + "I", source.data, position + 4)[0]
        target = new[found.size_or_type] if found.kind in _TYPE_IN_SIZE else found.size_or_type
        head = _words(self.text(found.name), info, target)
        match found.kind:
            case Kind.ARRAY:
                shape = source.array(found)
                return head + _words(new[shape.type_id], new[shape.index_type_id], shape.count)
            case Kind.STRUCT | Kind.UNION:
                parts = source.members(found)
                return head + b"".join(
                    _words(self.text(m.name), new[m.type_id], m.bitfield_size << 24 | m.bit_offset)
                    for m in parts
                )
            case Kind.FUNC_PROTO:
                return head + b"".join(
                    _words(self.text(p.name), new[p.type_id]) for p in source.params(found)
                )
            case Kind.ENUM:
                return head + b"".join(
                    _words(self.text(n), value) for n, value in source.enumerators(found)
                )
            case Kind.ENUM64:
                values = source.enumerators(found)
                return head + b"".join(
                    _words(self.text(n), value, value >> 32) for n, value in values
                )
            case Kind.INT | Kind.VAR | Kind.DECL_TAG:
                return head + source.data[position + 12 : position + 16]
            case _:
                return head

    # --- the sections ---

    def build(self) -> bytes:
        """The content of ``.BTF``."""
        types = b"".join(self._types)
        header = _HEADER.pack(
            MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(self._strings)
        )
        return header + types + bytes(self._strings)

    def build_ext(self, functions: dict[str, list[tuple[int, int]]]) -> bytes:
        """The content of ``.BTF.ext``: per section the functions in it as (offset in bytes, id of the FUNC type).

        Must come before ``build``, since it adds the sections' names to the strings.
        """
        # A part without records must have no bytes at all, not even the size of a record: libbpf refuses it.
        info = bytearray(_words(_FUNC_INFO_SIZE) if functions else b"")
        for section, records in functions.items():
            info += _words(self.text(section), len(records))
            info += b"".join(_words(*record) for record in records)
        header = _EXT_HEADER.pack(MAGIC, 1, 0, _EXT_HEADER.size, 0, len(info), len(info), 0)
        return bytes(header + info)


def _references(source: Btf, found: BtfType) -> list[int]:
    own = [found.size_or_type] if found.kind in _TYPE_IN_SIZE else []
    match found.kind:
        case Kind.ARRAY:
            shape = source.array(found)
            return [shape.type_id, shape.index_type_id]
        case Kind.STRUCT | Kind.UNION:
            return [member.type_id for member in source.members(found)]
        case Kind.FUNC_PROTO:
            return own + [param.type_id for param in source.params(found)]
        case _:
            return own
