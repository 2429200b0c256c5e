"""What a failing test shows besides its error: what became of the packets, what was counted, and how to run it again.

Packets and verifier logs are kept in files that the report names.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from netbpf.constants import Hook
from netbpf.errors import VerifierError
from netns_fixtures.arrivals import count
from netns_fixtures.counters import flatten
from netns_fixtures.evidence import MOST, Evidence

if TYPE_CHECKING:
    from netns_fixtures.running import Running

_LIMIT: Final = 30  # counters shown
_WIDTH: Final = 13


def shown(item: pytest.Item, evidence: Evidence, error: BaseException) -> str:
    """The report of a test that failed with ``error``; writes the files it names."""
    evidence.collect()
    lines = [*_packets(evidence), *_counters(evidence)]
    files = [*_pcap(item, evidence), *_logs(item, evidence, error)]
    for what, text in [*files, ("again", _command(item))]:
        lines.append(f"{what + ':':<{_WIDTH}} {text}")
    return "\n".join(lines)


# --- what became of the packets -------------------------------------------------------------------


def _packets(evidence: Evidence) -> Iterator[str]:
    for place, number in evidence.sent_from.items():
        arrived = ", ".join(f"{n} arrived at {where}" for where, n in evidence.arrived_at.items())
        yield f"{count(number)} sent by {place}; {arrived or 'none was seen to arrive'}"
    if evidence.verdicts:
        yield "verdicts:"
        width = max(len(name) for name in evidence.verdicts)
        most = max(evidence.verdicts.values())
        for name, number in evidence.verdicts.most_common():
            yield f"  {name:<{width}}  {number:>6}  {'#' * max(1, round(40 * number / most))}"


# --- what was counted -----------------------------------------------------------------------------


def _counters(evidence: Evidence) -> Iterator[str]:
    for program in evidence.programs:
        moved = [] if program.closed else list(_moved(program))
        if not moved:
            continue
        yield f"counters of {program.name} ({program.kind}) since it was loaded:"
        width = max(len(name) for name, *_ in moved[:_LIMIT])
        for name, before, after in moved[:_LIMIT]:
            difference = f" ({after - before:+})" if _numbers(before, after) else ""  # type: ignore[operator]
            yield f"  {name:<{width}}  {before} -> {after}{difference}"
        if len(moved) > _LIMIT:
            yield f"  ... and {len(moved) - _LIMIT} more"


def _moved(program: "Running") -> Iterator[tuple[str, object, object]]:
    """(name, before, after) of what is not as the object has it."""
    initial: dict[str, object] = {}
    for name, values in program.initial().items():
        flatten(name, values, initial)
    for name, after in program.counters().items():
        before = initial.get(name, 0 if isinstance(after, int) else None)
        if before != after:
            yield name, before, after


def _numbers(before: object, after: object) -> bool:
    return all(isinstance(one, int) and not isinstance(one, bool) for one in (before, after))


# --- files ----------------------------------------------------------------------------------------


def directory(item: pytest.Item) -> Path:
    """Where the files of a test go: below ``--netns-keep``, or in pytest's temporary directory, which it prunes."""
    chosen = item.config.getoption("--netns-keep")
    name = re.sub(r"[^\w.-]+", "_", item.nodeid).strip("_")
    if len(name) > 150:
        name = f"{name[:140]}_{abs(hash(item.nodeid)) % 10**8:08}"
    if chosen:
        base = Path(item.config.invocation_params.dir, chosen)
    else:
        factory = getattr(item.config, "_tmp_path_factory", None)
        base = (
            factory.getbasetemp() / "netns_fixtures"
            if factory is not None
            else Path(tempfile.gettempdir(), f"netns_fixtures-{os.geteuid()}")
        )
    made = base / name
    made.mkdir(parents=True, exist_ok=True)
    return made


def _pcap(item: pytest.Item, evidence: Evidence) -> Iterator[tuple[str, str]]:
    if not evidence.events:
        return
    from netbpf.packets.capture import CaptureWriter

    path = directory(item) / "packets.pcapng"
    hook = Hook(evidence.kind.hook) if evidence.kind else Hook.XDP
    with CaptureWriter(path, hook) as writer:
        for event in evidence.events:
            writer.write(
                event.frame, event.time_ns, verdict=event.verdict, comment=event.what.encode()
            )
    words = f"the last {MOST}" if len(evidence.events) == MOST else f"{len(evidence.events)}"
    yield "packets", f"{path} ({words} sent, seen or run)"


def _logs(item: pytest.Item, evidence: Evidence, error: BaseException) -> Iterator[tuple[str, str]]:
    for refused in _rejections(error):
        path = directory(item) / "rejected.verifier.log"
        path.write_text(refused.log)
        yield "verifier log", f"{path} ({refused.message})"
    for number, program in enumerate(evidence.programs, 1):
        if not program.closed:
            path = directory(item) / f"{number}-{program.name}.verifier.log"
            path.write_text(program.verifier_log())
            yield "verifier log", f"{path}"


def _rejections(error: BaseException | None) -> Iterator[VerifierError]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, VerifierError) and error.log:
            yield error
        error = error.__cause__ or error.__context__


# --- again ----------------------------------------------------------------------------------------


def _command(item: pytest.Item) -> str:
    """What runs this test alone, from where this run was started."""
    path, colons, rest = item.nodeid.partition("::")
    there = os.path.relpath(item.config.rootpath / path, item.config.invocation_params.dir)
    return f"python -m pytest {shlex.quote(there + colons + rest)}"
