"""Packets that came through, and what a test says about them: this one did, that one did not, nothing else did."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from netns_fixtures import fields
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.frames import Packets, mutated, to_frames

# Seconds. A packet on a veth is there when send() returns; this is for a machine that is very busy.
PATIENCE: Final = 2.0


class Arrivals(ABC):
    """The packets that have arrived in one place. ``place`` names it; ``source`` and ``target`` are MACs.

    An expectation takes the packets it is about; what nobody takes fails the test in the end.
    """

    def __init__(self, place: str, source: str, target: str) -> None:
        self.place = place
        self._source, self._target = source, target
        self._arrived: list[bytes] = []

    # --- reading ---

    def packets(self) -> list[bytes]:
        """Take all frames that have arrived and nobody took yet, without waiting."""
        self._drain()
        taken, self._arrived = self._arrived, []
        return taken

    @abstractmethod
    def _drain(self) -> None:
        """Bring what has arrived into ``_arrived``."""

    @abstractmethod
    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Read until ``done`` (True) or until so many seconds have passed (False)."""

    @abstractmethod
    def _state(self) -> str:
        """Lines that tell where packets may have gone instead."""

    def _seen_here(self, frame: bytes) -> bytes:
        """What a frame looks like in this place."""
        return frame

    def _frames(
        self, packets: tuple[Packets, ...], mutate: Mapping[str, object] | None = None
    ) -> list[bytes]:
        frames = to_frames(packets, self._source, self._target)
        return [self._seen_here(mutated(frame, mutate)) for frame in frames]

    # --- expecting ---

    def expect(
        self,
        *packets: Packets,
        ignore: Iterable[str] = (),
        mutate: Mapping[str, object] | None = None,
        within: float = PATIENCE,
    ) -> list[bytes]:
        """Each of ``packets`` has arrived, or does within so many seconds; they are taken and returned.

        ``mutate`` says what the program changes: the packets are expected with these fields set
        (``{"IP.ttl": 63}``) and the checksums that follow from it. ``ignore`` names fields that may differ
        (``["IP.id"]``). MACs that were not given are those of the wire: from the other end to this one. The order
        does not matter. Raises ExpectationError with a comparison by field and by byte to the most similar packet
        that did arrive.
        """
        __tracebackhide__ = True
        wanted = [fields.Comparison(frame, ignore) for frame in self._frames(packets, mutate)]
        if not wanted:
            raise TrafficError(
                "expect() without a packet expects nothing; did you mean expect_none()?"
            )
        taken = []
        for one in wanted:  # a comprehension would be a frame of its own in pytest's traceback
            taken.append(self._take(one, within))  # noqa: PERF401
        return taken

    def _take(self, comparison: fields.Comparison, within: float) -> bytes:
        __tracebackhide__ = True
        compared, found = 0, -1

        def arrived() -> bool:
            nonlocal compared, found
            for index in range(compared, len(self._arrived)):
                if comparison.matches(self._arrived[index]):
                    found = index
                    return True
            compared = len(self._arrived)
            return False

        if not self._wait(arrived, within):
            raise ExpectationError(self._missing(comparison, within))
        return self._arrived.pop(found)

    def _reject(self, packets: tuple[Packets, ...], ignore: Iterable[str]) -> None:
        """Fail if one of these is among the packets that nobody took, or any one without ``packets``."""
        __tracebackhide__ = True
        unwanted = [fields.Comparison(frame, ignore) for frame in self._frames(packets)]
        found = [
            frame
            for frame in self._arrived
            if not unwanted or any(comparison.matches(frame) for comparison in unwanted)
        ]
        if found:
            what = "that must not" if unwanted else "where nothing was expected"
            raise ExpectationError(
                f"{count(len(found))} arrived at {self.place} {what}:\n{fields.listing(found)}"
            )

    def check_taken(self) -> None:
        """Fail if a packet has arrived that nobody took. Does not wait."""
        __tracebackhide__ = True
        self._drain()
        if self._arrived:
            raise ExpectationError(
                f"{count(len(self._arrived))} arrived at {self.place} that no expect() took:\n"
                f"{fields.listing(self._arrived)}"
            )

    # --- reporting ---

    def _missing(self, comparison: fields.Comparison, within: float) -> str:
        when = f" within {within:g} s" if within else ""
        wanted = f"expected at {self.place}: {fields.summary(comparison.expected)}"
        if not self._arrived:
            return f"{wanted}\nno packet arrived{when}\n{self._state()}"
        closest = min(
            range(len(self._arrived)), key=lambda i: comparison.distance(self._arrived[i])
        )
        return (
            f"{wanted}\nit did not arrive{when}, but {count(len(self._arrived))} did:\n"
            f"{fields.listing(self._arrived)}\n\nthe most similar, #{closest + 1}, differs in:\n\n"
            f"{comparison.report(self._arrived[closest])}"
        )


def count(number: int) -> str:
    """ "1 packet", "2 packets"."""
    return "1 packet" if number == 1 else f"{number} packets"
