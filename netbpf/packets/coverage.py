"""From what probes counted to lines and branches of source files."""

from collections.abc import Iterator
from contextlib import contextmanager
from posixpath import abspath, normpath

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover import counts
from netbpf.bpf.cover.active import collecting
from netbpf.bpf.cover.collector import Collector, Covered, said
from netbpf.bpf.cover.flow import Flow
from netbpf.bpf.cover.lines import Span, runs, spans
from netbpf.bpf.disasm import disassemble
from netbpf.packets.coverage_model import (
    Branch,
    BranchKey,
    Count,
    Coverage,
    CoveredProgram,
    FileCoverage,
    Function,
    Idle,
    merge_branches,
    merge_functions,
    plus,
)
from netbpf.text import escape

# Lines of other people's headers that were inlined; nobody wants to test those.
_SYSTEM = ("/usr/include/", "/usr/lib/")


class Covering:
    """Programs are being covered: ``result()`` says what was reached until now."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._done: Coverage | None = None

    def result(self) -> Coverage:
        """What was reached of all programs that were loaded since it began."""
        return self._done or measured(self.collector).settled()

    def finish(self) -> None:
        """Keep what there is now, and let go of the maps."""
        self._done = measured(self.collector).settled()
        self.collector.close()


@contextmanager
def covering() -> Iterator[Covering]:
    """Whatever is loaded meanwhile, in this thread, counts where it goes; the result remains good afterwards."""
    with Collector() as collector:
        made = Covering(collector)
        try:
            with collecting(collector):
                yield made
        finally:
            made.finish()


def measured(collector: Collector) -> Coverage:
    """What the programs of a collector have reached."""
    found = Coverage()
    for code, one in collector.by_code.items():
        found = found.merged([_measure(code, one)])
    return found


def _measure(code: str, one: Covered) -> Coverage:
    flow = one.flow
    assert flow is not None
    edges = one.edges()
    ran = counts.blocks(flow, edges)
    found = spans(one.spec, one.image)
    note = said(one)
    if found:
        files = _by_line(code, one, flow, found, ran, edges)
    else:
        files = [_by_instruction(code, one, flow, ran, edges)]
        words = f"{escape(one.program.name)} has no source lines in its object (compiled without -g): by instruction"
        note = f"{note}; {words}" if note else words
    paths = [each.path for each in files]
    if found:  # that of the program itself comes first
        own = _path(found[0].source.file)
        paths = [own, *(one for one in paths if one != own)]
    program = CoveredProgram(
        one.program.name, str(one.spec.elf.origin), one.level.value, note, tuple(paths)
    )
    if edges[0] == 0:
        return Coverage(idle=(Idle(program, tuple(files)),))
    return Coverage(tuple(files), (program,))


def _path(file: str) -> str:
    """One name for one file: compilers are given it in several ways."""
    return normpath(file).removeprefix(f"{abspath('.')}/")


def _by_line(
    code: str,
    one: Covered,
    flow: Flow,
    found: list[Span],
    ran: list[Count],
    edges: list[Count],
) -> list[FileCoverage]:
    # A line runs as often as that of its instructions that runs most often, in each function; functions add up.
    within: dict[tuple[str, int, int], Count] = {}
    text: dict[str, dict[int, str]] = {}
    for span, number in runs(flow, found, ran):
        source = span.source
        file = _path(source.file)
        key = file, source.line, span.function
        within[key] = _most(within[key], number) if key in within else number
        text.setdefault(file, {})[source.line] = source.text
    lines: dict[str, dict[int, Count]] = {}
    for (file, number, _), count in within.items():
        known = lines.setdefault(file, {})
        known[number] = plus(known[number], count) if number in known else count
    names = _names(one)
    branches = _branches(code, one, flow, found, edges, names)
    functions: dict[str, list[Function]] = {}
    seen: set[int] = set()
    for span in found:
        if span.function not in seen:
            seen.add(span.function)
            entered = edges[span.function]  # entries are the first edges, in the order of functions
            made = Function(names[span.function], span.source.line, entered)
            functions.setdefault(_path(span.source.file), []).append(made)
    return [
        FileCoverage(
            file,
            dict(sorted(lines[file].items())),
            merge_branches(branches.get(file, ())),
            merge_functions(functions.get(file, ())),
            text[file],
        )
        for file in sorted(lines)
        if not file.startswith(_SYSTEM)
    ]


def _most(one: Count, other: Count) -> Count:
    if one is None or other is None:
        return (one or other) or None
    return max(one, other)


def _names(one: Covered) -> list[str]:
    return [each.function.name for each in sorted(one.image.functions, key=lambda f: f.at)]


def _branches(
    code: str,
    one: Covered,
    flow: Flow,
    found: list[Span],
    edges: list[Count],
    names: list[str],
) -> dict[str, list[Branch]]:
    made: dict[str, list[Branch]] = {}
    jumps = iter(counts.branches(flow, edges))
    jump = next(jumps, None)
    for span in found:
        while jump and jump.at < span.end:
            if jump.at >= span.start and not _may_goto(one, jump.at):
                source = span.source
                made.setdefault(_path(source.file), []).append(
                    Branch(
                        BranchKey(code, jump.at), one.program.name, names[span.function], source.line, source.column,
                        jump.taken, jump.not_taken,
                    )
                )  # fmt: skip
            jump = next(jumps, None)
    return made


def _may_goto(one: Covered, at: int) -> bool:
    """The kernel's own end of a loop (``can_loop``), to which no program gets in earnest."""
    return bpf.read(one.image.insns, at).code == 0xE5


def _by_instruction(
    code: str, one: Covered, flow: Flow, ran: list[Count], edges: list[Count]
) -> FileCoverage:
    shown = {line.index: line.text for line in disassemble(one.image.insns)}
    lines = {
        at: number
        for block, number in zip(flow.blocks, ran, strict=True)
        for at in range(block.start, block.end)
        if at in shown
    }
    names = _names(one)
    function = {block.start: block.function for block in flow.blocks}
    starts = sorted(function)
    branches = []
    at = 0
    for jump in counts.branches(flow, edges):
        while at + 1 < len(starts) and starts[at + 1] <= jump.at:
            at += 1
        if not _may_goto(one, jump.at):
            name = names[function[starts[at]]]
            key = BranchKey(code, jump.at)
            branches.append(
                Branch(key, one.program.name, name, jump.at, 0, jump.taken, jump.not_taken)
            )
    functions = [
        Function(name, first, edges[number])
        for number, (name, first) in enumerate(zip(names, flow.functions, strict=True))
    ]
    path = f"{one.spec.elf.origin}:{one.program.name}"
    return FileCoverage(path, lines, tuple(branches), tuple(functions), shown, unit="instruction")
