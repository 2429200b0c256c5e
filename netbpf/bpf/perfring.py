"""The memory of one perf event: a page of positions (struct perf_event_mmap_page) and 2^n pages of records."""

import errno
import mmap
import os
import struct
import threading
from typing import Final, Self

from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd

LOST: Final = 2  # PERF_RECORD_LOST
SAMPLE: Final = 9  # PERF_RECORD_SAMPLE
BPF_EVENT: Final = 18  # PERF_RECORD_BPF_EVENT, Linux 5.1
HEADER: Final = struct.Struct(
    "<IHH"
)  # struct perf_event_header: type, misc, size with the header itself
_HEAD, _TAIL = 1024 // 8, 1032 // 8  # data_head and data_tail, as 64-bit words
_U64: Final = struct.Struct("<Q")


class PerfRing:
    """An event with its mapped memory; owns both. ``size`` in bytes."""

    def __init__(self, event: Fd, counts: bool, cpu: int, pages: int) -> None:
        """Take over ``event``; ``counts`` says that read(2) of it tells what was lost. ``pages``: a power of two.

        PermissionDeniedError where it would be more than kernel.perf_event_mlock_kb and RLIMIT_MEMLOCK allow.
        """
        self.event, self.cpu, self.size = event, cpu, pages * mmap.PAGESIZE
        self._counts, self._told = counts, 0
        try:
            self._memory = mmap.mmap(event.fileno(), (pages + 1) * mmap.PAGESIZE)
        except OSError as error:
            event.close()
            if error.errno == errno.EPERM:
                raise permission_error(
                    f"lock {pages + 1} pages of memory for CPU {cpu} (more than kernel.perf_event_mlock_kb)",
                    Capability.PERFMON,
                ) from None
            raise
        self._words = memoryview(self._memory).cast("L")
        self._order = threading.Lock()
        self._order.acquire()

    @property
    def pending(self) -> int:
        """Bytes that wait."""
        return self._words[_HEAD] - self._words[_TAIL]

    @property
    def lost(self) -> int:
        """What the event itself counts (Linux 6.0), else what the records told, which come with the next sample."""
        if not self._counts:
            return self._told
        return int(_U64.unpack_from(os.read(self.event.fileno(), 16), 8)[0])

    def tell(self, lost: int) -> None:
        """Note what a PERF_RECORD_LOST said."""
        self._told += lost

    def take(self) -> bytes:
        """A copy of all that waits, whole records; its room is free after ``give``."""
        head, tail = self._words[_HEAD], self._words[_TAIL]
        if head == tail:
            return b""
        self._fence()
        page, mask = mmap.PAGESIZE, self.size - 1
        start, end = tail & mask, head & mask
        if start < end:
            return self._memory[page + start : page + end]
        return self._memory[page + start :] + self._memory[page : page + end]

    def give(self, length: int) -> None:
        """Free the room of the first ``length`` bytes that were taken."""
        self._fence()
        self._words[_TAIL] += length

    def _fence(self) -> None:
        """See ``RingBuffer._fence``; the kernel's side is in kernel/events/ring_buffer.c, perf_output_put_handle."""
        self._order.release()
        self._order.acquire()

    def close(self) -> None:
        """Give the memory back and close the event."""
        self._words.release()
        self._memory.close()
        self.event.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def online_cpus() -> list[int]:
    """The CPUs that run (/sys/devices/system/cpu/online, Documentation/admin-guide/cputopology.rst)."""
    with open("/sys/devices/system/cpu/online") as file:
        ranges = [part.partition("-") for part in file.read().strip().split(",")]
    return [cpu for first, _, last in ranges for cpu in range(int(first), int(last or first) + 1)]
