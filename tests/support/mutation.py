"""Seeded damage to object files: bytes, words, cuts, and headers of one file in another."""

import random
import struct
from collections.abc import Iterator

_WORDS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8)
_SECTION_HEADER = 64


def section_bounds(data: bytes) -> list[int]:
    """Where each part of an ELF file begins and ends: headers, sections, the section table."""
    (table,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    found = {0, 1, 4, 16, 63, 64, table, len(data) - 1}
    for index in range(count):
        start = table + index * entry_size
        found.add(start)
        offset, size = struct.unpack_from("<QQ", data, start + 24)
        found |= {offset, offset + size}
    return sorted(bound for bound in found if bound < len(data))


def truncations(data: bytes) -> Iterator[bytes]:
    """The file cut at each boundary and one byte to either side of it; and what is behind it turned to zeros.

    clang writes the section table last, so that a cut takes it away: the zeros leave it.
    """
    (table,) = struct.unpack_from("<Q", data, 40)
    for bound in section_bounds(data):
        for end in (bound - 1, bound, bound + 1):
            if 0 <= end < len(data):
                yield data[:end]
            if 64 <= end < table:
                yield data[:end] + bytes(table - end) + data[table:]


def damaged(data: bytes, random: random.Random) -> bytes:
    """One small change, more often where the file says what it is than in its strings."""
    out = bytearray(data)
    (table,) = struct.unpack_from("<Q", data, 40)
    where = random.random()
    if where < 0.15:
        at = random.randrange(16, 64)
    elif where < 0.5:
        at = random.randrange(table, len(data) - 8)
    else:
        at = random.randrange(64, len(data) - 8)
    match random.randrange(4):
        case 0:
            out[at] ^= 1 << random.randrange(8)
        case 1:
            out[at] = random.randrange(256)
        case 2:
            at &= ~3
            struct.pack_into("<I", out, at, random.choice(_WORDS))
        case _:
            at &= ~7
            struct.pack_into(
                "<Q",
                out,
                at,
                random.choice((1 << 63, (1 << 64) - 1, len(data), random.getrandbits(64))),
            )
    return bytes(out)


def spliced(data: bytes, other: bytes, random: random.Random) -> bytes:
    """A section header of one file in the place of one of another's, or two of its own exchanged."""
    out = bytearray(data)
    tables = [struct.unpack_from("<Q", one, 40)[0] for one in (data, other)]
    counts = [struct.unpack_from("<H", one, 60)[0] for one in (data, other)]
    into = tables[0] + random.randrange(counts[0]) * _SECTION_HEADER
    source = tables[1] + random.randrange(counts[1]) * _SECTION_HEADER
    out[into : into + _SECTION_HEADER] = other[source : source + _SECTION_HEADER]
    return bytes(out)
