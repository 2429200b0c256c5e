"""When packets are due. Every packet has its time from the beginning on, so nothing adds up."""

import threading
import time
from abc import ABC, abstractmethod
from typing import Final

_STEP: Final = 500_000  # ns: packets that are due within this time leave together
_LAG: Final = (
    50_000_000  # ns: what is later than that is not made good, or a pause would end in a burst
)
_NAP: Final = 0.1  # seconds, the longest sleep: a stop is seen after it
ENDLESS: Final = 1 << 62


class Pace(ABC):
    """How many packets may have left by now. ``behind`` is set where time could not be held."""

    behind = False

    @abstractmethod
    def allowed(self, done: int) -> int:
        """How many packets may leave now, after ``done``."""

    @abstractmethod
    def next(self, done: int) -> int:
        """When the packet after ``done`` others is due, in ns of the monotonic clock."""

    def wait(self, done: int, stop: threading.Event) -> None:
        """Sleep until more packets are due, or some of that time."""
        seconds = (self.next(done) - time.monotonic_ns()) / 1e9
        if seconds > _NAP:
            stop.wait(_NAP)
        elif seconds > 0:
            time.sleep(seconds)


class Flood(Pace):
    """As fast as it goes."""

    def allowed(self, done: int) -> int:
        """All of them."""
        return ENDLESS

    def next(self, done: int) -> int:
        """Now."""
        return 0


class Steady(Pace):
    """So many packets per second; ``step`` ns is the shortest time between two calls for more."""

    def __init__(self, rate: float, step: int = _STEP) -> None:
        self._gap = 1e9 / rate  # ns
        self._group = max(round(step / self._gap), 1)
        self._start = time.monotonic_ns()

    def allowed(self, done: int) -> int:
        """Those that are due, once they are a group."""
        now = time.monotonic_ns()
        late = now - self._start - done * self._gap
        if late > _LAG and late > 2 * self._gap * self._group:
            self.behind = True
            self._start += round(late - _LAG)
        due = int((now - self._start) / self._gap) + 1 - done
        return due if due >= self._group else 0

    def next(self, done: int) -> int:
        """The time of the last one of the next group."""
        return self._start + int((done + self._group - 1) * self._gap) + 1


class Recorded(Pace):
    """At given times: ns from the first packet, of packets from number ``first`` on; ``speed`` divides them."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._start = time.monotonic_ns()
        self._times: list[int] = []
        self._first = 0

    def use(self, first: int, times: list[int]) -> None:
        """The times of the packets from number ``first`` on."""
        self._first, self._times = first, times

    def _at(self, number: int) -> int:
        return self._start + int(self._times[number - self._first] / self._speed)

    def allowed(self, done: int) -> int:
        """Those whose time has come, of those that are known."""
        now, last = time.monotonic_ns(), self._first + len(self._times)
        if now - self._at(done) > _LAG:
            self.behind = True
        found = done
        while found < last and self._at(found) <= now:
            found += 1
        return found - done

    def next(self, done: int) -> int:
        """The packet's time."""
        return self._at(done)
