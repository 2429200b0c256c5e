"""Changes that wait for a confirmation, and what became of those that went back.

A file per operation holds everything that going back needs. It is written before the hook is changed, and again,
with the deadline, once the whole operation has succeeded. ``Phase.ENDED`` tells the watcher that nothing is left to
do: a file that is merely gone does not, for /run may be emptied by anybody.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from netbpf import layout
from netbpf.constants import Hook
from netbpf.model import Interface, Occupant
from netbpf.state.codec import plain, revive
from netbpf.state.files import discard, files_in, read_small, write_whole
from netbpf.state.records import Record, boot_id

_LIMIT = 64 << 20  # bytes; a record may have 16 MiB
KEPT_NOTES = 86400.0  # seconds that the word of a change that went back stays

T = TypeVar("T")


class Phase(StrEnum):
    """How far a change is."""

    CHANGING = "changing"  # the operation runs; if nobody holds the lock, it was killed
    WAITING = "waiting"  # for a confirmation, until the deadline
    ENDED = "ended"  # confirmed, or gone back: the watcher may end


@dataclass(frozen=True, slots=True)
class Step:
    """One changed hook: ``before`` is what was taken off or replaced (None: nothing was there), ``after`` the id of
    the program that came (0: none), ``tag`` that of the program before. ``record`` is netbpf's record of before, None
    where netbpf ran nothing.
    """

    interface: Interface
    hook: Hook
    before: Occupant | None
    tag: str
    after: int
    record: Record | None


@dataclass(frozen=True, slots=True)
class Pending:
    """One operation and its hooks.

    ``what`` is the command's word, ``seconds`` the time to confirm in, ``deadline`` on CLOCK_BOOTTIME in seconds,
    ``since`` Unix time. ``netns`` is the namespace's inode, ``cookie`` its number that is never used again.
    ``watcher`` is the process that waits, ``started`` its start in clock ticks since boot (proc(5), stat).
    """

    what: str
    phase: Phase
    netns: int
    cookie: int
    netns_name: str | None
    seconds: float
    deadline: float
    since: float
    watcher: int
    started: int
    steps: tuple[Step, ...]
    boot: str = ""

    @property
    def name(self) -> str:
        """Of its file: unique until the next boot."""
        return f"{self.watcher}-{self.started}"

    @property
    def left(self) -> float:
        """Seconds until the deadline; not below 0."""
        return max(self.deadline - boottime(), 0)

    @property
    def due(self) -> bool:
        """Whether it has to go back: the deadline has passed. Has a meaning while it waits."""
        return self.phase is Phase.WAITING and boottime() >= self.deadline

    def on(self, interface: Interface, hook: Hook) -> Step | None:
        """The step on a hook."""
        place = (interface.netns, interface.index, hook)
        return next((one for one in self.steps if _place(one) == place), None)

    def watched(self) -> bool:
        """Whether its watcher is alive (as far as can be seen: another PID namespace hides it)."""
        return start_time(self.watcher) == self.started


@dataclass(frozen=True, slots=True)
class WentBack:
    """The word of a change that went back, one per hook.

    ``at`` is Unix time in seconds, ``why`` ends the sentence "it went back: ...", ``result`` says what is there now
    that is not plainly what was there before ("" if nothing), ``failed`` that it could not go back.
    """

    interface: Interface
    hook: Hook
    what: str
    netns_name: str | None
    at: float
    why: str
    result: str = ""
    failed: bool = False
    boot: str = ""


def _place(one: Step | WentBack) -> tuple[int, int, Hook]:
    return one.interface.netns, one.interface.index, one.hook


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it goes on while the machine is suspended, and nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where there is none (or nothing but its exit code)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything.
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in (b"Z", b"X") else int(words[19])


# --- pending changes ---


def write(pending: Pending) -> None:
    """Keep a pending change; NetbpfError where it cannot be written."""
    path = layout.pending_file(pending.name)
    write_whole(path, json.dumps(plain(replace(pending, boot=boot_id()))).encode())


def read(name: str) -> Pending | None:
    """A pending change by the name of its file; None for none, and for what cannot be read."""
    found = _parse(layout.pending_file(name), Pending)
    return found if found and found.name == name and found.boot == boot_id() else None


def read_all() -> list[Pending]:
    """All pending changes of this host, but for those that have ended. NetbpfError where others could write there."""
    found = [read(path.stem) for path in files_in(layout.pending_file("").parent)]
    return [one for one in found if one and one.phase is not Phase.ENDED]


def waiting() -> list[Pending]:
    """Those that wait for a confirmation; operations that run at this moment are left out."""
    return [one for one in read_all() if one.phase is Phase.WAITING]


def remove(pending: Pending) -> None:
    """Forget a pending change; harmless where it is gone."""
    discard(layout.pending_file(pending.name))


def remove_name(name: str) -> None:
    """Forget the one of a file name."""
    discard(layout.pending_file(name))


def on(interface: Interface, hook: Hook) -> Pending | None:
    """The change that is pending on a hook."""
    return next((one for one in read_all() if one.on(interface, hook)), None)


def needed_records() -> Iterator[Record]:
    """The records that going back needs, of all pending changes: their objects have to be kept."""
    for pending in read_all():
        for step in pending.steps:
            if step.record:
                yield step.record


def sweep() -> None:
    """Remove files of changes that have ended and whose watcher is gone, of another boot, and damaged ones."""
    directory = layout.pending_file("").parent
    for path in files_in(directory):
        found = read(path.stem) if path.suffix == ".json" else None
        if found is None or (found.phase is Phase.ENDED and not found.watched()):
            discard(path)
    for path in files_in(layout.undone_file(0, 0, Hook.XDP).parent):
        word = _word(path)
        if word is None or not 0 <= time.time() - word.at < KEPT_NOTES:
            discard(path)


# --- what went back ---


def note(word: WentBack) -> None:
    """Remember that a hook went back. NetbpfError where it cannot be written."""
    path = layout.undone_file(*_place(word))
    write_whole(path, json.dumps(plain(replace(word, boot=boot_id()))).encode())


def went_back() -> list[WentBack]:
    """The hooks that went back within a day and have not been changed since."""
    found = (_word(path) for path in files_in(layout.undone_file(0, 0, Hook.XDP).parent))
    return [one for one in found if one]


def forget(interface: Interface, hook: Hook) -> None:
    """Forget that a hook went back: it has been changed since."""
    discard(layout.undone_file(interface.netns, interface.index, hook))


def _word(path: Path) -> WentBack | None:
    found = _parse(path, WentBack)
    mine = found and layout.undone_file(*_place(found)).name == path.name
    return found if found and mine and found.boot == boot_id() else None


def _parse(path: Path, kind: type[T]) -> T | None:
    data = read_small(path, _LIMIT)
    if data is None:
        return None
    try:
        return revive(kind, json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
