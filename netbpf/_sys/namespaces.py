"""setns(2) and unshare(2) (Python has them from 3.12 on), and mount(2)."""

import ctypes
import os

from netbpf.errors import KernelError

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(call: str, result: int) -> None:
    if result < 0:
        raise KernelError(call, ctypes.get_errno())


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace ``fd`` stands for; KernelError on failure."""
    _check("setns", _libc.setns(fd, kind))


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own; KernelError on failure."""
    _check("unshare", _libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2); KernelError on failure."""
    _check(
        "mount",
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            os.fsencode(kind),
            ctypes.c_ulong(flags),
            data.encode(),
        ),
    )


def file_system_type(path: str) -> int:
    """The magic number of the file system a path is on (statfs(2)); KernelError where it does not exist."""
    buffer = ctypes.create_string_buffer(256)
    _check("statfs", _libc.statfs(os.fsencode(path), buffer))
    return int.from_bytes(buffer.raw[:8], "little")
