"""What the old program gained since its values were copied, as changes to the values of the new one.

For each part there are three values: B when it was copied, F that the old program left, N that the new one has now.
F as B: nothing to do. N as B: F is taken. Both have grown: what the old one gained is added. Else the new program's
value stays, and it is said.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from netbpf.bpf.btf.values import Buffer
from netbpf.carry.adder import Edit, How, operand
from netbpf.carry.ops import Meaning, Op, Place
from netbpf.text import escape

_SHOWN = 3
_PIECE = 1024  # bytes


class Times(NamedTuple):
    """What the clocks of the kernel's helpers showed around an upgrade, in ns: (from, to) each.

    A number that both programs have set to a time within is a time, and no counter: the later one stands.
    """

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def now(cls) -> tuple[int, ...]:
        """CLOCK_MONOTONIC (bpf_ktime_get_ns), CLOCK_BOOTTIME (.._boot_ns), CLOCK_REALTIME, CLOCK_TAI (.._tai_ns)."""
        clocks = (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_REALTIME, time.CLOCK_TAI)
        return tuple(map(time.clock_gettime_ns, clocks))

    @classmethod
    def since(cls, start: tuple[int, ...]) -> "Times":
        """From then until now."""
        return cls(tuple(zip(start, cls.now(), strict=True)))

    def are(self, *values: int) -> bool:
        """Whether all values are times of one of the clocks."""
        return any(all(low <= one <= high for one in values) for low, high in self.spans)


class Gain(NamedTuple):
    """One change to make, with what it needs to know."""

    edit: Edit
    operand: bytes


@dataclass(slots=True)
class Gains:
    """The changes to one value, the parts that both programs wrote, and those that do not fit any more."""

    found: list[Gain] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    outgrown: list[str] = field(default_factory=list)


def add_gains(
    made: Gains, ops: Sequence[Op], before: Buffer, after: Buffer, now: Buffer, times: Times
) -> None:
    """Add to ``made`` what to change in a value that is ``now``, where the old one went ``before`` to ``after``."""
    for one in ops:
        for place in one.changed(before, after):
            if one.number:
                _number(one, place, before, after, now, times, made)
            else:
                _bytes(one, place, before, after, now, made)


def _number(
    one: Op, place: Place, before: Buffer, after: Buffer, now: Buffer, times: Times, made: Gains
) -> None:
    was, left = one.read_old(before, place.old), one.read_old(after, place.old)
    there = one.read_new(now, place.new)
    if one.new_width < one.old_width and not one.fits(left):
        made.outgrown.append(one.called(place.indexes))
        return
    if one.meaning is not Meaning.COUNT:
        if there != was:
            made.conflicts.append(one.called(place.indexes))
        else:
            made.found.append(_swap(one, place.new, was, left))
        return
    edit = Edit(How.ADD, place.new, one.new_size)
    if there == was:
        made.found.append(Gain(edit, operand(edit, left - was)))
        return
    if one.new_size == 8 and times.are(left, there):
        edit = edit._replace(how=How.LATER)
        made.found.append(Gain(edit, operand(edit, left)))
        return
    gained, counted = _grown(left - was, one.old_width), _grown(there - was, one.new_width)
    if gained and counted:
        made.found.append(Gain(edit, operand(edit, gained)))
    else:
        made.conflicts.append(one.called(place.indexes))


def _grown(difference: int, bits: int) -> int:
    """By how much a counter grew, which may have wrapped; 0 where it went down."""
    wrapped = difference & ((1 << bits) - 1)
    return wrapped if wrapped >> (bits - 1) == 0 else 0


def _swap(one: Op, offset: int, was: int, left: int) -> Gain:
    mask = b""
    if one.new_bits:
        mask = (((1 << one.new_bits) - 1) << one.new_bit).to_bytes(one.new_size, "little")
        before, after = bytearray(one.new_size), bytearray(one.new_size)
        one.write_new(before, 0, was)
        one.write_new(after, 0, left)
    else:
        before, after = bytearray(one.encode(was)), bytearray(one.encode(left))
    edit = Edit(How.SWAP, offset, one.new_size, mask)
    return Gain(edit, operand(edit, bytes(after), bytes(before)))


def _bytes(one: Op, place: Place, before: Buffer, after: Buffer, now: Buffer, made: Gains) -> None:
    was, left = (bytes(data[place.old : place.old + one.old_size]) for data in (before, after))
    if bytes(now[place.new : place.new + one.old_size]) != was:
        made.conflicts.append(one.called(place.indexes))
        return
    # Long text goes in pieces: a program's jumps and offsets have 16 bits.
    for at in range(0, one.old_size, _PIECE):
        size = min(_PIECE, one.old_size - at)
        edit = Edit(How.SWAP, place.new + at, size)
        made.found.append(Gain(edit, operand(edit, left[at : at + size], was[at : at + size])))


def told(name: str, made: Gains) -> tuple[str, ...]:
    """What to say of parts of a map, or section, that could not be merged."""
    return tuple(
        f"{name}: {_listed(names)} {why}"
        for names, why in (
            (
                made.conflicts,
                "changed in both programs at the same time; what the new one wrote stays",
            ),
            (made.outgrown, "has outgrown the new type meanwhile; what was copied stays"),
        )
        if names
    )


def _listed(names: Sequence[str]) -> str:
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(escape(one) for one in each[:_SHOWN]) + more
