"""Reading ring buffers (BPF_MAP_TYPE_RINGBUF, Linux 5.8, kernel commit 457f44363a88).

The kernel lays a ring buffer out for mmap(2) as the consumer's page (its position, writable), the producer's page (its
position, read-only) and the data twice in a row, so that no record is ever cut in two (kernel/bpf/ringbuf.c). A record
is a header of 8 bytes, whose first 32 bits are the length with two flags, and its bytes, rounded up to 8.

**What is lost nobody counts.** Where there is no room ``bpf_ringbuf_reserve`` returns NULL and ``bpf_ringbuf_output``
-EAGAIN; the program has the only knowledge of it, and programs that care count it. A reader can tell two things:
how much waits now (``pending``), and how often it came to a buffer that had no room for one more record of the largest
size seen (``full``). Zero there, read often enough, means that most likely nothing was lost; more means that something
may have been.
"""

import mmap
import threading
from typing import Final, Self

from netbpf._sys.fd import Fd
from netbpf.bpf.map import Map
from netbpf.constants import MapType
from netbpf.errors import NotSupportedError, UsageError
from netbpf.text import escape

BUSY: Final = 1 << 31  # BPF_RINGBUF_BUSY_BIT: reserved, and not yet submitted
DISCARD: Final = 1 << 30  # BPF_RINGBUF_DISCARD_BIT
HEADER: Final = 8  # BPF_RINGBUF_HDR_SZ, bytes
_OVERWRITE: Final = (
    1 << 19
)  # BPF_F_RB_OVERWRITE (Linux 6.19): the oldest make room, nobody waits for a reader
_WORD: Final = (1 << 64) - 1


