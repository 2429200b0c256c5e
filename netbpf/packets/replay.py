"""``netbpf replay``: every packet of a capture through a program, whose maps live as long as the capture lasts."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from netbpf.constants import Hook, TcAction, XdpAction
from netbpf.errors import UsageError, VerifierError
from netbpf.packets.capture import Block, Capture, CaptureWriter, open_capture
from netbpf.packets.replay_model import ReplayRequest, ReplayResult, Sample
from netbpf.packets.replay_runner import Piece
from netbpf.packets.replay_state import State
from netbpf.packets.replay_ways import Target, runner_of
from netbpf.packets.testrun import Bench
from netbpf.packets.verdicts import verdict_name
from netbpf.text import escape

# Bytes read, the file's size (0 where it has none), packets run.
Progress = Callable[[int, int, int], None]
FEW = 1 << 18  # bytes of a capture for which one TEST_RUN per packet is as fast as any other way
# Verdicts after which a packet goes nowhere. What is no XDP verdict is taken as XDP_ABORTED.
_TC_DROPS = frozenset({TcAction.SHOT})
_XDP_KEEPS = frozenset({XdpAction.PASS, XdpAction.TX, XdpAction.REDIRECT})


def drops(hook: Hook, verdict: int) -> bool:
    """Whether a packet with this verdict is dropped."""
    return verdict not in _XDP_KEEPS if hook is Hook.XDP else verdict in _TC_DROPS


def replay(request: ReplayRequest, progress: Progress | None = None) -> ReplayResult:
    """Send a capture through a program.

    Raises CaptureError for what is no capture of Ethernet frames, what loading a program raises, and NetbpfError where
    a file cannot be written; it then holds what could be.
    """
    if request.limit is not None and request.limit < 0:
        raise UsageError(f"a limit of {request.limit} packets makes no sense")
    if request.output and request.output == request.dropped:
        raise UsageError("all packets and the dropped ones cannot go to one file")
    if request.on is not None:
        if request.program or request.settings or request.map_sizes:
            raise UsageError(
                "what runs on an interface is replayed as it is there",
                hint="to change it, replay its object: netbpf replay OBJECT CAPTURE",
            )
        with ExitStack() as held:
            return replay_through(_copy(request, request.on, held), request, progress)
    with Bench.open(
        request.object,
        program=request.program,
        hook=request.hook,
        settings=request.settings,
        map_sizes=request.map_sizes,
        compiler=request.compiler,
        kernel_btf=Path(request.kernel_btf) if request.kernel_btf else None,
    ) as bench:
        return replay_through(Target.of(bench), request, progress)


def _copy(request: ReplayRequest, interface: str, held: ExitStack) -> Target:
    """The copy of what runs on an interface; with probes, as many as the verifier takes of all members together."""
    from netbpf.bpf.cover.active import active
    from netbpf.bpf.cover.collector import Collector
    from netbpf.packets.replay_live import live_copy

    while True:
        try:
            return held.enter_context(live_copy(interface, request.hook, request.netns))
        except VerifierError:
            collector = active()
            why = (
                f"the verifier does not take all programs on {escape(interface)} with more to count"
            )
            if not isinstance(collector, Collector) or not collector.less(why):
                raise


def replay_through(
    target: Target, request: ReplayRequest, progress: Progress | None = None
) -> ReplayResult:
    """The same with a program that is in the kernel already."""
    with ExitStack() as stack:
        capture = stack.enter_context(open_capture(request.capture))
        read, size = capture.progress
        few = 0 < size < FEW and not capture.compressed
        runner = stack.enter_context(
            closing(runner_of(target, outputs=request.output is not None, few=few))
        )
        capture.use(runner.memory)
        writers = [
            stack.enter_context(CaptureWriter(path, target.hook, not_over=request.capture))
            if path
            else None
            for path in (request.output, request.dropped)
        ]
        state = State(target.maps)
        run = _Run(target.hook, request, capture, *writers)
        start = time.perf_counter()
        for block in capture.blocks():
            wanted = run.wanted(block)
            run.cut += wanted.cut()
            for piece in runner.run(wanted):
                run.take(wanted, piece)
            if progress:
                read, size = capture.progress
                progress(read, size, run.packets)
            if run.done:
                break
        for writer in writers:
            if writer:
                writer.close()
        seconds = time.perf_counter() - start
        return run.result(target, state, seconds)


class _Run:
    """What is collected on the way."""

    def __init__(
        self,
        hook: Hook,
        request: ReplayRequest,
        capture: Capture,
        output: CaptureWriter | None,
        dropped: CaptureWriter | None,
    ) -> None:
        self.hook, self.request, self.capture = hook, request, capture
        self.output, self.dropped = output, dropped
        self.packets = self.cut = 0
        self.verdicts: Counter[int] = Counter()
        self.skipped: Counter[str] = Counter()
        self.samples: dict[int, list[Sample]] = {}
        self._left = request.limit
        self._comments: dict[int, bytes] = {}

    @property
    def done(self) -> bool:
        """Whether as many packets were read as are wanted."""
        return self._left == 0

    def wanted(self, block: Block) -> Block:
        """The part of a block that is within the limit."""
        if self._left is None:
            return block
        count = min(self._left, len(block.starts))
        self._left -= count
        return block.first(count)

    def take(self, block: Block, piece: Piece) -> None:
        """Count a piece, and write what is to be written of it."""
        if piece.refused:
            self.skipped[piece.refused] += 1
            return
        verdicts = piece.verdicts
        self.packets += len(verdicts)
        counted = Counter(verdicts)
        self.verdicts.update(counted)
        for verdict in counted:
            self._sample(block, piece, verdict)
        if self.output:
            self._write_outputs(self.output, block, piece)
        if self.dropped:
            gone = {one for one in counted if drops(self.hook, one)}
            if gone:
                self._write_dropped(self.dropped, block, piece, gone)

    def _sample(self, block: Block, piece: Piece, verdict: int) -> None:
        kept = self.samples.setdefault(verdict, [])
        at = -1
        while len(kept) < self.request.samples:
            try:
                at = piece.verdicts.index(verdict, at + 1)
            except ValueError:
                return
            index = piece.begin + at
            kept.append(
                Sample(block.numbers[index], block.stamp(index).time_ns, block.packet(index))
            )

    def _comment(self, verdict: int) -> bytes:
        if verdict not in self._comments:
            self._comments[verdict] = f"netbpf: {verdict_name(self.hook, verdict)}".encode()
        return self._comments[verdict]

    def _write_outputs(self, writer: CaptureWriter, block: Block, piece: Piece) -> None:
        assert piece.outputs is not None
        for at, verdict in enumerate(piece.verdicts):
            index = piece.begin + at
            data = piece.outputs.packet(at)
            stamp = block.stamp(index)
            missing = stamp.wire_length - block.lengths[index]
            writer.write(
                data,
                stamp.time_ns,
                wire_length=len(data) + max(missing, 0),
                verdict=verdict,
                comment=self._comment(verdict),
            )

    def _write_dropped(
        self, writer: CaptureWriter, block: Block, piece: Piece, gone: set[int]
    ) -> None:
        for at, verdict in enumerate(piece.verdicts):
            if verdict in gone:
                index = piece.begin + at
                stamp = block.stamp(index)
                writer.write(
                    block.packet(index),
                    stamp.time_ns,
                    wire_length=stamp.wire_length,
                    verdict=verdict,
                    comment=self._comment(verdict),
                )

    def result(self, target: Target, state: State, seconds: float) -> ReplayResult:
        """All of it, when the capture has ended."""

        def name(verdict: int) -> str:
            return verdict_name(self.hook, verdict)

        skipped = dict(self.skipped)
        for link, count in self.capture.skipped.items():
            skipped[f"link type {link}"] = count
        return ReplayResult(
            program=target.name,
            hook=target.hook,
            packets=self.packets,
            verdicts={name(one): self.verdicts[one] for one in sorted(self.verdicts)},
            seconds=seconds,
            samples={name(one): tuple(self.samples[one]) for one in sorted(self.samples)},
            skipped=skipped,
            cut=self.cut,
            variables=state.variables(),
            maps=state.maps(),
            warnings=tuple(self.capture.warnings),
            notes=target.notes,
            members=target.shares(),
        )
