"""What a capture is read as: blocks of packets that lie in one piece of memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

    ``starts`` and ``lengths`` are in bytes; ``numbers`` are those of the packets in the capture, from 1; ``some_cut``
    says that the capture may hold less of a packet than there was.
    """

    memory: memoryview
    starts: list[int]
    lengths: list[int]
    numbers: Sequence[int]
    stamp: Callable[[int], Stamp]
    some_cut: bool = False

    def first(self, count: int) -> "Block":
        """The block without what comes after its first packets."""
        if count >= len(self.starts):
            return self
        return replace(
            self,
            starts=self.starts[:count],
            lengths=self.lengths[:count],
            numbers=self.numbers[:count],
        )

    def cut(self) -> int:
        """How many packets were captured in part only."""
        if not self.some_cut:
            return 0
        return sum(
            self.stamp(index).wire_length > length for index, length in enumerate(self.lengths)
        )

    def packet(self, index: int) -> bytes:
        """The bytes of a packet, by its place in the block."""
        start = self.starts[index]
        return bytes(self.memory[start : start + self.lengths[index]])
