"""How a struct has to be written in C so that the compiler lays it out as its BTF says.

BTF has offsets and sizes, and neither alignments nor gaps. The rules are those of the System V ABI as clang applies
them for BPF: a bitfield does not cross a boundary of its type, gaps are unnamed bitfields, and what no alignment
explains is packed.
"""

from typing import Final, NamedTuple

from netbpf.bpf.btf.types import MAX_DEPTH, Btf, BtfType, Kind, Member
from netbpf.errors import ObjectError

_WORD: Final = 64  # bits of the unnamed fields that fill gaps
_LARGEST_GAP: Final = 8 << 16  # bits; a hostile BTF may have one of gigabytes
_MODIFIERS: Final = frozenset(
    {Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG, Kind.VAR}
)


class Field(NamedTuple):
    """A member with what stands before it: ``gap`` are the widths, in bits, of unnamed bitfields."""

    member: Member
    gap: tuple[int, ...] = ()


class Plan(NamedTuple):
    """A struct or union as C is to have it. ``tail`` are unnamed bitfields behind the members.

    ``aligned`` is an alignment in bytes to be asked for, 0 for none; ``fields`` is None where no C has such a layout.
    """

    fields: tuple[Field, ...] | None
    packed: bool = False
    tail: tuple[int, ...] = ()
    alignment: int = 1
    aligned: int = 0


class Layouts:
    """The layouts of one BTF, each worked out once."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self._plans: dict[int, Plan] = {}
        self._measures: dict[int, tuple[int, int]] = {}

    def measure(self, type_id: int, depth: int = 0) -> tuple[int, int]:
        """Size and alignment of a type in bytes, as it will be written. ObjectError for what has no size."""
        found = self._measures.get(type_id)
        if found is None:
            if depth > MAX_DEPTH:
                raise ObjectError(f"BTF type {type_id} contains itself")
            found = self._measures[type_id] = self._measured(type_id, depth + 1)
        return found

    def _measured(self, type_id: int, depth: int) -> tuple[int, int]:
        one = self._btf.type(type_id)
        kind = one.kind
        if kind is Kind.PTR:
            return self._btf.pointer_size, self._btf.pointer_size
        if kind in (Kind.STRUCT, Kind.UNION):
            return one.size_or_type, self.plan(one, depth).alignment
        if kind is Kind.ARRAY:
            shape = self._btf.array(one)
            size, alignment = self.measure(shape.type_id, depth)
            return size * shape.count, alignment
        if kind in _MODIFIERS:
            return self.measure(one.size_or_type, depth)
        if kind in (Kind.INT, Kind.FLOAT, Kind.ENUM, Kind.ENUM64):
            return one.size_or_type, max(one.size_or_type, 1)
        raise ObjectError(f"BTF type {type_id} ({kind.name}) has no size")

    def plan(self, one: BtfType, depth: int = 0) -> Plan:
        """How to write a struct or union."""
        found = self._plans.get(one.id)
        if found is None:
            if depth > MAX_DEPTH:
                raise ObjectError(f"BTF type {one.id} contains itself")
            members = [self._plain(each) for each in self._btf.members(one)]
            if one.kind is Kind.UNION:
                found = self._union(members, one.size_or_type, depth)
            else:
                found = (
                    self._struct(members, one.size_or_type, depth, packed=False)
                    or self._struct(members, one.size_or_type, depth, packed=True)
                    or Plan(None)
                )
            self._plans[one.id] = found
        return found

    def _plain(self, member: Member) -> Member:
        """Bitfields as ``kind_flag`` has them: before Linux 5.0 integers had a size in bits instead."""
        if member.bitfield_size:
            return member
        one = self._btf.type(member.type_id)
        for _ in range(MAX_DEPTH):
            if one.kind not in _MODIFIERS:
                break
            one = self._btf.type(one.size_or_type)
        if one.kind is not Kind.INT:
            return member
        shape = self._btf.integer(one)
        if shape.bits == one.size_or_type * 8:
            return member
        offset = member.bit_offset + shape.offset
        return member._replace(bit_offset=offset, bitfield_size=shape.bits)

    def _struct(self, members: list[Member], size: int, depth: int, *, packed: bool) -> Plan | None:
        position, alignment = 0, 1
        fields = []
        for member in members:
            length, own = self.measure(member.type_id, depth)
            at, width = member.bit_offset, member.bitfield_size
            own = 1 if packed else own
            step = 8 * (length if width else own)  # what the member may not cross, or begins at
            if width:
                crosses = not packed and _crosses(position, width, step)
                natural = _up(position, step) if crosses else position
                if width > 8 * length or (not packed and _crosses(at, width, step)):
                    return None
            else:
                natural = _up(position, step)
                if at % step:
                    return None
            if not 0 <= at - position <= _LARGEST_GAP:
                return None
            fields.append(Field(member, () if natural == at else _fill(position, at)))
            position = at + (width or length * 8)
            alignment = max(alignment, own)
        if size % alignment or not 0 <= size * 8 - position <= _LARGEST_GAP:
            return None
        tail = () if _up(position, alignment * 8) == size * 8 else _fill(position, size * 8)
        return Plan(tuple(fields), packed, tail, alignment)

    def _union(self, members: list[Member], size: int, depth: int) -> Plan:
        measures = [self.measure(member.type_id, depth) for member in members]
        alignment = max((own for _, own in measures), default=1)
        longest = max(
            (member.bitfield_size + 7 >> 3 if member.bitfield_size else length
             for member, (length, _) in zip(members, measures, strict=True)),
            default=0,
        )  # fmt: skip
        if longest > size or any(member.bit_offset for member in members):
            return Plan(None)
        packed = bool(size % alignment)
        alignment = 1 if packed else alignment
        fields = tuple(map(Field, members))
        if _up(longest, alignment) == size:
            return Plan(fields, packed, (), alignment)
        # An unnamed bitfield of a union begins at 0, so only an alignment makes it larger than its members.
        wanted = alignment
        while wanted < size and _up(longest, wanted) != size:
            wanted *= 2
        if _up(longest, wanted) != size:
            return Plan(None)
        return Plan(fields, packed, (), wanted, wanted)


def _up(position: int, step: int) -> int:
    return -(-position // step) * step


def _crosses(position: int, width: int, step: int) -> bool:
    return position // step != (position + width - 1) // step


def _fill(start: int, end: int) -> tuple[int, ...]:
    """Widths of fields of 64 bits that lead from one bit to another without crossing a boundary."""
    found = []
    while start < end:
        width = min(end - start, _WORD - start % _WORD)
        found.append(width)
        start += width
    return tuple(found)
