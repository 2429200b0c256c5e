"""Types of all kinds by chance, some of which no compiler writes, and bytes that such types are sensitive to."""

import random
import struct
from collections.abc import Callable

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.types import Member
from netbpf.constants import INDEXED_MAPS, MapType

# What format strings, JSON and terminals have their own thoughts about, and what makes a number an address.
_NAMES = (
    "packets", "%s", "%", "%%d", 'a"b', "back\\slash", "x y", "ä", "\x1b[2J", "saddr", "dst_ip6", "src_addr",
    "gateway", "port", "true", "0", "{", "",
)  # fmt: skip
_ENUMERATORS = (0, 1, 2, 5, 127, 128, 255, 256, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_NEGATIVE = (-1, -2, -128, -129, -(1 << 31))
_LARGE = (1 << 40, (1 << 63) - 1)
_REALS = (
    float("nan"), float("inf"), -float("inf"), 1e308, -1e308, -0.0, 0.0, 1.0, 0.1, 5e-324, 1e16, -123456789.125,
)  # fmt: skip
_TELLING = b'\0\0\0\0\0\1\1\1\2\x7f\x80\xff\xff"\\%s\n\x1b\xc3\xa4\xe2\x80\xae{}'


class Types:
    """Types in one BTF. ``size(type id)`` in bytes; all choices are those of ``chance``."""

    def __init__(self, chance: random.Random) -> None:
        self.builder, self._chance = Builder(), chance
        self._sizes: dict[int, int] = {}

    def size(self, number: int) -> int:
        return self._sizes[number]

    def _sized(self, number: int, size: int) -> int:
        self._sizes[number] = size
        return number

    # --- no parts ---

    def scalar(self) -> int:
        kinds: list[Callable[[], int]] = [
            self._integer, self._integer, self._cut, self._bool, self._enum, self._enum64, self._float, self._pointer,
            self._big, self._big, self._address,
        ]  # fmt: skip
        return self._chance.choice(kinds)()

    def _integer(self) -> int:
        size, signed = (
            self._chance.choice((1, 1, 2, 4, 4, 8, 8, 16, 3)),
            self._chance.random() < 0.5,
        )
        name = self._chance.choice(("int", "char") if size == 1 else ("int",))
        return self._sized(self.builder.integer(name, size, signed=signed), size)

    def _cut(self) -> int:
        """An integer of fewer bits than its bytes have, as bitfields were before Linux 5.0."""
        size = self._chance.choice((1, 2, 4, 8, 16, 3))
        bits = self._chance.randint(1, size * 8)
        offset = self._chance.randint(0, size * 8 - bits)
        signed = self._chance.random() < 0.5
        made = self.builder.integer("int", size, signed=signed, bits=bits, offset=offset)
        return self._sized(made, size)

    def _bool(self) -> int:
        return self._sized(self.builder.integer("_Bool", 1, boolean=True), 1)

    def _enum(self) -> int:
        signed = self._chance.random() < 0.5
        values = self._chance.sample(_ENUMERATORS + (_NEGATIVE if signed else ()), 7)
        named = [(f"E_{at}_{value & 0xFF}", value) for at, value in enumerate(values)]
        size = self._chance.choice((1, 2, 4, 4, 8))
        return self._sized(self.builder.enum("e", named, size=size, signed=signed), size)

    def _enum64(self) -> int:
        signed = self._chance.random() < 0.5
        values = self._chance.sample(_ENUMERATORS + _LARGE + (_NEGATIVE if signed else ()), 6)
        named = [(f"L_{at}", value) for at, value in enumerate(values)]
        return self._sized(self.builder.enum64("l", named, signed=signed), 8)

    def _float(self) -> int:
        size = self._chance.choice((2, 4, 8, 8, 12, 16))
        return self._sized(self.builder.floating("float", size), size)

    def _pointer(self) -> int:
        return self._sized(self.builder.ptr(0), 8)

    def _big(self) -> int:
        size = self._chance.choice((2, 4, 8))
        made = self.builder.integer("unsigned", size)
        return self._sized(self.builder.typedef(f"__be{8 * size}", made), size)

    def _address(self) -> int:
        byte = self.builder.integer("unsigned char", 1)
        match self._chance.randrange(4):
            case 0:
                return self._sized(self.builder.array(byte, 6), 6)
            case 1:
                word = self.builder.integer("unsigned", 4)
                return self._sized(self.builder.record("in_addr", [("s_addr", word)]), 4)
            case 2:
                inner = self.builder.array(byte, 16)
                return self._sized(self.builder.record("in6_addr", [("in6_u", inner)]), 16)
            case _:
                count = self._chance.choice((4, 16))
                return self._sized(self.builder.array(byte, count), count)

    # --- with parts ---

    def any(self, depth: int = 3) -> int:
        part = self._chance.random()
        if not depth or part < 0.4:
            return self.scalar()
        if part < 0.5:
            return self.text()
        if part < 0.7:
            return self.array(depth)
        return self.record(depth)

    def text(self) -> int:
        count = self._chance.choice((0, 1, 2, 4, 6, 16, 40))
        char = self.builder.integer("char", 1, signed=True)
        return self._sized(self.builder.array(char, count), count)

    def array(self, depth: int) -> int:
        element = self.any(depth - 1)
        large = self.size(element) > 64
        count = self._chance.choice((0, 1, 2, 3) if large else (0, 1, 2, 4, 5, 31, 32, 33))
        return self._sized(self.builder.array(element, count), count * self.size(element))

    def record(self, depth: int) -> int:
        """A struct or union; packed or not, with holes, members without names and bits."""
        chance, union = self._chance, self._chance.random() < 0.25
        names = chance.sample(_NAMES[:-1], len(_NAMES) - 1)
        members: list[Member] = []
        position = end = 0
        for name in names[: chance.randint(0, 5)]:
            inner = self.any(depth - 1)
            size = self.size(inner)
            bits = 0
            if not union and chance.random() < 0.35:
                inner = chance.choice(
                    (self._integer, self._bool, self._enum, self._enum64, self._big)
                )()
                size = self.size(inner)
                bits = chance.randint(1, min(size * 8, 8 if size == 1 else 64))
            elif chance.random() < 0.7:
                align = 8 * min(size & -size or 1, 8)
                position += -position % align
            if not bits:
                position += -position % 8
            members.append(Member(name, inner, position, bits))
            end = max(end, position + (bits or size * 8))
            position = 0 if union else end
        size = (end + 7) // 8 + chance.choice((0, 0, 0, 1, 3))
        size += -size % chance.choice((1, 4, 8))
        make = self.builder.union if union else self.builder.struct
        return self._sized(make(f"r{self.builder.next_id}", size, members), size)

    def key(self, kind: MapType) -> int:
        """A type that the kernel takes for the keys of a kind of map."""
        if kind in INDEXED_MAPS:
            return self._sized(self.builder.integer("unsigned int", 4), 4)
        return self._prefix() if kind is MapType.LPM_TRIE else self.any(2)

    def _prefix(self) -> int:
        """The key of an LPM trie: an address behind the length, or something else."""
        word = self.builder.integer("unsigned", 4)
        behind = self.any(1) if self._chance.random() < 0.3 else self._address()
        size = 4 + self.size(behind)
        made = self.builder.struct(
            "key", size, [Member("length", word, 0, 0), Member("src_addr", behind, 32, 0)]
        )
        return self._sized(made, size)


def bytes_of(chance: random.Random, size: int) -> bytes:
    """Bytes by chance, of which many are equal, or numbers that have no end."""
    match chance.randrange(4):
        case 0:
            return chance.randbytes(size)
        case 1:
            real, count = chance.choice("efd"), size // 2 + 1
            reals = (chance.choice(_REALS) for _ in range(count))
            small = (
                0.5 if real == "e" and abs(one) > 60000 and one - one == 0 else one for one in reals
            )
            fit = (
                1.5 if real == "f" and abs(one) > 1e30 and one - one == 0 else one for one in small
            )
            return struct.pack(f"<{count}{real}", *fit)[:size]
        case 2:
            return bytes(size)
        case _:
            return bytes(chance.choices(_TELLING, k=size))
