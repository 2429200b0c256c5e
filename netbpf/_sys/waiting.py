"""Waiting for a time and for files: timerfd_create(2), which Python has from 3.13 on, and inotify(7)."""

import ctypes
import os
import struct
from typing import Final

from netbpf._sys.fd import Fd
from netbpf.errors import KernelError

CLOCK_BOOTTIME: Final = 7
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_DELETE: Final = 0x200
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800
IN_ONLYDIR: Final = 0x01000000
_TFD_TIMER_ABSTIME: Final = 1
_ITIMERSPEC: Final = struct.Struct("=qqqq")  # interval, then value, each in seconds and nanoseconds
_CLOEXEC_NONBLOCK: Final = os.O_CLOEXEC | os.O_NONBLOCK

_libc = ctypes.CDLL(None, use_errno=True)


def _check(call: str, result: int) -> int:
    if result < 0:
        raise KernelError(call, ctypes.get_errno())
    return result


def boottime_timer(at: float) -> Fd:
    """A descriptor that is readable once CLOCK_BOOTTIME shows ``at`` seconds; it goes on while suspended (Linux 3.15).

    A deadline that passed during a suspend is seen directly after it.
    """
    fd = Fd(_check("timerfd_create", _libc.timerfd_create(CLOCK_BOOTTIME, _CLOEXEC_NONBLOCK)))
    seconds = int(at)
    # A value of zero would switch it off.
    value = _ITIMERSPEC.pack(0, 0, seconds, max(int((at - seconds) * 1e9), 1))
    try:
        _check(
            "timerfd_settime",
            _libc.timerfd_settime(fd.fileno(), _TFD_TIMER_ABSTIME, value, None),
        )
    except KernelError:
        fd.close()
        raise
    return fd


def inotify() -> Fd:
    """A descriptor that is readable when something happens in the watched directories; KernelError (EMFILE)."""
    return Fd(_check("inotify_init1", _libc.inotify_init1(_CLOEXEC_NONBLOCK)))


def inotify_directory(fd: int, path: str, events: int) -> None:
    """Watch a directory, also for going away itself; KernelError where it does not exist (ENOENT)."""
    mask = events | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
    _check("inotify_add_watch", _libc.inotify_add_watch(fd, os.fsencode(path), mask))


def drain(fd: int) -> None:
    """Read whatever a non-blocking descriptor has."""
    try:
        while os.read(fd, 65536):
            pass
    except BlockingIOError:
        return
