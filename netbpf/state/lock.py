"""One netbpf at a time changes hooks: a flock whose holder is named when waiting takes too long."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netbpf import layout
from netbpf.errors import LockTimeoutError, NetbpfError
from netbpf.state.files import private_directory
from netbpf.text import escape

DEFAULT_TIMEOUT = 30.0  # seconds


@contextmanager
def locked(timeout: float = DEFAULT_TIMEOUT) -> Iterator[None]:
    """Hold the lock of the state directory; LockTimeoutError after ``timeout`` seconds, naming the holder.

    The kernel lets go of a flock when its holder dies, so kill -9 leaves no lock behind. The descriptor is
    close-on-exec: a child that outlives us does not keep it.
    """
    path = layout.lock_file()
    private_directory(path.parent)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise NetbpfError(f"cannot open the lock {path}: {error.strerror}") from None
    try:
        _acquire(fd, timeout)
        _sign(fd)
        yield
    finally:
        os.close(fd)


def _sign(fd: int) -> None:
    # A courtesy to those who wait: a full file system must not keep anybody from detaching.
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {' '.join(sys.argv)[:200]}\n".encode(errors="replace"), 0)


def _acquire(fd: int, timeout: float) -> None:
    deadline, pause = time.monotonic() + timeout, 0.001
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                break
        # flock(2) itself has no timeout.
        time.sleep(min(pause, max(deadline - time.monotonic(), 0)))
        pause = min(pause * 1.5, 0.05)
    holder = escape(os.pread(fd, 300, 0).decode(errors="replace").strip()).partition(" ")
    who = f"process {holder[0]} ({holder[2]})" if holder[0] else "another process"
    raise LockTimeoutError(
        f"{who} has held the lock for more than {timeout:g} s",
        hint="wait for it, or give more time with --lock-timeout SECONDS",
    )
