"""What programs write into ring and perf buffers, as it comes."""

import select
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from netbpf.bpf.btf.values import Value
from netbpf.bpf.holders import Process
from netbpf.bpf.perfbuf import PerfBuffer
from netbpf.bpf.ringbuf import RingBuffer
from netbpf.errors import UsageError
from netbpf.listen.buffers import Buffer, Buffers, reject_others
from netbpf.listen.readers import ring_readers
from netbpf.listen.record_types import RecordType, RecordTypes
from netbpf.live.reader import OpenMap

BATCH: Final = 4096  # records that are in memory at once
_BESIDE: Final = 0.02  # seconds between two looks into a buffer that another process empties: nothing wakes us in time
_QUIET: Final = (
    0.2  # seconds after which is looked for records that were submitted without waking anybody
)


@dataclass(frozen=True, slots=True)
class Lost:
    """What a buffer's reader knows of losses, since it began.

    ``records``: lost for certain, by the kernel's count for a perf buffer, by the program's own variable ``counter``
    for a ring buffer; None where nobody counts. ``full``: how often a ring buffer had no room for one more
    record when it was looked at.
    ``missed``: bytes that another reader took and the program overwrote before this one, reading along, came.
    """

    records: int | None
    counter: str = ""
    full: int = 0
    missed: int = 0

    @property
    def some(self) -> bool:
        """Whether something was lost, or may have been."""
        return bool(self.records or self.full or self.missed)


class Event(NamedTuple):
    """A record. ``time_ns`` is Unix time: of the write in a perf buffer, of the reading in a ring buffer.

    ``cpu`` is None for a ring buffer. ``type`` is None where nothing tells it (``EventSource.why``).
    """

    source: "EventSource"
    data: bytes
    type: RecordType | None
    time_ns: int
    cpu: int | None

    @property
    def value(self) -> Value:
        """The record decoded by its type; None without one."""
        return self.type.value(self.data) if self.type else None

    @property
    def rest(self) -> bytes:
        """What the program wrote behind the type."""
        return self.type.rest(self.data, self.cpu is not None) if self.type else b""


class EventSource:
    """A buffer that is read. ``readers`` are other processes that read it too.

    A ring buffer with another reader is read along with it (``beside``): nothing is taken from it.
    """

    def __init__(
        self, buffer: Buffer, asked: str | None, readers: tuple[Process, ...], *, take: bool
    ) -> None:
        self.buffer, self.readers = buffer, readers
        self.name, self.id, self.kind = buffer.map.info.name, buffer.map.info.id, buffer.kind
        self.records = 0
        self._types = RecordTypes(self.name, buffer.types, asked=asked, padded=self.kind == "perf")
        self.why = self._types.why
        self.reader: RingBuffer | PerfBuffer
        if self.kind == "perf":
            self.reader = PerfBuffer(buffer.map, take_over=take)
        else:
            self.reader = RingBuffer(buffer.map, passive=bool(readers) and not take)
        self._counter = _lost_counter(buffer)
        self._before = self._counted()

    @property
    def beside(self) -> bool:
        """Whether another process empties the buffer, and this one only reads along."""
        return isinstance(self.reader, RingBuffer) and self.reader.passive

    def read(self, limit: int) -> list[Event]:
        """At most ``limit`` records."""
        reader = self.reader
        if isinstance(reader, RingBuffer):
            found = reader.read(limit)
            now, types = time.time_ns(), self._types.of
            events = [Event(self, data, types(len(data)), now, None) for data in found]
        else:
            # Both clocks at once, each time: the wall clock may be set meanwhile.
            offset, types = time.time_ns() - time.monotonic_ns(), self._types.of
            events = [
                Event(self, one.data, types(len(one.data)), one.time_ns + offset, one.cpu)
                for one in reader.read(limit)
            ]
        self.records += len(events)
        return events

    def lost(self) -> Lost:
        """What has been lost so far."""
        if isinstance(self.reader, PerfBuffer):
            return Lost(self.reader.lost)
        name = self._counter[1] if self._counter else ""
        records = self._counted() - self._before if self._counter else None
        return Lost(records, name, self.reader.full, self.reader.missed)

    def _counted(self) -> int:
        """The program's own count."""
        if self._counter is None:
            return 0
        section, name = self._counter
        values = section.value(section.map.lookup(bytes(4)) or b"")
        value = values.get(name) if isinstance(values, dict) else None
        return value if isinstance(value, int) else 0


