"""Running one program on the packets of a capture, in order: what the ways of doing it have in common."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from netbpf.packets.capture.model import Block


@dataclass(frozen=True, slots=True)
class Outputs:
    """Packets afterwards, end to end in ``memory``, which holds them only until the next piece is asked for."""

    memory: memoryview
    lengths: list[int]
    _starts: list[int] = field(default_factory=list)

    def packet(self, index: int) -> bytes:
        """One of them."""
        if not self._starts:
            self._starts.extend(accumulate(self.lengths, initial=0))
        start = self._starts[index]
        return bytes(self.memory[start : start + self.lengths[index]])


@dataclass(frozen=True, slots=True)
class Piece:
    """What came of some packets in a row, of which the first is number ``begin`` of its block, from 0.

    ``refused`` is why TEST_RUN did not take a packet: the piece is of that packet alone, and there is no verdict.
    """

    begin: int
    verdicts: list[int]
    outputs: Outputs | None = None
    refused: str = ""

    @property
    def end(self) -> int:
        """The number of the packet after the last."""
        return self.begin + (1 if self.refused else len(self.verdicts))


class Runner(Protocol):
    """One program with its maps, which live as long as it does."""

    memory: memoryview  # where packets are read to; at least capture.model.WINDOW bytes

    def run(self, block: Block) -> Iterator[Piece]:
        """Run the program on every packet of a block that lies in ``memory``, in order."""

    def close(self) -> None:
        """Let go of it."""
