"""What a test sent, saw and ran: kept while it lasts, and shown and saved if it fails."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from netns_fixtures.errors import TrafficError

if TYPE_CHECKING:
    from netns_fixtures.capture import Capture
    from netns_fixtures.kinds import AttachKind
    from netns_fixtures.running import Running

MOST: Final = 100_000  # packets kept, the last ones


class Event(NamedTuple):
    """One packet at one moment. ``verdict`` is the program's number for it, None where nobody was told."""

    time_ns: int
    frame: bytes
    what: str
    verdict: int | None = None


class Evidence:
    """The packets and programs of one test."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=MOST)
        self.programs: list[Running] = []
        self.kind: AttachKind | None = None
        # Packets by place; runs by the verdict's name.
        self.sent_from: Counter[str] = Counter()
        self.arrived_at: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self._captures: list[Capture] = []

    def __bool__(self) -> bool:
        return bool(self.events or self.programs)

    def uses(self, program: "Running") -> None:
        """A program of this test."""
        self.programs.append(program)
        self.kind = self.kind or program.kind

    def watch(self, capture: "Capture") -> None:
        """A capture of this test, which may hold packets that nobody has read yet."""
        self._captures.append(capture)

    def sent(self, frames: Iterable[bytes], place: str) -> None:
        """Frames were sent."""
        self._add(frames, f"sent by {place}", self.sent_from, place)

    def seen(self, frames: Iterable[bytes], place: str) -> None:
        """Frames have arrived."""
        self._add(frames, f"arrived at {place}", self.arrived_at, place)

    def _add(self, frames: Iterable[bytes], what: str, count: "Counter[str]", place: str) -> None:
        now = time.time_ns()
        for frame in frames:
            self.events.append(Event(now, frame, what))
            count[place] += 1

    def ran(self, frame: bytes, after: bytes, verdict: int, name: str) -> None:
        """TEST_RUN ran a program on a frame and made ``after`` of it."""
        now = time.time_ns()
        self.events.append(Event(now, frame, f"run: {name}", verdict))
        if after != frame:
            self.events.append(Event(now, after, f"afterwards: {name}", verdict))
        self.verdicts[name] += 1

    def collect(self) -> None:
        """Read what has arrived and nobody asked for."""
        for capture in self._captures:
            if not capture.closed:
                try:
                    capture.look()
                except TrafficError:
                    continue  # it cannot be trusted, which is said where it matters
