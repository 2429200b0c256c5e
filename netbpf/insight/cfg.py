"""The control flow of a program as a graph in DOT, the language of Graphviz."""

import shutil
import subprocess
from collections.abc import Iterator

from netbpf.bpf import insn as bpf
from netbpf.bpf.disasm import branch_target, falls_through
from netbpf.errors import NetbpfError, ToolMissingError
from netbpf.insight.model import CodeLine, Listing
from netbpf.text import escape


def blocks(lines: tuple[CodeLine, ...]) -> list[tuple[CodeLine, ...]]:
    """Instructions that always run one after the other; a block begins where a jump leads to, or behind one."""
    starts = {lines[0].index} if lines else set()
    for one, after in zip(lines, [*lines[1:], None], strict=True):
        insn = bpf.read(bytes.fromhex(one.opcodes), 0)
        target = branch_target(one.index, insn)
        if target is not None:
            starts.add(target)
        if after and (target is not None or not falls_through(insn)):
            starts.add(after.index)
    found: list[list[CodeLine]] = []
    for one in lines:
        if one.index in starts:
            found.append([])
        found[-1].append(one)
    return [tuple(each) for each in found]


def edges(block: tuple[CodeLine, ...], following: int | None) -> Iterator[tuple[int, str]]:
    """Where a block leads to: the first instruction of another, and "taken", "not taken" or ""."""
    insn = bpf.read(bytes.fromhex(block[-1].opcodes), 0)
    target = branch_target(block[-1].index, insn)
    both = target is not None and falls_through(insn)
    if target is not None:
        yield target, "taken" if both else ""
    if falls_through(insn) and following is not None:
        yield following, "not taken" if both else ""


def dot(functions: list[Listing], name: str) -> Iterator[str]:
    """The graph, line by line: a cluster for each function."""
    yield f'digraph "{_quoted(name)}" {{'
    yield '\tnode [shape=box, fontname="monospace"];'
    for number, function in enumerate(functions):
        yield f"\tsubgraph cluster_{number} {{"
        yield f'\t\tlabel="{_quoted(function.prototype)}";'
        parts = blocks(function.lines)
        for block, after in zip(parts, [*parts[1:], ()], strict=True):
            text = "".join(f"{_quoted(line)}\\l" for line in _words(block))
            yield f'\t\tb{block[0].index} [label="{text}"];'
            for target, label in edges(block, after[0].index if after else None):
                words = f' [label="{label}"]' if label else ""
                yield f"\t\tb{block[0].index} -> b{target}{words};"
        yield "\t}"
    yield "}"


def _words(block: tuple[CodeLine, ...]) -> Iterator[str]:
    for one in block:
        if one.source and one.source.text:
            yield f"; {escape(one.source.text)}"
        yield f"{one.index:>4}: {one.text}" + (f" ; {escape(one.note)}" if one.note else "")


def _quoted(text: str) -> str:
    return escape(text).replace("\\", "\\\\").replace('"', '\\"')


def svg(graph: str) -> str:
    """The picture of a graph, by Graphviz. Raises ToolMissingError."""
    tool = shutil.which("dot")
    if tool is None:
        raise ToolMissingError(
            "drawing a graph needs Graphviz, which is not installed",
            hint="apt install graphviz, or take the graph itself: --cfg dot",
        )
    done = subprocess.run([tool, "-Tsvg"], input=graph, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetbpfError(f"Graphviz failed: {escape(done.stderr.strip())}")
    return done.stdout
