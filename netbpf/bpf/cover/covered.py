"""A program with probes: the arrays they write to, how they lie, and what they counted."""

from dataclasses import dataclass, field
from typing import Final

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf.cover.flow import Flow
from netbpf.bpf.cover.plan import Action, Level, Probe
from netbpf.bpf.cover.rewrite import Laid
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.constants import COVER_MAP, MapType

_WORDS: Final = {
    Level.TRACE: "the way of a packet",
    Level.COUNTS: "counts",
    Level.HITS: "what was reached, not how often",
    Level.FUNCTIONS: "which functions were reached and what runs in them before their first branch",
    Level.NOTHING: "nothing",
}


class Numbers:
    """An array that probes write to."""

    def __init__(self, size: int) -> None:
        """Make one of ``size`` bytes. Raises KernelError."""
        self.size = size
        self.fd: Fd = sys_bpf.map_create(MapType.ARRAY, 4, size, 1, name=COVER_MAP)

    def read(self) -> memoryview:
        """All of them, as they are now."""
        found = sys_bpf.map_lookup(self.fd.fileno(), bytes(4), self.size)
        return memoryview(found or bytes(self.size)).cast("Q")

    def clear(self) -> None:
        """Begin at nothing."""
        sys_bpf.map_update(self.fd.fileno(), bytes(4), bytes(self.size))

    def close(self) -> None:
        """Let go of it; programs that use it keep it."""
        self.fd.close()


@dataclass(frozen=True, slots=True)
class Variant:
    """One way in which the probes of a program lie."""

    level: Level
    probes: tuple[Probe, ...]
    laid: Laid
    numbers: Numbers
    complete: bool = True  # every probe of the level is there, and does what the level says


@dataclass(slots=True)
class Covered:
    """One program's code, however often it was loaded, and its probes.

    ``level`` is the least that was counted of it, ``note`` says why it is no more ("": it is all that was asked for).
    ``image`` is the code without probes, ``loads`` how often it was loaded.
    """

    spec: ObjectSpec
    program: ProgramSpec
    image: Image
    flow: Flow | None
    level: Level
    note: str = ""
    loads: int = 0
    variants: list[Variant] = field(default_factory=list)

    def edges(self) -> list[int | None]:
        """How often control went along each edge that is counted; None where nobody looked.

        A probe that only says whether it was reached gives 1.
        """
        flow = self.flow
        found: list[int | None] = [None] * (len(flow.edges) if flow else 0)
        for one in self.variants:
            if one.level is Level.TRACE:
                continue
            numbers = one.numbers.read()
            for probe in one.probes:
                number = numbers[probe.slot]
                found[probe.edge] = (found[probe.edge] or 0) + number
        return found

    @property
    def exact(self) -> bool:
        """Whether all numbers are counts: not 0 and 1 alone, nor how often at least."""
        return all(
            one.complete and all(probe.action is not Action.SET for probe in one.probes)
            for one in self.variants
        )


def said(one: Covered) -> str:
    """What is not as it was asked for, in a sentence; "" if all is."""
    if not one.note:
        return ""
    words = _WORDS[one.level]
    if not all(variant.complete for variant in one.variants):
        words += ", and of some lines only whether they were reached, or nothing"
    return f"{one.note}; what there is of it: {words}"
