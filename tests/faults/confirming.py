"""What the tests of unconfirmed changes share: the watchers there are, and waiting for their end."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netbpf.state.pending import Pending
from netbpf.state.pending import read_all as pending_changes
from tests.faults.lab import Lab
from tests.support.waiting import DEADLINE

_PYTHON = Path(sys.executable).name[:15].encode() + b"\n"  # as in /proc/PID/comm
_MOST = 1 << 20  # bytes; the kernel gives arguments and environments in one piece
LONG = 600.0  # seconds; no test waits for it
SHORT = 0.3


def watchers(state: Path) -> set[int]:
    """The processes that wait for a confirmation of what is in a state directory.

    Each forks once, when it starts: one look may come when neither of the two is to be seen.
    """
    return _seen(state) | _seen(state)


def _seen(state: Path) -> set[int]:
    mine = _read("self", "comm")
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            # To look at the arguments of each process costs ten times as much as at its name. Until execve(2) is
            # done, the name is that of who starts it: a process that was started like this one, or this one.
            if _read(pid, "comm") not in (mine, _PYTHON):
                continue
            words = _read(pid, "cmdline").split(b"\0")
            if words == [b""]:
                Path(f"/proc/{pid}/exe").readlink()  # threads of the kernel have none
                return _seen(state)  # it is just being started, and will have arguments in a moment
            if b"netbpf.manager.watcher" not in words:
                continue
            if f"NETBPF_STATE_DIR={state}".encode() in _read(pid, "environ").split(b"\0"):
                found.add(int(pid))
        except OSError:
            continue  # ended meanwhile, or the kernel's
    return found


def _read(pid: str, name: str) -> bytes:
    fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
    try:
        return os.read(fd, _MOST)
    finally:
        os.close(fd)


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
    """What waits for a confirmation once every watcher without such a thing has ended.

    The command has ended: a watcher that has nothing to wait for by now goes back, if need be, and ends.
    """
    end = time.monotonic() + DEADLINE
    while True:
        there = watchers(state)
        waiting = pending_changes()
        settled = {one.watcher for one in waiting if one.phase == "waiting" and not one.due}
        if len(settled) == len(waiting) and settled == there:
            return waiting
        assert time.monotonic() < end, (waiting, there)
        for pid in there - settled:
            assert ended(pid), f"watcher {pid} goes on, {waiting}"


def the_pending() -> Pending:
    [one] = pending_changes()
    return one


def forget_words(lab: Lab) -> None:
    """Remove the words of what went back: they stay for a day."""
    for path in (lab.state / "undone").glob("*"):
        path.unlink()