def _lost_counter(buffer: Buffer) -> tuple[OpenMap, str] | None:
    """The global variable in which a program counts what found no room: ``events_lost``, ``lost_events``, ``lost``."""
    name = buffer.map.info.name
    wanted = [
        f"{name}_lost",
        f"lost_{name}",
        f"{name}_dropped",
        f"dropped_{name}",
        "lost_events",
        "lost",
    ]
    named = {each: one for one in buffer.variables for each in one.variable_names()}
    found = next((each for each in wanted if each in named), None)
    return None if found is None else (named[found], found)


class Events:
    """Records of several buffers at once. Close it, or use it as a context manager.

    However many records come, at most ``BATCH`` are in memory; what programs find no room for is lost
    at their side, and counted where somebody counts.
    """

    def __init__(self, buffers: Buffers, *, types: Sequence[str] = (), take: bool = False) -> None:
        """Take over ``buffers``. ``types``: ``NAME`` for all, ``MAP=NAME`` for one. ``take``: take what others read.

        Raises ObjectError for an unknown type, HookBusyError where a perf buffer has a reader, UsageError for a map
        without records.
        """
        with ExitStack() as undo:
            undo.callback(buffers.close)
            reject_others(buffers)
            asked = _asked_types(types, {one.map.info.name for one in buffers})
            rings = {one.map.info.id for one in buffers if one.kind == "ring"}
            readers = ring_readers(rings) if rings else {}
            self._poll = undo.enter_context(select.epoll())
            self.sources: list[EventSource] = []
            self._first = 0
            for one in buffers:
                name = asked.get(one.map.info.name, asked.get(""))
                found = readers.get(one.map.info.id, ())
                source = EventSource(one, name, found, take=take)
                undo.callback(source.reader.close)
                self.sources.append(source)
                self._poll.register(source.reader.fileno(), select.EPOLLIN)
            self._wait = _BESIDE if any(one.beside for one in self.sources) else _QUIET
            self._stack = undo.pop_all()

    def read(self, timeout: float | None = None, limit: int = BATCH) -> list[Event]:
        """What has come, at most ``limit`` records, ordered by time; waits up to ``timeout`` seconds for some.

        None waits for ever. An empty list: nothing came in time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            found = self._look(limit)
            if found:
                if len(self.sources) > 1:
                    found.sort(key=lambda event: event.time_ns)
                return found
            left = self._wait if end is None else min(self._wait, end - time.monotonic())
            if left <= 0:
                return []
            self._poll.poll(left)

    def _look(self, limit: int) -> list[Event]:
        found: list[Event] = []
        # Another buffer begins each time, so that none waits for ever behind a busy one.
        self._first = (self._first + 1) % len(self.sources)
        for one in self.sources[self._first :] + self.sources[: self._first]:
            found += one.read(limit - len(found))
        return found

    def __iter__(self) -> Iterator[Event]:
        """Every record from now on, and those that waited; without an end."""
        while True:
            yield from self.read()

    def close(self) -> None:
        """Let go of the buffers; what nobody read stays in ring buffers."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _asked_types(texts: Iterable[str], maps: set[str]) -> dict[str, str]:
    """Types by map, "" for all. UsageError for maps that are not read."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, kind = text.rpartition("=")
        if equals and name not in maps:
            raise UsageError(
                f"--type {text}: no buffer {name!r} is read",
                hint=f"there are: {', '.join(sorted(maps))}",
            )
        if not kind.strip() or name in found:
            raise UsageError(f"--type {text}: one type for a buffer")
        found[name] = kind
    return found
