"""The packets to send, laid out in memory: a list that goes round, or a capture read as it goes."""

from array import array
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from netbpf._sys.packet_messages import MOST, Area
from netbpf.errors import CaptureError, UsageError
from netbpf.packets.capture import Block, Capture, open_capture
from netbpf.packets.capture.model import WINDOW
from netbpf.traffic.model import MAX_BYTES, MAX_FRAMES
from netbpf.traffic.stamp import WORDS, Session, Stamped

SHORTEST: Final = 14  # bytes, ETH_HLEN
_ALIGNED: Final = 8  # bytes: where numbers can be written many at a time


class Batch(NamedTuple):
    """Packets that are ready: ``vectors`` are their struct iovec as bytes, ``lengths`` theirs.

    ``times`` are ns from the first packet of all, where they were asked for; ``again`` says that each was there before.
    """

    vectors: memoryview
    lengths: list[int]
    times: list[int]
    again: bool = False


@dataclass(slots=True)
class Skipped:
    """Packets that are not sent, by reason, and what is wrong with the file."""

    longest: Callable[[bytes], int]
    reasons: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def why(self, frame: bytes, shown: str = "") -> str:
        """Why a frame cannot be sent; "" where it can."""
        if len(frame) < SHORTEST:
            return f"shorter than an Ethernet header ({SHORTEST} bytes)"
        longest = self.longest(frame)
        if len(frame) > longest:
            return f"longer than {longest} bytes{shown}"
        return ""

    def note(self, why: str) -> None:
        """Count one."""
        self.reasons[why] = self.reasons.get(why, 0) + 1

    def refused(self, length: int) -> bool:
        """Count a packet that the kernel refused for its length; False where its length is no reason."""
        why = self.why(bytes(length))
        if why:
            self.note(why)
        return bool(why)


class Numbering:
    """Writes numbers into slots: places in memory that are as far apart as the packets' order."""

    def __init__(
        self, memory: memoryview, starts: list[int], at: list[int], session: Session
    ) -> None:
        self._memory, self._session = memory, session
        self._places = [start + place for start, place in zip(starts, at, strict=True)]
        strides = {b - a for a, b in zip(self._places, self._places[1:], strict=False)}
        regular = len(strides) <= 1 and not self._places[0] % _ALIGNED
        self._stride = (strides.pop() if strides else _ALIGNED) // _ALIGNED if regular else 0
        self._words = memory.cast("Q") if regular else None

    def write(self, slot: int, count: int, number: int) -> None:
        """Number the packets in ``count`` slots from ``slot`` on."""
        first, second = self._session.words(number)
        if self._words is not None:
            begin, step = self._places[slot] // _ALIGNED, self._stride
            end = begin + step * (count - 1) + 1
            self._words[begin:end:step] = memoryview(array("Q", range(first, first + count)))
            self._words[begin + 1 : end + 1 : step] = memoryview(
                array("Q", range(second, second - count, -1))
            )
            return
        pack, memory = WORDS.pack_into, self._memory
        for index, place in enumerate(self._places[slot : slot + count]):
            pack(memory, place, first + index, second - index)


