"""Performance events with samples: what BPF programs write (PERF_COUNT_SW_BPF_OUTPUT, Linux 4.4), and tracepoints."""

import ctypes
import errno
import os
import struct
from typing import Final

from netbpf._sys.fd import Fd
from netbpf._sys.tracing import (
    _ATTR_SIZE,
    _FLAG_CLOEXEC,
    _PERF_EVENT_OPEN,
    PERF_TYPE_TRACEPOINT,
    _call,
)
from netbpf.errors import KernelError, NotSupportedError

_TYPE_SOFTWARE: Final = 1
_COUNT_SW_BPF_OUTPUT: Final = 10
_SAMPLE_TID: Final = 1 << 1
_SAMPLE_CALLCHAIN: Final = 1 << 5
_SAMPLE_ID_ALL: Final = 1 << 18
_EXCLUDE_CALLCHAIN_USER: Final = 1 << 22
_BPF_EVENT: Final = 1 << 30
_SAMPLE_TIME: Final = 1 << 2
_SAMPLE_RAW: Final = 1 << 10
_FORMAT_LOST: Final = 1 << 4  # Linux 6.0, kernel commit 119a784c8127
_USE_CLOCKID: Final = 1 << 25
_CLOCK_MONOTONIC: Final = 1


def bpf_output_event(cpu: int) -> tuple[Fd, bool]:
    """An event for what programs write on one CPU, with times of CLOCK_MONOTONIC as bpf_ktime_get_ns() gives them.

    Also says whether read(2) of it tells what was lost: two u64, of which the second counts. KernelError: EACCES or
    EPERM without CAP_PERFMON, ENODEV for a CPU that is not online.
    """
    return _sampling(
        _TYPE_SOFTWARE, _COUNT_SW_BPF_OUTPUT, _SAMPLE_TIME | _SAMPLE_RAW, _USE_CLOCKID, cpu
    )


def tracepoint_event(number: int, cpu: int, *, stack: int = 16) -> tuple[Fd, bool]:
    """An event for a tracepoint on one CPU, with task, time, ``stack`` addresses of the kernel, and loads and unloads
    of BPF programs (PERF_RECORD_BPF_EVENT, Linux 5.1). Returns and raises as ``bpf_output_event``.
    """
    flags = _USE_CLOCKID | _SAMPLE_ID_ALL | _EXCLUDE_CALLCHAIN_USER | _BPF_EVENT
    samples = _SAMPLE_TID | _SAMPLE_TIME | _SAMPLE_CALLCHAIN | _SAMPLE_RAW
    return _sampling(PERF_TYPE_TRACEPOINT, number, samples, flags, cpu, stack)


def _sampling(
    kind: int, config: int, samples: int, flags: int, cpu: int, stack: int = 0
) -> tuple[Fd, bool]:
    number = _PERF_EVENT_OPEN.get(os.uname().machine)
    if number is None:
        raise NotSupportedError(f"netbpf does not know perf_event_open(2) on {os.uname().machine}")
    for read_format in (_FORMAT_LOST, 0):
        attr = ctypes.create_string_buffer(_ATTR_SIZE)
        # type, size, config, sample_period, sample_type, read_format, flags, wakeup_events; clockid at 92.
        struct.pack_into(
            "<IIQQQQQI", attr, 0, kind, _ATTR_SIZE, config, 1, samples, read_format, flags, 1
        )
        struct.pack_into("<i", attr, 92, _CLOCK_MONOTONIC)
        struct.pack_into(
            "<H", attr, 108, stack
        )  # sample_max_stack; 0: as many as the kernel allows
        try:
            event = Fd(_call("perf_event_open", number, attr, -1, cpu, -1, _FLAG_CLOEXEC))
        except KernelError as error:
            if not read_format or error.errno != errno.EINVAL:
                raise
            continue
        return event, bool(read_format)
    raise AssertionError("the last attempt returns or raises")
