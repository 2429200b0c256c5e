"""The smallest parts of a value that move from one layout to another, each with its place in both."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

from netbpf.bpf.btf.values import Buffer


class Meaning(Enum):
    """What is to be done where two programs wrote the same part.

    COUNT: a whole integer of 4 or 8 bytes, the widths in which BPF counts atomically: both gains are added.
    WORTH: everything else has a value, which the program that wrote last has set.
    """

    COUNT = auto()
    WORTH = auto()


class Repeat(NamedTuple):
    """Elements of an array: how many, and bytes from one to the next in the old and in the new layout."""

    length: int
    old_step: int
    new_step: int


class Place(NamedTuple):
    """Where one part lies in the old and in the new value, in bytes; ``indexes`` are those in arrays."""

    old: int
    new: int
    indexes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Op:
    """A part: a number, or bytes as they are (``number`` false).

    Sizes in bytes. Bitfields have ``old_bits`` and ``new_bits``, and begin at bit ``old_bit`` and ``new_bit`` of the
    bytes at their place. ``big`` is network byte order. ``repeats`` go from the outermost array inward. ``name`` has
    ``[]`` for each of them.
    """

    name: str
    old: int
    new: int
    old_size: int
    new_size: int
    number: bool = True
    old_signed: bool = False
    new_signed: bool = False
    big: bool = False
    old_bit: int = 0
    new_bit: int = 0
    old_bits: int = 0
    new_bits: int = 0
    meaning: Meaning = Meaning.WORTH
    repeats: tuple[Repeat, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the bytes stay as they are."""
        return not self.number or (
            not self.old_bits and not self.new_bits and self.old_size == self.new_size
        )

    @property
    def may_not_fit(self) -> bool:
        """Whether there are old values that the new type does not have."""
        old, new = self._width(), self._width(new=True)
        if not self.number or new < old:
            return self.number
        if self.old_signed:
            return not self.new_signed
        return self.new_signed and new == old

    def _width(self, *, new: bool = False) -> int:
        return (self.new_bits or self.new_size * 8) if new else (self.old_bits or self.old_size * 8)

    @property
    def new_width(self) -> int:
        """Bits of the new number."""
        return self._width(new=True)

    @property
    def old_width(self) -> int:
        """Bits of the old number."""
        return self._width()

    def at(self, old: int, new: int, repeat: Repeat | None = None) -> "Op":
        """The same within something larger that lies there, or in each element of an array."""
        repeats = (repeat, *self.repeats) if repeat else self.repeats
        return replace(self, old=self.old + old, new=self.new + new, repeats=repeats)

    def called(self, indexes: tuple[int, ...]) -> str:
        """The name of one element: ``hits[3].bytes``."""
        parts = self.name.split("[]")
        filled = "".join(f"{part}[{number}]" for part, number in zip(parts, indexes, strict=False))
        return filled + "[]".join(parts[len(indexes) :])

    def places(self) -> Iterator[Place]:
        """All elements."""
        yield from _walk(self.repeats, Place(self.old, self.new))

    def changed(self, before: Buffer, after: Buffer) -> Iterator[Place]:
        """The elements whose bytes differ between two contents of the old layout."""
        yield from self._changed(
            memoryview(before), memoryview(after), 0, Place(self.old, self.new)
        )

    def _changed(
        self, before: memoryview, after: memoryview, depth: int, place: Place
    ) -> Iterator[Place]:
        if depth == len(self.repeats):
            span = slice(place.old, place.old + self.old_size)
            if before[span] != after[span] and self._differs(before, after, place.old):
                yield place
            return
        count, old_step, new_step = self.repeats[depth]
        # Halves whose bytes are all the same are left out at once: most of a large array never changes meanwhile.
        stack = [(0, count)]
        while stack:
            first, end = stack.pop()
            span = slice(place.old + first * old_step, place.old + end * old_step)
            if before[span] == after[span]:
                continue
            if end - first == 1:
                inner = Place(
                    place.old + first * old_step,
                    place.new + first * new_step,
                    (*place.indexes, first),
                )
                yield from self._changed(before, after, depth + 1, inner)
            else:
                middle = (first + end) // 2
                stack += [(middle, end), (first, middle)]

    def _differs(self, before: memoryview, after: memoryview, at: int) -> bool:
        """Of a bitfield's bytes, those of its neighbours may differ."""
        return not self.old_bits or self.read_old(before, at) != self.read_old(after, at)

    # --- values ---

    def read_old(self, data: Buffer, at: int) -> int:
        """The number in the old layout."""
        return _read(
            data, at, self.old_size, self.old_bit, self.old_bits,
            signed=self.old_signed, big=self.big,
        )  # fmt: skip

    def read_new(self, data: Buffer, at: int) -> int:
        """The number in the new layout."""
        return _read(
            data, at, self.new_size, self.new_bit, self.new_bits,
            signed=self.new_signed, big=self.big,
        )  # fmt: skip

    def fits(self, value: int) -> bool:
        """Whether the new type has a number."""
        low = -1 << (self.new_width - 1) if self.new_signed else 0
        return low <= value < low + (1 << self.new_width)

    def encode(self, value: int) -> bytes:
        """A number as the new layout has it, whole bytes only; what does not fit is cut."""
        raw = (value & ((1 << self.new_size * 8) - 1)).to_bytes(self.new_size, "little")
        return raw[::-1] if self.big else raw

    def write_new(self, data: bytearray | memoryview, at: int, value: int) -> None:
        """Write a number in the new layout."""
        span = slice(at, at + self.new_size)
        if not self.new_bits:
            data[span] = self.encode(value)
            return
        mask = (1 << self.new_bits) - 1
        kept = int.from_bytes(data[span], "little") & ~(mask << self.new_bit)
        data[span] = (kept | (value & mask) << self.new_bit).to_bytes(self.new_size, "little")

    def copy(self, source: Buffer, target: bytearray | memoryview) -> None:
        """Move all elements from an old value into a new one."""
        view = memoryview(source)
        whole = self.repeats and self.same and self.repeats[-1][1:] == (self.old_size,) * 2
        outer = self.repeats[:-1] if whole else self.repeats
        size = self.old_size * (self.repeats[-1].length if whole else 1)
        for place in _walk(outer, Place(self.old, self.new)):
            if self.same:
                target[place.new : place.new + size] = view[place.old : place.old + size]
            else:
                self.write_new(target, place.new, self.read_old(view, place.old))


def _walk(repeats: tuple[Repeat, ...], start: Place) -> Iterator[Place]:
    if not repeats:
        yield start
        return
    count, old_step, new_step = repeats[0]
    for index in range(count):
        inner = Place(
            start.old + index * old_step, start.new + index * new_step, (*start.indexes, index)
        )
        yield from _walk(repeats[1:], inner)


def _read(data: Buffer, at: int, size: int, bit: int, bits: int, *, signed: bool, big: bool) -> int:
    raw = bytes(data[at : at + size])
    if not bits:
        return int.from_bytes(raw, "big" if big else "little", signed=signed)
    value = int.from_bytes(raw, "little") >> bit & ((1 << bits) - 1)
    return value - (1 << bits) if signed and value >> (bits - 1) else value
