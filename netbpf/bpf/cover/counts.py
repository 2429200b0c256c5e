"""From what the probes counted to every block and branch."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from netbpf.bpf.cover.flow import Flow, Kind


class Branch(NamedTuple):
    """A conditional jump at instruction ``at``: how often control went each way; None where nobody looked."""

    at: int
    taken: int | None
    not_taken: int | None


def blocks(flow: Flow, edges: Sequence[int | None]) -> list[int | None]:
    """How often each block ran: as often as control came in, by whatever edge. None where that is not known.

    An edge without a choice carries what its source ran; a circle of those alone would never end, so there is none.
    """
    found: list[int | None] = [None] * len(flow.blocks)
    done = [False] * len(flow.blocks)
    for wanted in range(len(flow.blocks)):
        way = [wanted]
        while way:
            block = way[-1]
            waits = [
                source
                for number in flow.entering[block]
                if flow.edges[number].kind is Kind.FLOW
                and not done[source := flow.edges[number].source]
                and source not in way
            ]
            if not done[block] and waits:
                way += waits[:1]
                continue
            way.pop()
            done[block] = True
            found[block] = _sum(
                found[flow.edges[n].source] if flow.edges[n].kind is Kind.FLOW else edges[n]
                for n in flow.entering[block]
            )
    return found


def _sum(numbers: Iterable[int | None]) -> int | None:
    known, unknown = 0, False
    for one in numbers:
        if one is None:
            unknown = True
        else:
            known += one
    # What was reached was reached; what was not may have been by a way that nobody watched.
    return None if unknown and not known else known


def branches(flow: Flow, edges: Sequence[int | None]) -> list[Branch]:
    """Every conditional jump, in order."""
    ways: dict[int, dict[Kind, int | None]] = {}
    for number, one in enumerate(flow.edges):
        if one.kind in (Kind.TAKEN, Kind.NOT_TAKEN):
            ways.setdefault(one.at, {})[one.kind] = edges[number]
    return [
        Branch(at, both.get(Kind.TAKEN), both.get(Kind.NOT_TAKEN))
        for at, both in sorted(ways.items())
    ]
