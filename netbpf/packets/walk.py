"""``netbpf explain``: packets through copies of what runs on an interface, member by member, and all that is seen."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from netbpf.constants import Hook, XdpAction
from netbpf.errors import NetbpfError, NotSupportedError, UsageError
from netbpf.manager.status import opened
from netbpf.net.netns import Namespace
from netbpf.packets.capture import open_capture
from netbpf.packets.changes import Snapshot
from netbpf.packets.context import Context
from netbpf.packets.run import told
from netbpf.packets.testrun import Outcome
from netbpf.packets.walk_copy import Station, Stop, Way, copied
from netbpf.packets.walk_model import (
    HookWalk,
    MemberWalk,
    PacketWalk,
    WalkGroup,
    WalkResult,
)
from netbpf.packets.walk_tell import Lines, Told
from netbpf.packets.walk_words import sentence
from netbpf.text import escape

# Bytes read, the file's size (0 where it has none), packets run.
Progress = Callable[[int, int, int], None]
_COMPARED, _COMPARED_OF_MANY = 65_536, 1024  # entries of a map, for one packet and for each of many
_NUMBERED: Final = 1000  # packets of a group whose numbers are kept
# With these a packet goes on from XDP to TC.
_GOES_ON: Final = frozenset({int(XdpAction.PASS)})


@dataclass(frozen=True, slots=True)
class WalkRequest:
    """What is asked of ``walk``: the packet, or the capture and which of its packets."""

    interface: str
    hooks: tuple[Hook, ...]
    packet: bytes | None = None
    capture: str | os.PathLike[str] | None = None
    number: int | None = None
    limit: int | None = None
    context: Context | None = None
    netns: str | Namespace | None = None


def walk(request: WalkRequest, progress: Progress | None = None) -> WalkResult:
    """Send a packet, or those of a capture, through copies of what netbpf runs on an interface.

    What is live is only read. Raises NotAttachedError, NotManagedError, CaptureError, what loading a program raises,
    and for a single packet what ``Bench.run`` raises.
    """
    with (
        opened(request.netns) as namespace,
        copied(request.interface, request.hooks, namespace) as way,
    ):
        walker = _Walker(request, way, namespace)
        if request.packet is not None:
            walk_of = walker.packet(request.packet, _COMPARED)
            groups = [WalkGroup(1, (), walker.full(walk_of))]
            return _result(request, way, walker, groups, Counter(), ())
        return _capture(request, way, walker, progress)


def _capture(
    request: WalkRequest, way: Way, walker: "_Walker", progress: Progress | None
) -> WalkResult:
    assert request.capture is not None
    groups: dict[object, _Group] = {}
    skipped: Counter[str] = Counter()
    left, last, found = request.limit, 0, 0
    with open_capture(request.capture) as capture:
        for block in capture.blocks():
            for index, number in enumerate(block.numbers):
                last = number
                if left == 0 or (request.number is not None and number != request.number):
                    continue
                left = None if left is None else left - 1
                found += 1
                most = _COMPARED if request.number is not None else _COMPARED_OF_MANY
                packet = block.packet(index)
                try:
                    steps = walker.packet(packet, most)
                except (UsageError, NotSupportedError) as error:
                    if request.number is not None:
                        raise
                    skipped[error.message] += 1
                    continue
                key = tuple(one.key for one in steps)
                if key not in groups:
                    groups[key] = _Group(walker.full(steps))
                groups[key].add(number)
            if progress:
                read, size = capture.progress
                progress(read, size, found)
            done = request.number is not None and last >= request.number
            if left == 0 or done:
                break
        if request.number is not None and not found:
            raise UsageError(
                f"{capture.source.origin} holds no packet {request.number} that is an Ethernet frame"
                + (f": its last is {last}" if last < request.number else "")
            )
        for link, count in capture.skipped.items():
            skipped[f"link type {link}"] = count
        ordered = sorted(groups.values(), key=lambda one: -one.packets)
        made = [one.made() for one in ordered]
        return _result(request, way, walker, made, skipped, tuple(capture.warnings))


class _Group:
    def __init__(self, first: PacketWalk) -> None:
        self.first, self.packets = first, 0
        self.numbers: list[int] = []

    def add(self, number: int) -> None:
        self.packets += 1
        if len(self.numbers) < _NUMBERED:
            self.numbers.append(number)

    def made(self) -> WalkGroup:
        return WalkGroup(self.packets, tuple(self.numbers), self.first)


def _result(
    request: WalkRequest,
    way: Way,
    walker: "_Walker",
    groups: Sequence[WalkGroup],
    skipped: Counter[str],
    warnings: tuple[str, ...],
) -> WalkResult:
    return WalkResult(
        request.interface,
        tuple((stop.hook, tuple(one.name for one in stop.stations)) for stop in way.stops),
        sum(one.packets for one in groups),
        tuple(groups),
        dict(skipped),
        tuple(dict.fromkeys((*way.notes, *walker.notes))),
        warnings,
    )


@dataclass(frozen=True, slots=True)
class _Member:
    """One member that a packet came to: ``key`` is the same for packets that went the same way through it."""

    stop: Stop
    station: Station
    key: object
    packet: bytes
    outcome: Outcome | None
    tell: Callable[[], MemberWalk]


class _Walker:
    def __init__(self, request: WalkRequest, way: Way, namespace: Namespace) -> None:
        self.interface, self.way, self.namespace = request.interface, way, namespace
        self.given = request.context or Context()
        self.notes: list[str] = []
        self.lines = Lines()

    # --- a packet ---

    def packet(self, packet: bytes, most: int) -> list[_Member]:
        """The members that a packet comes to; of maps with more than ``most`` entries no changes are told."""
        found: list[_Member] = []
        for stop in self.way.stops:
            if found and found[-1].outcome:
                if not self._comes_on(found[-1].stop, found[-1].outcome):
                    break
                packet = found[-1].outcome.data
            context = self._context(stop)
            for position, station in enumerate(stop.stations):
                before = Snapshot(station.bench.maps(), stop.hook, most=most)
                self.way.watcher.clear()
                try:
                    outcome = self.namespace.run(station.bench.run, packet, context)
                except (UsageError, NotSupportedError) as error:
                    if not found:
                        raise
                    return [*found, self._refused(stop, station, packet, error)]
                if stop.mixed and outcome.linear < len(outcome.data):
                    self._note(
                        f"{stop.hook} on {escape(self.interface)} takes no frames in several buffers (xdp.frags), "
                        "as this one is, because not all of its members do"
                    )
                last = position == len(stop.stations) - 1
                goes_on = outcome.verdict in station.proceeds and not last
                found.append(
                    self._ran(stop, station, packet, context, outcome, before, goes_on=goes_on)
                )
                if not goes_on:
                    break
                packet = outcome.data
                context = self._next(stop, outcome)
        return found

    def _comes_on(self, before: Stop, outcome: Outcome) -> bool:
        """Whether a packet comes from one hook to the next: from XDP to TC."""
        if before.hook is not Hook.XDP or outcome.verdict not in _GOES_ON:
            return False
        if outcome.meta:
            self._note("metadata that XDP programs leave does not reach the copies at tc")
        return True

    def _context(self, stop: Stop) -> Context:
        given = self.given
        if stop.hook is Hook.XDP:
            return Context(ifindex=stop.ifindex, rx_queue=given.rx_queue, meta=given.meta)
        inward = stop.ifindex if stop.hook is Hook.TC_INGRESS else 0
        return replace(given, ifindex=stop.ifindex, ingress_ifindex=inward, rx_queue=0, meta=b"")

    def _next(self, stop: Stop, outcome: Outcome) -> Context:
        """What the next member sees."""
        if stop.hook is Hook.XDP:
            return replace(self._context(stop), meta=outcome.meta)
        return replace(outcome.context, wire_len=0)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    # --- what is told ---

    def _ran(
        self,
        stop: Stop,
        station: Station,
        packet: bytes,
        context: Context,
        outcome: Outcome,
        before: Snapshot,
        *,
        goes_on: bool,
    ) -> _Member:
        changes = before.changes()
        record = self.way.watcher.record()

        def tell() -> MemberWalk:
            run = told(station.bench, packet, context, outcome, changes)
            seen = self.way.watcher.seen(record)
            one = Told(seen, self.lines, station.bench.maps(), stop.hook)
            touches = one.touches()
            return MemberWalk(
                station.name, station.bench.program, station.object, run, goes_on, one.steps(),
                one.decisions(touches), touches, one.decided(), seen.lost,
            )  # fmt: skip

        edges = frozenset((id(covered), edge) for covered, edge in record.edges)
        key = stop.hook, station.name, outcome.verdict, edges
        return _Member(stop, station, key, packet, outcome, tell)

    def _refused(self, stop: Stop, station: Station, packet: bytes, error: NetbpfError) -> _Member:
        def tell() -> MemberWalk:
            return MemberWalk(
                station.name, station.bench.program, station.object, None, goes_on=False,
                refused=error.message,
            )  # fmt: skip

        return _Member(stop, station, (stop.hook, station.name, error.message), packet, None, tell)

    def full(self, members: Sequence[_Member]) -> PacketWalk:
        """Everything there is to tell of a packet."""
        hooks = []
        for stop, some in _by_stop(members):
            names = [one.name for one in stop.stations]
            walked = tuple(one.tell() for one in some)
            hooks.append(HookWalk(stop.hook, walked, tuple(names[len(walked) :])))
        return PacketWalk(members[0].packet, tuple(hooks), sentence(hooks))


def _by_stop(members: Sequence[_Member]) -> Iterator[tuple[Stop, list[_Member]]]:
    stops = list({id(one.stop): one.stop for one in members}.values())
    for stop in stops:
        yield stop, [one for one in members if one.stop is stop]
