"""From instructions to the lines of source they come from, as the object's BTF tells it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.ext import Source
from netbpf.bpf.cover.flow import Flow
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ObjectError


class Span(NamedTuple):
    """Instructions ``start`` to ``end`` (excluded), all of one function, that come from one place in the source."""

    start: int
    end: int
    function: int
    source: Source


def spans(spec: ObjectSpec, image: Image) -> list[Span]:
    """Where the instructions come from, in their order; what comes from no line (number 0) is left out."""
    if spec.btf is None:
        return []
    starts = sorted(one.at for one in image.functions)
    records = {one.at: one for one in image.lines}
    cuts = sorted({*starts, *records})
    ends = [*cuts[1:], len(image.insns) // bpf.SIZE]
    found: list[Span] = []
    function, source = -1, None
    for start, end in zip(cuts, ends, strict=True):
        if function + 1 < len(starts) and start == starts[function + 1]:
            function, source = function + 1, None
        if record := records.get(start):
            try:
                texts = spec.btf.string(record.file_off), spec.btf.string(record.text_off)
            except ObjectError:
                continue  # a line whose strings do not exist explains nothing, and harms nothing
            source = Source(*texts, record.line_col >> 10, record.line_col & 0x3FF)
        if source and source.line and source.file:
            found.append(Span(start, end, function, source))
    return found


def runs(
    flow: Flow, found: Sequence[Span], ran: Sequence[int | None]
) -> Iterator[tuple[Span, int | None]]:
    """Each span with how often each block ran in which it has instructions."""
    at = 0
    for number, block in enumerate(flow.blocks):
        while at < len(found) and found[at].end <= block.start:
            at += 1
        for span in found[at:]:
            if span.start >= block.end:
                break
            yield span, ran[number]
