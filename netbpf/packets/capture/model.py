"""What a capture is read as: blocks of packets that lie in one piece of memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

# Bytes that a packet may have in a capture: what libpcap takes (MAXIMUM_SNAPLEN). More is damage.
MAX_RECORD = 262_144
# Bytes read at a time: enough for the largest packet with its head, little enough to stay in a processor's cache.
WINDOW = 524288


class Stamp(NamedTuple):
    """What a capture says of a packet besides its bytes: nanoseconds since 1970 (UTC) or None where it does not say,
    and the length it had on the wire, of which the capture may hold less."""

    time_ns: int | None
    wire_length: int


@dataclass(frozen=True, slots=True)
class Block:
    """Some packets in a row. ``memory`` holds them only until the next block is asked for.

    ``starts`` and ``lengths`` are in bytes; ``first`` is the number of the first packet in the capture, from 1;
    ``numbers`` are those of all, where some between them were left out.
    """

    memory: memoryview
    starts: list[int]
    lengths: list[int]
    numbers: range | list[int]
    stamp: Callable[[int], Stamp]

    def packet(self, index: int) -> bytes:
        """The bytes of a packet, by its place in the block."""
        start = self.starts[index]
        return bytes(self.memory[start : start + self.lengths[index]])
