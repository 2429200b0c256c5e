"""What the tests of unconfirmed changes share: the watchers there are, and waiting for their end."""

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netbpf.state.pending import Pending
from netbpf.state.pending import read_all as pending_changes
from tests.faults.lab import DEADLINE, Lab

LONG = 600.0  # seconds; no test waits for it
SHORT = 0.3


def watchers(state: Path) -> set[int]:
    """The processes that wait for a confirmation of what is in a state directory.

    Each forks once, when it starts: one look may come when neither of the two is to be seen.
    """
    return _seen(state) | _seen(state)


def _seen(state: Path) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words == [b""]:
                (entry / "exe").readlink()  # threads of the kernel have none
                return _seen(state)  # it is just being started, and will have arguments in a moment
            if b"netbpf.manager.watcher" not in words:
                continue
            if f"NETBPF_STATE_DIR={state}".encode() in (entry / "environ").read_bytes().split(
                b"\0"
            ):
                found.add(int(entry.name))
        except OSError:
            continue  # ended meanwhile, or the kernel's
    return found


@contextmanager
def process(pid: int) -> Iterator[int]:
    """A pidfd."""
    fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        os.close(fd)


def ended(pid: int, patience: float = DEADLINE) -> bool:
    """Wait for the end of a process; whether it came."""
    try:
        with process(pid) as fd:
            return bool(select.select([fd], [], [], patience)[0])
    except ProcessLookupError:
        return True


def all_ended(state: Path) -> None:
    """Wait until no watcher is left."""
    for pid in watchers(state):
        assert ended(pid), f"watcher {pid} goes on"


def settled(state: Path) -> list[Pending]:
    """What waits for a confirmation once every watcher without such a thing has ended."""
    end = time.monotonic() + DEADLINE
    while True:
        waiting = pending_changes()
        if {one.watcher for one in waiting} == watchers(state) and all(
            one.phase == "waiting" and not one.due for one in waiting
        ):
            return waiting
        assert time.monotonic() < end, (waiting, watchers(state))
        os.sched_yield()


def the_pending() -> Pending:
    [one] = pending_changes()
    return one


def forget_words(lab: Lab) -> None:
    """Remove the words of what went back: they stay for a day."""
    for path in (lab.state / "undone").glob("*"):
        path.unlink()