class Ring:
    """Frames that are sent in turn, again and again, perhaps numbered from 0 on."""

    existing = 1  # numbers are written where the packets are sent from

    def __init__(
        self,
        frames: list[bytes],
        times: list[int] | None = None,
        stamps: list[int] | None = None,
        session: Session | None = None,
    ) -> None:
        """``times`` are those of one round; ``stamps`` are the places of the numbers in the frames."""
        self._lengths = [len(one) for one in frames]
        self._times = times
        self._count = len(frames)
        # Numbers are written into slots of their own; there are enough of them for one call.
        rounds = -(-MOST // self._count) if session else 1
        at = (stamps or [0] * self._count) * rounds
        places, end = _places(self._lengths * rounds, at)
        self._memory = memoryview(bytearray(end))
        for start, frame in zip(places, frames * rounds, strict=True):
            self._memory[start : start + len(frame)] = frame
        self._slots = self._count * rounds
        self._area = Area(self._memory)
        # A call may begin at any slot: what it takes lies in a row.
        extra = -(-MOST // self._slots)
        self._vectors = memoryview(
            self._area.vectors(places, self._lengths * rounds) * (1 + extra)
        ).cast("B")
        self._all_lengths = self._lengths * rounds * (1 + extra)
        self._numbering = Numbering(self._memory, places, at, session) if session else None

    def batches(self, total: int) -> Generator[Batch, None, None]:
        """``total`` packets; a batch is good until the next one is asked for."""
        number = 0
        while number < total:
            slot = number % self._slots
            count = min(total - number, MOST)
            if self._numbering:
                count = min(count, self._slots - slot)
                self._numbering.write(slot, count, number)
            yield Batch(
                self._vectors[16 * slot : 16 * (slot + count)],
                self._all_lengths[slot : slot + count],
                self._due(number, count),
            )
            number += count

    def _due(self, number: int, count: int) -> list[int]:
        if self._times is None:
            return []
        # After the last packet of a round the first one follows as fast as the mean.
        span = self._times[-1] + self._times[-1] // max(self._count - 1, 1)
        return [
            self._times[one % self._count] + span * (one // self._count)
            for one in range(number, number + count)
        ]


def _places(lengths: list[int], stamps: list[int]) -> tuple[list[int], int]:
    """Where frames begin so that the stamp in each is aligned, and where the last one ends."""
    places, end = [], 0
    for length, stamp in zip(lengths, stamps, strict=True):
        start = end + -(end + stamp) % _ALIGNED
        places.append(start)
        end = start + length
    return places, (end + _ALIGNED) // _ALIGNED * _ALIGNED


class Stream:
    """A capture, sent as it is read: any size, in constant memory. The kernel refuses what is too long or short.

    It is read into several pieces of memory by turns, so that batches can be read while those before them are sent.
    """

    # Three of them are sent in some milliseconds: for so long a reader may have to wait for a processor.
    existing = 4

    def __init__(self, path: str, loops: int, skipped: Skipped, *, timed: bool) -> None:
        self._path, self._loops, self._timed = path, loops, timed
        self._skipped = skipped
        self._memory = [memoryview(bytearray(WINDOW)) for _ in range(self.existing)]
        self._areas = [Area(one) for one in self._memory]
        self._turn = 0

    def _use_memory(self, capture: Capture) -> Area:
        """Let the capture be read into the piece of memory whose turn it is."""
        capture.use(self._memory[self._turn])
        return self._areas[self._turn]

    def batches(self, total: int) -> Generator[Batch, None, None]:
        """At most ``total`` packets; a batch is good until ``existing`` more were asked for."""
        passed = left = 0
        offset = last = 0
        while (not self._loops or passed < self._loops) and left < total:
            before = left
            first: int | None = None
            with open_capture(self._path) as capture:
                area = self._use_memory(capture)
                for block in capture.blocks():
                    if left + len(block.starts) > total:
                        block = block.first(total - left)
                    if not block.starts:
                        break
                    times = self._times(block)
                    if times:
                        first = times[0] if first is None else first
                        times = _rising([offset + one - first for one in times], last)
                        last = times[-1]
                    left += len(block.starts)
                    vectors = area.vectors(block.starts, block.lengths)
                    yield Batch(memoryview(vectors).cast("B"), block.lengths, times, passed > 0)
                    self._turn = (self._turn + 1) % self.existing
                    area = self._use_memory(capture)
                if not passed:
                    self._skipped.warnings += capture.warnings
                    for link, number in capture.skipped.items():
                        self._skipped.reasons[f"link type {link}"] = number
            if left == before:
                if not passed and not self._skipped.reasons:
                    raise _none(capture)
                return
            passed += 1
            offset = last + last // max(left - 1, 1)

    def _times(self, block: Block) -> list[int]:
        if not self._timed:
            return []
        return [block.stamp(index).time_ns or 0 for index in range(len(block.starts))]


def _rising(times: list[int], least: int) -> list[int]:
    """The times, where one that goes back counts as the one before it."""
    found = []
    for one in times:
        least = max(least, one)
        found.append(least)
    return found


class Kept(NamedTuple):
    """A capture's packets in memory; ``times`` in ns from the first."""

    frames: list[bytes]
    times: list[int]


def keep_capture(path: str, skipped: Skipped, most: int | None) -> Kept:
    """Read a capture whole, or its first ``most`` packets. CaptureError where it is too large for that, or empty."""
    frames: list[bytes] = []
    times: list[int] = []
    size = 0
    with open_capture(path) as capture:
        for block in capture.blocks():
            for index in range(len(block.starts)):
                if most is not None and len(frames) >= most:
                    break
                frame = block.packet(index)
                if why := skipped.why(frame):
                    skipped.note(why)
                    continue
                frames.append(frame)
                times.append(block.stamp(index).time_ns or 0)
                size += len(frame)
            if len(frames) > MAX_FRAMES or size > MAX_BYTES:
                raise CaptureError(
                    f"{capture.source.origin} is too large to be kept in memory: at most {MAX_FRAMES:,} packets and "
                    f"{MAX_BYTES >> 20} MiB",
                    hint="send a part of it, or without --xdp and --sequence",
                )
        skipped.warnings += capture.warnings
        for link, number in capture.skipped.items():
            skipped.reasons[f"link type {link}"] = number
    if not frames and not skipped.reasons:
        raise _none(capture)
    return Kept(frames, _rising([one - times[0] for one in times], 0) if times else [])


def _none(capture: Capture) -> CaptureError:
    """The error for a capture without packets; where its first one cannot be read that says why."""
    why = "; ".join(capture.warnings) or None
    return CaptureError(f"{capture.source.origin} holds no packets", hint=why)


def checked(frames: tuple[bytes, ...], skipped: Skipped, shown: str) -> list[bytes]:
    """The frames; UsageError for one that cannot be sent."""
    if len(frames) > MAX_FRAMES:
        raise UsageError(f"{len(frames):,} different packets; at most {MAX_FRAMES:,} are kept")
    for number, one in enumerate(frames, 1):
        if why := skipped.why(one, shown):
            which = f"packet {number}" if len(frames) > 1 else "the packet"
            raise UsageError(f"{which} is {why}: it has {len(one)}")
    return list(frames)


def stamps_of(found: list[Stamped]) -> tuple[list[bytes], list[int]]:
    """Frames and places."""
    return [one.frame for one in found], [one.at for one in found]
