"""Programs of which can be told what one packet made them do: the instructions that ran, in order, what they compared
where they branched, and what they asked of their maps.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Self

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover import decisions, touches
from netbpf.bpf.cover.active import Submit
from netbpf.bpf.cover.collector import Collector, Covered, said
from netbpf.bpf.cover.decisions import Compared
from netbpf.bpf.cover.flow import Flow, Unknown, analyse
from netbpf.bpf.cover.insert import Around, insert
from netbpf.bpf.cover.outside import acts, silenced
from netbpf.bpf.cover.plan import Level
from netbpf.bpf.cover.touches import Site, Touched
from netbpf.bpf.cover.trace import Ran, ran
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.text import escape


class _Watched(IntEnum):
    """How much is written down besides the way, from most to least."""

    ALL = 3
    VALUES = 2  # not what is compared
    KEYS = 1  # nor what lookups find


_LOST = {
    _Watched.VALUES: "which values it compares",
    _Watched.KEYS: "which values it compares, and what it finds in maps",
}


class Branch(NamedTuple):
    """A conditional jump that was met: ``where`` in ``Seen.ran``; what it compared, None where nobody looked."""

    where: int
    taken: bool
    compared: Compared | None


class Touch(NamedTuple):
    """A call of a helper for maps that was made: ``where`` in ``Seen.ran``, None where that is lost."""

    where: int | None
    program: str
    what: Touched


class Record(NamedTuple):
    """What was written down since ``clear``, and how much before it is lost: quick to take; for ``Watcher.seen``."""

    edges: list[tuple[Covered, int]]
    lost: int
    touches: list[bytes]
    touches_lost: int
    decisions: list[bytes]


class Seen(NamedTuple):
    """What programs did since ``clear``. ``lost`` are edges that came before and were too many to keep.

    ``edges`` are those along which control went, as ``Collector.trace`` gives them.
    """

    edges: list[tuple[Covered, int]]
    ran: list[Ran]
    branches: list[Branch]
    touches: list[Touch]
    lost: int
    touches_lost: int


class Watcher:
    """Instruments programs while it is in use (``with collecting(watcher):``). Close it, or use it in a ``with``.

    ``notes`` say of which program something cannot be told, and why.
    """

    def __init__(self) -> None:
        """Raises KernelError."""
        self.collector = Collector(Level.TRACE)
        self.notes: list[str] = []
        self._touches, self._decisions = touches.ring(), decisions.ring()
        self._sites: list[tuple[str, Covered | None, Site]] = []
        self._jumps: list[tuple[Covered | None, int]] = []
        self._own: dict[
            int, frozenset[int]
        ] = {}  # by covered code: the instructions that it has itself

    # --- instrumenting ---

    def instrument(
        self, spec: ObjectSpec, program: ProgramSpec, image: Image, submit: Submit
    ) -> Image:
        """The code to load in place of ``image``: with as much as the verifier takes."""
        image, words = silenced(program.name, image)
        self._note(words, *acts(program.name, image))
        try:
            flow = analyse(image.insns, [one.at for one in image.functions], _throws(image))
            for much in _Watched:
                made, sites, jumps, own = self._with_sites(spec, image, flow, much)
                if submit(made, False).errno:
                    continue
                out = self.collector.instrument(spec, program, made, submit)
                covered = self._covered(made)
                if (covered and covered.level is Level.TRACE) or much is _Watched.KEYS:
                    self._sites += [(program.name, covered, one) for one in sites]
                    self._jumps += [(covered, at) for at in jumps]
                    self._own[id(covered)] = own
                    self._remark(program, covered, _LOST.get(much, ""))
                    return out
        except Unknown:
            pass
        if submit(image, False).errno:
            return image  # the loader says what is wrong with it
        out = self.collector.instrument(spec, program, image, submit)
        missing = "which values it compares, and which entries of maps it asks for"
        self._remark(program, self._covered(image), missing)
        return out

    def _with_sites(
        self, spec: ObjectSpec, image: Image, flow: Flow, much: _Watched
    ) -> tuple[Image, list[Site], list[int], frozenset[int]]:
        places, sites = touches.around(
            spec, image, flow, self._touches, len(self._sites), values=much >= _Watched.VALUES
        )
        more: dict[int, Around] = {}
        jumps: list[int] = []
        if much is _Watched.ALL:
            more, jumps = decisions.around(image, flow, self._decisions, len(self._jumps))
        made, moved = insert(image, {**places, **more})
        found = [one._replace(at=moved[one.at]) for one in sites]
        return made, found, [moved[at] for at in jumps], frozenset(moved.values())

    def _covered(self, image: Image) -> Covered | None:
        known = reversed(self.collector.covered)
        return next((one for one in known if one.image.insns == image.insns), None)

    def _remark(self, program: ProgramSpec, covered: Covered | None, missing: str) -> None:
        words = [said(covered)] if covered else []
        if missing:
            name = escape(program.name)
            words.append(f"the verifier does not take {name} with all that is asked of it; "
                         f"of it cannot be told {missing}")  # fmt: skip
        self._note(*words)

    def _note(self, *words: str) -> None:
        self.notes += [one for one in words if one and one not in self.notes]

    # --- reading ---

    def clear(self) -> None:
        """Forget what was seen."""
        self.collector.clear()
        self._touches.clear()
        self._decisions.clear()

    def record(self) -> Record:
        """What was written down since ``clear``."""
        return Record(*self.collector.trace(), *self._touches.read(), self._decisions.read()[0])

    def seen(self, record: Record | None = None) -> Seen:
        """What happened since ``clear``, or until a record was taken."""
        one = record or self.record()
        found = list(ran(one.edges))
        calls = list(self._calls(found, one.touches))
        branches = list(self._branches(found, list(one.decisions)))
        return Seen(one.edges, found, branches, calls, one.lost, one.touches_lost)

    def _calls(self, found: list[Ran], entries: list[bytes]) -> Iterator[Touch]:
        sites = [site for _, _, site in self._sites]
        made: list[Touch] = []
        index = len(found)
        for entry in reversed(entries):
            what = touches.touched(entry, sites)
            program, covered, site = self._sites[what.number]
            before = next(
                (
                    n for n in range(index - 1, -1, -1)
                    if found[n].at == site.at and found[n].covered is covered
                ),
                None,
            )  # fmt: skip
            index = index if before is None else before
            made.append(Touch(before, program, what))
        return reversed(made)

    def _branches(self, found: list[Ran], entries: list[bytes]) -> Iterator[Branch]:
        jumps: list[Branch] = []
        for index in range(len(found) - 1, -1, -1):
            covered, at = found[index]
            if covered.flow is None or at not in covered.flow.deciding:
                continue
            if id(covered) in self._own and at not in self._own[id(covered)]:
                continue
            jump = bpf.read(covered.image.insns, at)
            if jump.code & 0x07 not in (5, 6) or jump.code == bpf.CALL:
                continue
            follows = found[index + 1] if index + 1 < len(found) else None
            taken = follows is not None and follows != Ran(covered, at + 1)
            what = None
            # What both say last belongs together: from the end, because the beginning may be lost.
            if entries and self._is(decisions.site_of(entries[-1]), found[index]):
                what = decisions.compared(entries.pop(), jump, taken=taken)
            jumps.append(Branch(index, taken, what))
        return reversed(jumps)

    def _is(self, number: int, one: Ran) -> bool:
        covered, at = self._jumps[number]
        return covered is one.covered and at == one.at

    def close(self) -> None:
        """Let go of what is written to."""
        self.collector.close()
        self._touches.close()
        self._decisions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _throws(image: Image) -> list[int]:
    return [one.at for one in image.externs if one.name.partition("___")[0] == "bpf_throw"]
