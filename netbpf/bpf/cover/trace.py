"""The way of a packet: from the edges that a trace holds to the instructions that ran, in order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.ext import Source
from netbpf.bpf.cover.collector import Collector, Covered
from netbpf.bpf.cover.flow import Kind
from netbpf.bpf.cover.lines import Span, spans
from netbpf.bpf.disasm import branch_target, falls_through

_TAIL_CALL: Final = 12  # BPF_FUNC_tail_call
# bpf_for_each_map_elem, bpf_timer_set_callback, bpf_find_vma, bpf_loop, bpf_user_ringbuf_drain
_CALL_BACK: Final = frozenset({164, 170, 180, 181, 209})


class Ran(NamedTuple):
    """One instruction of a program that ran."""

    covered: Covered
    at: int


class Step(NamedTuple):
    """A line of source that ran: of which program and function. Instructions without a line make none."""

    program: str
    function: str
    source: Source


@dataclass(slots=True)
class _Frame:
    """A function that runs: what ran of it is all before instruction ``at``."""

    covered: Covered
    at: int
    calling: bool = False  # its last instruction called a helper, which may call back again
    gone: bool = False  # a tail call has ended it

    def ahead(self) -> Iterator[int]:
        """The instructions that come next, up to one after which it is not certain what does."""
        code = self.covered.image.insns
        at = self.at
        while True:
            one = bpf.read(code, at)
            yield at
            target = branch_target(at, one)
            if target is not None and not falls_through(one):
                at = target
            elif target is not None or not falls_through(one) or _decides(self.covered, at):
                return
            else:
                at += 2 if one.code == bpf.LD_IMM64 else 1


def _decides(covered: Covered, at: int) -> bool:
    """Whether it depends on something whether the next instruction follows."""
    return covered.flow is not None and at in covered.flow.deciding


class _Walk:
    def __init__(self) -> None:
        self.frames: list[_Frame] = []

    def along(self, covered: Covered, edge: int) -> Iterator[Ran]:
        """What ran until control came along this edge."""
        assert covered.flow is not None
        one = covered.flow.edges[edge]
        start = covered.flow.blocks[one.target].start
        if one.kind is Kind.ENTRY:
            yield from self._enter(covered, start)
            self.frames.append(_Frame(covered, start))
            return
        while self.frames:
            frame = self.frames[-1]
            if frame.covered is covered and one.at in frame.ahead():
                yield from self._through(frame, one.at)
                frame.at = start
                return
            yield from self._end()

    def _enter(self, covered: Covered, start: int) -> Iterator[Ran]:
        while self.frames:
            frame = self.frames[-1]
            if frame.calling and frame.covered is covered:
                return  # called back once more
            call = self._call(frame, covered, start)
            if call is not None:
                one = bpf.read(frame.covered.image.insns, call)
                yield from self._through(frame, call)
                frame.at, frame.calling = call + 1, one.src != bpf.PSEUDO_CALL
                frame.gone = one.src == 0 and one.imm == _TAIL_CALL
                return
            yield from self._end()

    @staticmethod
    def _call(frame: _Frame, covered: Covered, start: int) -> int | None:
        """The call in a function by which control came to ``start``."""
        begins = frame.covered is not covered or start == covered.image.functions[0].at
        for at in frame.ahead():
            one = bpf.read(frame.covered.image.insns, at)
            if one.code != bpf.CALL:
                continue
            if begins:
                found = one.src == 0 and one.imm == _TAIL_CALL
            elif one.src == bpf.PSEUDO_CALL:
                found = at + one.imm + 1 == start
            else:
                found = one.src == bpf.PSEUDO_KFUNC_CALL or one.imm in _CALL_BACK
            if found:
                return at
        return None

    def _through(self, frame: _Frame, last: int) -> Iterator[Ran]:
        frame.calling = False
        for at in frame.ahead():
            yield Ran(frame.covered, at)
            if at == last:
                return

    def _end(self) -> Iterator[Ran]:
        """The innermost function has returned."""
        frame = self.frames.pop()
        if not frame.gone:
            yield from (Ran(frame.covered, at) for at in frame.ahead())

    def finish(self) -> Iterator[Ran]:
        """What ran after the last edge."""
        while self.frames:
            yield from self._end()


def ran(edges: Iterable[tuple[Covered, int]]) -> Iterator[Ran]:
    """The instructions that ran, in order; ``edges`` are those of ``Collector.trace``."""
    walk = _Walk()
    for covered, edge in edges:
        yield from walk.along(covered, edge)
    yield from walk.finish()


def steps(collector: Collector) -> tuple[list[Step], int]:
    """The lines that ran, in order, each once until another one ran; and how many edges before were too many to keep.

    Programs whose object has no lines are left out.
    """
    edges, lost = collector.trace()
    known: dict[int, Callable[[int], Step | None]] = {}
    found: list[Step] = []
    for covered, at in ran(edges):
        if id(covered) not in known:
            known[id(covered)] = _namer(covered)
        step = known[id(covered)](at)
        if step and (not found or _place(found[-1]) != _place(step)):
            found.append(step)
    return found, lost


def _place(step: Step) -> tuple[str, str, str, int]:
    return step.program, step.function, step.source.file, step.source.line


def _namer(covered: Covered) -> Callable[[int], Step | None]:
    by_insn: dict[int, Span] = {}
    for span in spans(covered.spec, covered.image):
        by_insn.update(dict.fromkeys(range(span.start, span.end), span))
    names = [one.function.name for one in sorted(covered.image.functions, key=lambda f: f.at)]

    def name(at: int) -> Step | None:
        span = by_insn.get(at)
        return Step(covered.program.name, names[span.function], span.source) if span else None

    return name