class RingBuffer:
    """An open ring buffer; close it, or use it as a context manager. One thread at a time.

    Wait on ``fileno()`` with epoll, then ``read`` until it returns nothing. A program may submit without waking anybody
    (BPF_RB_NO_WAKEUP), so wait with a timeout and read after it too.

    A ring buffer has one position, which all its readers share: what one takes the others never see. ``passive`` reads
    along without moving it, for a buffer that another process empties; nothing wakes a passive reader in time, so
    it looks every few milliseconds, and counts in ``missed`` the bytes that were gone before it came.

    Attributes, all since it was opened: ``records``, ``discarded`` (by the program), ``full`` (see the module),
    ``missed`` (bytes, passive only), ``disturbed`` (how often another reader had moved the position, not passive).
    """

    def __init__(self, opened: Map, *, passive: bool = False) -> None:
        """Map its memory; ``opened`` may be closed afterwards.

        Raises UsageError for a map of another type, NotSupportedError for one that overwrites its oldest records,
        OSError where the kernel does not give the memory (EPERM: a frozen or read-only map; ENOMEM).
        """
        info = opened.info
        if info.type != MapType.RINGBUF:
            raise UsageError(f"map {escape(info.name)} is no ring buffer")
        if info.flags & _OVERWRITE:
            raise NotSupportedError(
                f"ring buffer {escape(info.name)} overwrites its oldest records"
            )
        self.info, self.size, self.passive = info, info.max_entries, passive
        self.records = self.discarded = self.full = self.missed = self.disturbed = 0
        self._largest = 0
        page = mmap.PAGESIZE
        self._fd: Fd = opened.fd.duplicate()
        try:
            number = self._fd.fileno()
            writable = mmap.PROT_READ if passive else mmap.PROT_READ | mmap.PROT_WRITE
            self._consumer = mmap.mmap(number, page, mmap.MAP_SHARED, writable)
            self._producer = mmap.mmap(
                number, page + 2 * self.size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except BaseException:
            self._fd.close()
            raise
        # Items of a cast view are read and written as a whole, as the kernel on other CPUs must see them.
        self._taken = memoryview(self._consumer).cast("L")
        self._made = memoryview(self._producer).cast("L")
        self._headers = memoryview(self._producer)[page:].cast("I")
        self._order = threading.Lock()
        self._order.acquire()
        self._at = self._taken[0]

    def fileno(self) -> int:
        """For epoll: readable while something waits."""
        return self._fd.fileno()

    @property
    def pending(self) -> int:
        """Bytes, headers included, that wait to be read."""
        return (self._made[0] - (self._at if self.passive else self._taken[0])) & _WORD

    def read(self, limit: int = 4096) -> list[bytes]:
        """At most ``limit`` records, the oldest first, as copies; their room is free again afterwards.

        An empty list: nothing more has been submitted. A record that is reserved but not submitted holds up those
        behind it.
        """
        at, made = self._start()
        lengths, at = self._lengths(at, made, limit)
        if self._at == at:
            return []
        self._fence()  # headers before the bytes behind them
        found = self._copies(lengths)
        if self.passive and (self._made[0] - self._at) & _WORD > self.size:
            # The producer has been over them meanwhile: some bytes are of newer records.
            self.missed += (at - self._at) & _WORD
            self._at = at
            return []
        self._fence()  # all copies before their room is given back
        self._at = at
        if not self.passive:
            self._taken[0] = at
        self.records += len(found)
        self.discarded += sum(length & DISCARD != 0 for length in lengths)
        return found

    def _start(self) -> tuple[int, int]:
        """Where to read from, and where the producer is."""
        taken, made = self._taken[0], self._made[0]
        if (made - taken) & _WORD > self.size:
            # Read while another reader was at work, or nonsense that somebody wrote there.
            self._fence()
            taken, made = self._taken[0], self._made[0]
        if taken % 8 or (made - taken) & _WORD > self.size:
            # The producer's end is the only place that is surely the start of a record.
            self.disturbed += 1
            self._at = taken = made
            if not self.passive:
                self._taken[0] = made
        elif not self.passive and taken != self._at:
            self.disturbed += 1
            self._at = taken
        elif (made - self._at) & _WORD > self.size:
            # Overwritten before this passive reader came. The reader's position is the start of a record.
            self.missed += (taken - self._at) & _WORD
            self._at = taken
        if self._largest and ((made - taken) & _WORD) + HEADER + self._largest >= self.size:
            self.full += 1
        return self._at, made

    def _lengths(self, at: int, made: int, limit: int) -> tuple[list[int], int]:
        """The headers' words of what was submitted, at most ``limit`` that count, and where the next one begins."""
        self._fence()  # the producer's position before the headers
        headers, mask, found = self._headers, self.size - 1, list[int]()
        left, room = limit, (made - at) & _WORD
        while room and left:
            length = headers[(at & mask) >> 2]
            if length & BUSY:
                break
            step = HEADER + ((length & ~DISCARD) + 7 & ~7)
            if step > room:
                # No program can write this: the position is not where a record begins.
                self.disturbed += 1
                at += room
                break
            found.append(length)
            at += step
            room -= step
            left -= not length & DISCARD
        return found, at & _WORD

    def _copies(self, lengths: list[int]) -> list[bytes]:
        producer, mask, at, found = self._producer, self.size - 1, self._at, []
        base, largest = mmap.PAGESIZE + HEADER, self._largest
        for length in lengths:
            start = base + (at & mask)
            if length & DISCARD:
                length &= ~DISCARD
            else:
                found.append(producer[start : start + length])
            if length > largest:
                largest = length
            at += HEADER + (length + 7 & ~7)
        self._largest = largest
        return found

    def _fence(self) -> None:
        """What was read before stays before what is read after, on every machine.

        A release that an acquire follows is a full barrier; x86 would need none, other machines do
        (the kernel pairs smp_load_acquire and smp_store_release, Documentation/bpf/ringbuf.rst).
        """
        self._order.release()
        self._order.acquire()

    def close(self) -> None:
        """Give the memory back; what waits stays for the next reader."""
        if self._fd.closed:
            return
        for view in (self._taken, self._made, self._headers):
            view.release()
        self._consumer.close()
        self._producer.close()
        self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
