"""Copying types from one BTF into another, with everything they refer to."""

import struct

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.errors import ObjectError

# Kinds whose `size_or_type` is a type: for FUNC_PROTO that of the result.
_TYPE_IN_SIZE = frozenset({
    Kind.PTR, Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.FUNC, Kind.FUNC_PROTO, Kind.VAR,
    Kind.TYPE_TAG, Kind.DECL_TAG,
})  # fmt: skip


class Copier:
    """Copies types of ``source`` into ``builder``, each once."""

    def __init__(self, builder: Builder, source: Btf) -> None:
        self.builder, self.source = builder, source
        self._copied: dict[int, int] = {0: 0}

    def copy(self, type_id: int) -> int:
        """The id in the builder of a type of the source.

        Types may refer to each other in circles, so ids are given out before anything is written. Raises ObjectError
        where the source is malformed, and for sections (DATASEC), whose offsets mean nothing elsewhere.
        """
        added: list[BtfType] = []
        pending = [type_id]
        first = self.builder.next_id
        while pending:
            current = pending.pop()
            if current in self._copied:
                continue
            found = self.source.type(current)
            self._copied[current] = first + len(added)
            added.append(found)
            pending += self._references(found)
        for found in added:
            self._write(found)
        return self._copied[type_id]

    def _references(self, found: BtfType) -> list[int]:
        own = [found.size_or_type] if found.kind in _TYPE_IN_SIZE else []
        match found.kind:
            case Kind.ARRAY:
                shape = self.source.array(found)
                return [shape.type_id, shape.index_type_id]
            case Kind.STRUCT | Kind.UNION:
                return [member.type_id for member in self.source.members(found)]
            case Kind.FUNC_PROTO:
                return own + [param.type_id for param in self.source.params(found)]
            case Kind.DATASEC:
                raise ObjectError(f"section {found.name} cannot be copied from one BTF to another")
            case _:
                return own

    def _write(self, found: BtfType) -> None:
        target = (
            self._copied[found.size_or_type] if found.kind in _TYPE_IN_SIZE else found.size_or_type
        )
        self.builder.add(
            found.kind, found.name, target, found.vlen, flag=found.kind_flag, rest=self._rest(found)
        )

    def _rest(self, found: BtfType) -> bytes:
        """What follows the head, with names and ids as they are in the builder."""
        source, new, string = self.source, self._copied, self.builder.string
        match found.kind:
            case Kind.ARRAY:
                shape = source.array(found)
                return _words(new[shape.type_id], new[shape.index_type_id], shape.count)
            case Kind.STRUCT | Kind.UNION:
                return b"".join(
                    _words(string(m.name), new[m.type_id], m.bitfield_size << 24 | m.bit_offset)
                    for m in source.members(found)
                )
            case Kind.FUNC_PROTO:
                return b"".join(
                    _words(string(p.name), new[p.type_id]) for p in source.params(found)
                )
            case Kind.ENUM:
                return b"".join(_words(string(n), value) for n, value in source.enumerators(found))
            case Kind.ENUM64:
                return b"".join(
                    _words(string(n), value, value >> 32) for n, value in source.enumerators(found)
                )
            case Kind.INT | Kind.VAR | Kind.DECL_TAG:
                start = source.offset_of(found.id) + 12
                return source.data[start : start + 4]
            case _:
                return b""


def _words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))
