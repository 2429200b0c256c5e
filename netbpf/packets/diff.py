"""``netbpf diff``: two programs over the same packets, and where they differ."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from netbpf.errors import UsageError
from netbpf.packets.capture import Block, CaptureWriter, open_capture
from netbpf.packets.diff_groups import Groups
from netbpf.packets.diff_model import DiffRequest, DiffResult
from netbpf.packets.replay import FEW, Progress, drops
from netbpf.packets.replay_headers import NAMES
from netbpf.packets.replay_model import Sample
from netbpf.packets.replay_runner import Piece, Runner
from netbpf.packets.replay_ways import Target, runner_of
from netbpf.packets.testrun import Bench
from netbpf.packets.verdicts import verdict_name
from netbpf.text import did_you_mean, escape


def diff(request: DiffRequest, progress: Progress | None = None) -> DiffResult:
    """Send the packets of a capture through two programs and compare verdicts and outputs.

    What came out of a program that drops the packet does not count. Raises what ``replay`` raises, and UsageError
    where one program is for XDP and the other for TC, or where no field is called as one that is to be ignored.
    """
    for name in request.ignore:
        if name not in NAMES:
            raise UsageError(
                f"no field {escape(name)!r} to ignore", hint=did_you_mean(name, NAMES, "fields are")
            )
    with ExitStack() as stack:
        old = stack.enter_context(_open(request, request.old, request.program))
        renamed = request.new_program or request.program
        new = stack.enter_context(_open(request, request.new, renamed))
        if old.hook.prog_type is not new.hook.prog_type:
            raise UsageError(
                f"{escape(old.shown)} holds a program for {old.hook} and {escape(new.shown)} one for {new.hook}",
                hint="choose with -n NAME, or --hook",
            )
        return _Comparison(request, old, new, progress, stack).run()


def _open(request: DiffRequest, source: str, program: str | None) -> Bench:
    return Bench.open(
        source,
        program=program,
        hook=request.hook,
        settings=request.settings,
        compiler=request.compiler,
        kernel_btf=Path(request.kernel_btf) if request.kernel_btf else None,
    )


class _Comparison:
    def __init__(
        self,
        request: DiffRequest,
        old: Bench,
        new: Bench,
        progress: Progress | None,
        stack: ExitStack,
    ) -> None:
        self.request, self.benches, self.hook = request, (old, new), old.hook
        self.progress = progress
        self.capture = stack.enter_context(open_capture(request.capture))
        few = 0 < self.capture.progress[1] < FEW and not self.capture.compressed
        self.old, self.new = (
            stack.enter_context(closing(runner_of(Target.of(one), outputs=True, few=few)))
            for one in self.benches
        )
        self.capture.use(self.old.memory)
        self.writer = (
            stack.enter_context(CaptureWriter(request.output, self.hook, not_over=request.capture))
            if request.output
            else None
        )
        self.groups = Groups(frozenset(request.ignore), request.samples)
        self.packets = 0
        self.skipped: Counter[str] = Counter()

    def run(self) -> DiffResult:
        """All packets, or as many as are wanted."""
        start = time.perf_counter()
        left = self.request.limit
        for block in self.capture.blocks():
            if left is not None:
                block = block.first(left)
                left -= len(block.starts)
            self._compare(block)
            if self.progress:
                self.progress(*self.capture.progress, self.packets)
            if left == 0:
                break
        if self.writer:
            self.writer.close()
        skipped = dict(self.skipped)
        for link, count in self.capture.skipped.items():
            skipped[f"link type {link}"] = count
        return DiffResult(
            old=self.benches[0].program,
            new=self.benches[1].program,
            hook=self.hook,
            packets=self.packets,
            different=self.groups.different,
            groups=self.groups.result(),
            seconds=time.perf_counter() - start,
            skipped=skipped,
            warnings=tuple(self.capture.warnings),
            notes=tuple(dict.fromkeys((*self.benches[0].notes, *self.benches[1].notes))),
        )

    def _compare(self, block: Block) -> None:
        for old, new, begin, end in overlaps(
            self.old.run(block), self.new.run(_copied(block, self.new))
        ):
            if old.refused or new.refused:
                self.skipped[old.refused or new.refused] += end - begin
                continue
            self.packets += end - begin
            if not _same(old, new):
                for index in range(begin, end):
                    self._packet(block, old, new, index)

    def _packet(self, block: Block, old: Piece, new: Piece, index: int) -> None:
        one, other = old.verdicts[index - old.begin], new.verdicts[index - new.begin]
        changed: tuple[str, ...] = ()
        if not drops(self.hook, one) and not drops(self.hook, other):
            assert old.outputs is not None
            assert new.outputs is not None
            changed = self.groups.changed(
                old.outputs.packet(index - old.begin), new.outputs.packet(index - new.begin)
            )
        if one == other and not changed:
            return
        stamp = block.stamp(index)
        sample = Sample(block.numbers[index], stamp.time_ns, block.packet(index))
        names = verdict_name(self.hook, one), verdict_name(self.hook, other)
        self.groups.add(*names, changed, sample)
        if self.writer:
            what = f"netbpf: {names[0]} -> {names[1]}"
            what += f", differs in {', '.join(changed)}" if changed else ""
            self.writer.write(
                sample.data,
                stamp.time_ns,
                wire_length=stamp.wire_length,
                verdict=other,
                comment=what.encode(),
            )


def _copied(block: Block, runner: Runner) -> Block:
    """The same packets in the memory of another runner."""
    if not block.starts:
        return block
    end = block.starts[-1] + block.lengths[-1]
    runner.memory[block.starts[0] : end] = block.memory[block.starts[0] : end]
    return replace(block, memory=runner.memory)


def overlaps(
    ones: Iterator[Piece], others: Iterator[Piece]
) -> Iterator[tuple[Piece, Piece, int, int]]:
    """Pieces of the same packets that two programs were run on, wherever each of them begins and ends."""
    one, other = next(ones, None), next(others, None)
    at = 0
    while one and other:
        end = min(one.end, other.end)
        yield one, other, at, end
        at = end
        if one.end == end:
            one = next(ones, None)
        if other.end == end:
            other = next(others, None)


def _same(old: Piece, new: Piece) -> bool:
    """Whether two pieces of exactly the same packets do not differ at all: most do not."""
    if old.begin != new.begin or old.verdicts != new.verdicts:
        return False
    one, other = old.outputs, new.outputs
    assert one is not None
    assert other is not None
    return one.lengths == other.lengths and bytes(one.memory) == bytes(other.memory)
