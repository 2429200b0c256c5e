"""Tracing files and performance events: what tracepoints and kprobes are attached to.

tracefs is often not mounted, or hidden. netbpf looks into one of its own that is in no directory (fsopen(2), Linux 5.2)
and is gone when the descriptor is closed, so nothing changes for anybody else.
"""

import ctypes
import os
import struct

from netbpf._sys.fd import Fd
from netbpf.errors import KernelError, NotSupportedError

# The numbers from 424 on are the same everywhere (Documentation/process/adding-syscalls.rst).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CREATE, _CLOEXEC = 6, 1  # FSCONFIG_CMD_CREATE, FS*_CLOEXEC
_PERF_EVENT_OPEN = {
    "x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331, "loongarch64": 241,
}  # fmt: skip
_ATTR_SIZE = 128  # bytes; struct perf_event_attr of Linux 5.1 and later
_FLAG_CLOEXEC = 1 << 3
PERF_TYPE_TRACEPOINT = 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(name: str, number: int, *values: object) -> int:
    result = int(_libc.syscall(number, *values))
    if result < 0:
        raise KernelError(name, ctypes.get_errno())
    return result


def _text(value: str) -> ctypes.c_char_p:
    return ctypes.c_char_p(value.encode())


def detached_mount(kind: str) -> Fd:
    """A file system that is mounted nowhere, by its root directory. KernelError: EPERM without CAP_SYS_ADMIN,
    ENODEV where the kernel has none of this kind, ENOSYS before Linux 5.2.
    """
    with Fd(_call("fsopen", _FSOPEN, _text(kind), _CLOEXEC)) as opened:
        _call("fsconfig", _FSCONFIG, opened.fileno(), _CREATE, None, None, 0)
        return Fd(_call("fsmount", _FSMOUNT, opened.fileno(), _CLOEXEC, 0))


def perf_event_open(
    kind: int, config: int, *, name: str | None = None, offset: int = 0, pid: int = -1, cpu: int = 0
) -> Fd:
    """perf_event_open(2) for a tracepoint (``config`` is its id) or a kprobe (``name`` is its function).

    The event counts nothing by itself. KernelError with the errno.
    """
    number = _PERF_EVENT_OPEN.get(os.uname().machine)
    if number is None:
        raise NotSupportedError(f"netbpf does not know perf_event_open(2) on {os.uname().machine}")
    text = None if name is None else ctypes.create_string_buffer(name.encode())
    attr = ctypes.create_string_buffer(_ATTR_SIZE)
    # struct perf_event_attr: type, size, config, sample_period; config1 and config2 at 56 and 64.
    struct.pack_into("<IIQQ", attr, 0, kind, _ATTR_SIZE, config, 0)
    struct.pack_into("<QQ", attr, 56, 0 if text is None else ctypes.addressof(text), offset)
    return Fd(_call("perf_event_open", number, attr, pid, cpu, -1, _FLAG_CLOEXEC))
