"""One BPF_PROG_TEST_RUN per packet: what works for every program and kernel."""

import errno
from collections.abc import Iterator

from netbpf._sys.packet_runs import PacketRuns
from netbpf.constants import Hook
from netbpf.errors import KernelError
from netbpf.packets.capture.model import WINDOW, Block
from netbpf.packets.limits import limits
from netbpf.packets.replay_runner import Outputs, Piece
from netbpf.packets.verdicts import verdict_of

_OUT = 1 << 17  # bytes: more than TEST_RUN can make of a packet, 17 pages and what is in one piece
_PIECE = 1024  # packets of which outputs are collected


class SingleRunner:
    """Runs a program that is loaded as it is."""

    def __init__(
        self, prog_fd: int, hook: Hook, *, outputs: bool, memory: memoryview | None = None
    ) -> None:
        self.memory = memoryview(bytearray(WINDOW)) if memory is None else memory
        self._hook = hook
        self._runs = PacketRuns(
            prog_fd, self.memory, out_size=_OUT if outputs else 0, metadata=outputs and hook is Hook.XDP
        )  # fmt: skip
        self._outputs = outputs

    def run(self, block: Block) -> Iterator[Piece]:
        """Run it on every packet, in order."""
        verdicts: list[int] = []
        kept = bytearray()
        lengths: list[int] = []
        begin = 0
        for index in range(len(block.starts)):
            try:
                verdict = self.one(block, index)
            except KernelError as error:
                if verdicts:
                    yield self._piece(begin, verdicts, kept, lengths)
                yield Piece(index, [], refused=why(error, self._hook, block.lengths[index]))
                begin, verdicts, kept, lengths = index + 1, [], bytearray(), []
                continue
            verdicts.append(verdict)
            if self._outputs:
                data = self._runs.output()
                kept += data
                lengths.append(len(data))
                if len(verdicts) == _PIECE:
                    yield self._piece(begin, verdicts, kept, lengths)
                    begin, verdicts, kept, lengths = index + 1, [], bytearray(), []
        if verdicts:
            yield self._piece(begin, verdicts, kept, lengths)

    def one(self, block: Block, index: int) -> int:
        """The verdict on one packet. Raises KernelError where TEST_RUN does not take it."""
        value = self._runs.run(block.starts[index], block.lengths[index])
        return verdict_of(self._hook, value)

    def only(self, block: Block, index: int) -> Piece:
        """One packet as a piece of its own."""
        try:
            verdict = self.one(block, index)
        except KernelError as error:
            return Piece(index, [], refused=why(error, self._hook, block.lengths[index]))
        data = bytearray(self._runs.output()) if self._outputs else bytearray()
        return self._piece(index, [verdict], data, [len(data)])

    def _piece(self, begin: int, verdicts: list[int], kept: bytearray, lengths: list[int]) -> Piece:
        return Piece(begin, verdicts, Outputs(memoryview(kept), lengths) if self._outputs else None)

    def close(self) -> None:
        """Nothing is ours."""


def why(error: KernelError, hook: Hook, length: int) -> str:
    """Why TEST_RUN did not take a packet; the error itself where that is not about the packet's length."""
    taken = limits(hook)
    if length < taken.minimum:
        return f"shorter than {taken.minimum} bytes, an Ethernet header"
    if length > taken.maximum:
        kind = "xdp" if hook is Hook.XDP else "tc"
        return f"longer than {taken.maximum} bytes, the most that TEST_RUN takes for {kind}"
    if error.errno == errno.ENOMEM:
        return "the kernel had no memory for it"
    raise error
