"""Reading perf buffers (BPF_MAP_TYPE_PERF_EVENT_ARRAY, Linux 4.4): a buffer for each CPU.

A program writes with bpf_perf_event_output() to the event in its CPU's slot of the map, and so to that event's memory,
which is mapped here: a page of positions (struct perf_event_mmap_page) and 2^n pages of records. A record is a
struct perf_event_header, here with a time, and the bytes. The kernel rounds the bytes and their length up,
so that the length is 4 more than a multiple of 8: up to 7 bytes behind what the program wrote are no data.

A slot holds one event: who fills a slot that is taken cuts the other reader off, silently, and nothing can be put back
because the kernel gives no event out of the map. Slots are emptied when the descriptor of the map through which they
were filled is closed (perf_event_fd_array_release), also where the process is killed.
"""

import errno
import select
import struct
from contextlib import ExitStack
from typing import Final, NamedTuple, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf._sys.perf_output import bpf_output_event
from netbpf.bpf.map import Map
from netbpf.bpf.perfring import HEADER, LOST, SAMPLE, PerfRing, online_cpus
from netbpf.bpf.perfslots import occupied
from netbpf.constants import MapType
from netbpf.errors import HookBusyError, KernelError, UsageError
from netbpf.text import escape

_RAW: Final = struct.Struct("<QI")  # time, length of the bytes
_U64: Final = struct.Struct("<Q")


class Sample(NamedTuple):
    """What a program wrote in one call: ``time_ns`` is CLOCK_MONOTONIC; behind ``data`` up to 7 bytes are padding."""

    data: bytes
    cpu: int
    time_ns: int


class PerfBuffer:
    """The buffers of all CPUs of a perf event array; close it, or use it as a context manager. One thread at a time.

    Wait on ``fileno()`` with epoll, then ``read`` until it returns nothing. CPUs that come online later are not read.

    Attributes, since it was opened: ``records``, and ``lost``, which the kernel counts.
    """

    def __init__(self, opened: Map, *, pages: int = 64, take_over: bool = False) -> None:
        """Fill the slots of all online CPUs with buffers of ``pages`` pages, a power of two; ``opened`` may be closed.

        Raises HookBusyError where another reader has a slot, unless ``take_over``; UsageError for a map of another
        type; PermissionDeniedError without CAP_BPF, CAP_PERFMON, or where more memory would be locked than
        kernel.perf_event_mlock_kb and RLIMIT_MEMLOCK allow.
        """
        info = opened.info
        if info.type != MapType.PERF_EVENT_ARRAY:
            raise UsageError(f"map {escape(info.name)} is no perf event array")
        if pages < 1 or pages & (pages - 1):
            raise UsageError(f"a perf buffer has a power of two of pages, not {pages}")
        self.info, self.records, self._first = info, 0, 0
        cpus = [cpu for cpu in online_cpus() if cpu < info.max_entries]
        taken = [] if take_over else occupied(opened, cpus)
        if taken:
            raise HookBusyError(
                f"perf buffer {escape(info.name)} (map {info.id}) already has a reader, "
                f"for {'CPU' if len(taken) == 1 else 'CPUs'} {', '.join(map(str, taken))}",
                hint="end the other reader first: one buffer has one reader",
            )
        with ExitStack() as undo:
            # A descriptor of our own file: the slots are emptied when it is closed, and not when `opened` is.
            self._map = undo.enter_context(sys_bpf.fd_by_id("MAP", info.id))
            self._poll = undo.enter_context(select.epoll())
            self._buffers = [undo.enter_context(_opened(cpu, pages)) for cpu in cpus]
            for one in self._buffers:
                self._fill(one.cpu, one.event)
                self._poll.register(one.event.fileno(), select.EPOLLIN)
            self._stack = undo.pop_all()

    def _fill(self, cpu: int, event: Fd) -> None:
        key, value = cpu.to_bytes(4, "little"), event.fileno().to_bytes(4, "little")
        try:
            sys_bpf.map_update(self._map.fileno(), key, value)
        except KernelError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise permission_error(
                    f"read perf buffer {escape(self.info.name)}", Capability.BPF
                ) from None
            raise

    def fileno(self) -> int:
        """For epoll: readable while something waits on any CPU."""
        return self._poll.fileno()

    @property
    def lost(self) -> int:
        """Records that found no room, on all CPUs."""
        return sum(one.lost for one in self._buffers)

    @property
    def pending(self) -> int:
        """Bytes, headers included, that wait to be read on all CPUs."""
        return sum(one.pending for one in self._buffers)

    @property
    def size(self) -> int:
        """Bytes of all buffers together."""
        return sum(one.size for one in self._buffers)

    def read(self, limit: int = 4096) -> list[Sample]:
        """At most ``limit`` records, those of different CPUs in order of their time; their room is free afterwards."""
        found: list[Sample] = []
        # Another CPU begins each time, so that none waits for ever behind a busy one.
        self._first = (self._first + 1) % max(len(self._buffers), 1)
        for one in self._buffers[self._first :] + self._buffers[: self._first]:
            found += _samples(one, limit - len(found))
        self.records += len(found)
        if len(self._buffers) > 1:
            found.sort(key=lambda one: one.time_ns)
        return found

    def close(self) -> None:
        """Empty the slots and give the memory back."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(cpu: int, pages: int) -> PerfRing:
    try:
        event, counts = bpf_output_event(cpu)
    except KernelError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise permission_error("open a perf event", Capability.PERFMON) from None
        raise
    return PerfRing(event, counts, cpu, pages)


def _samples(ring: PerfRing, limit: int) -> list[Sample]:
    data, at, found = ring.take() if limit else b"", 0, list[Sample]()
    while at < len(data) and len(found) < limit:
        kind, _, size = HEADER.unpack_from(data, at)
        if kind == SAMPLE:
            time_ns, length = _RAW.unpack_from(data, at + 8)
            found.append(Sample(data[at + 20 : at + 20 + length], ring.cpu, time_ns))
        elif kind == LOST:
            ring.tell(_U64.unpack_from(data, at + 16)[0])
        at += size
    if at:
        ring.give(at)
    return found
