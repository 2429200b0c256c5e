"""A capture from its beginning to its end: put on the hook, read, watched over, and taken off again."""

import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Final, Self

from netbpf._sys.grace import grace_period
from netbpf.bpf.chain import verdicts
from netbpf.bpf.program import Program
from netbpf.bpf.ringbuf import RingBuffer
from netbpf.bpf.tap import Counts, Place
from netbpf.bpf.tap.place import RECORD
from netbpf.errors import NetbpfError, NotAttachedError, NotSupportedError
from netbpf.manager import taps
from netbpf.manager.repair import repair
from netbpf.manager.status import opened
from netbpf.manager.undo import uninterrupted
from netbpf.manager.words import where
from netbpf.model import Tap
from netbpf.net.devices import device
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.lock import locked
from netbpf.state.taps import Life, remembered
from netbpf.tap.model import CapturedPacket, CaptureRequest, CaptureSummary
from netbpf.tap.records import Decoder
from netbpf.tap.watch import Watch
from netbpf.text import escape

_CHECK: Final = 0.5  # seconds between two looks whether the hook still has the capture
_GATHER: Final = (
    0.005  # seconds for more to come after a batch: each wake-up costs the one who sends
)
_BATCH: Final = 4096  # records
_IFF_UP: Final = 1


class Capture:
    """A running capture. A context manager, and an iterator over its packets.

    It ends by ``stop()``, which any thread and any signal handler may call, or by itself where the hook loses it; then
    ``summary().ended`` says why. What came before is still given.
    """

    def __init__(self, request: CaptureRequest, netns: str | Namespace | None = None) -> None:
        """Put it on the hook. Raises what ``netbpf.capture`` does; then the hook is as it was."""
        self.request = request
        self.notes: tuple[str, ...] = ()
        self._captured = 0
        self._ended = ""
        self._stopping = self._off = self._down = False
        self._left = False
        self._next_check = 0.0
        self._members: dict[int, str] = {}
        self._counts: Counts | None = None  # once it has ended
        self._tapped: set[int] = set()
        with ExitStack() as stack:
            self._namespace = stack.enter_context(opened(netns))
            self.session = stack.enter_context(Session(self._namespace))
            self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, self._wake)
            stack.callback(os.close, self._waker)
            self._start(stack)
            self._stack = stack.pop_all()

    def _start(self, stack: ExitStack) -> None:
        request = self.request
        if "PREEMPT_RT" in os.uname().version:
            raise NotSupportedError(
                "captures need a kernel in which packets do not preempt each other on a CPU; this one is PREEMPT_RT",
                hint="netbpf monitor and netbpf stats work here",
            )
        code = _compiled(request.filter)
        self._watch = stack.enter_context(Watch(self._namespace))
        life = Life()
        stack.callback(lambda: life.close(left=self._left))
        self.place = stack.enter_context(Place.create(request.snaplen, request.buffer << 20))
        self.ring = stack.enter_context(RingBuffer(self.place.ring))
        with locked(request.lock_timeout), uninterrupted(), ExitStack() as undo:
            self.notes = repair(self.session)
            self.at, there = taps.spot(
                self.session, request.interface, request.hooks, request.member
            )
            hook = self.at.hook
            self.verdicts = verdicts.known(hook)
            self._mask = 0
            for number in verdicts.numbers(hook, request.verdicts) if request.verdicts else ():
                self._mask |= 1 << verdicts.layout(hook).index(number)
            if self.at.untapped:
                with suppress(NotAttachedError):
                    self._plain = stack.enter_context(Program.by_id(self.at.untapped))
            self.tap = Tap(
                life.name, os.getpid(), time.time(), request.filter, code.hex(), request.member,
                self.place.state.info.id, self.place.ring.info.id, request.snaplen, self._mask,
            )  # fmt: skip
            self._watch.guard(self.at, self.tap.name, getattr(self, "_plain", None))
            undo.callback(
                lambda: taps.end(self.session, self.at, self.tap.name, frozenset(self._tapped))
            )
            taps.put(self.session, self.at, there, self.tap, request.mode)
            self._look()
            undo.pop_all()
        stack.callback(self._end_quietly)
        self.decoder = Decoder(
            {number: name for name, number in self.verdicts.items()}, self._member
        )

    # --- reading ---

    def __iter__(self) -> Iterator[CapturedPacket]:
        """The packets, one after the other, until it ends."""
        for batch in self.batches():
            yield from batch

    def batches(self, count: int | None = None) -> Iterator[list[CapturedPacket]]:
        """The packets, as many at a time as there are, until it ends or has given ``count`` of them.

        An empty list comes now and then where no packets do.
        """
        ring, poller = self.ring, select.poll()
        poller.register(ring.fileno(), select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        gather = select.poll()
        gather.register(self._wake, select.POLLIN)
        most = count
        while True:
            if self._stopping and not self._off:
                # First of all: where more comes than can be read there would be no end. What is in the buffer is read,
                # also where the capture has to stay on the hook for now.
                self._take_off()
                waiting = self._captured + self.ring.pending // RECORD
                most = waiting if most is None else min(most, waiting)
            left = _BATCH if most is None else min(_BATCH, most - self._captured)
            if left <= 0:
                return
            found = ring.read(left)
            if found:
                self._captured += len(found)
                yield self.decoder.packets(found)
                if not self._stopping and len(found) < _BATCH:
                    gather.poll(_GATHER * 1000)
            elif self._off:
                return
            elif not self._stopping:
                poller.poll(_CHECK * 1000)
                if time.monotonic() >= self._next_check and not self._stopping:
                    self._check()
                    yield []

    def stop(self) -> None:
        """End it: what has come is still given."""
        self._stopping = True
        with suppress(OSError):
            os.write(self._waker, b"x")

    def summary(self) -> CaptureSummary:
        """What has been counted so far."""
        counts = self._counts or self.place.counts()
        shape = verdicts.layout(self.at.hook)
        found = {
            name: packets
            for name, number in self.verdicts.items()
            if (packets := counts.verdicts[shape.index(number)])
        }
        other = counts.verdicts[shape.count - 1]
        if (
            other
            and verdicts.OTHER not in found
            and shape.count - 1 not in {shape.index(number) for number in self.verdicts.values()}
        ):
            found[verdicts.OTHER] = other
        return CaptureSummary(
            counts.seen, counts.matched, self._captured, counts.lost, counts.nested, found, self._ended
        )  # fmt: skip

    # --- the hook ---

    def _check(self) -> None:
        """Whether the hook still has it."""
        self._next_check = time.monotonic() + _CHECK
        why = self._look()
        if why:
            self._ended = why
            self._stopping = True

    def _look(self) -> str:
        at = self.at
        index = at.interface.index
        found = device(self.session, index)
        if found is None:
            return f"interface {escape(at.interface.name)} is gone"
        self._down = not found.flags & _IFF_UP
        record = records.read(at.interface.netns, index, at.hook)
        there = occupants(self.session, index, hooks=(at.hook,))
        for one in there:
            known = record.generation(one.prog_id) if record else None
            if known and any(tap.name == self.tap.name for tap in known.taps):
                self._tapped.add(one.prog_id)
                self._watch.tapped(one.prog_id)
                return ""
            if one.prog_id in self._tapped:
                return ""
        member = self.request.member
        if member and record:
            return f"{where(at.interface, at.hook)}: member {escape(member)} was taken out"
        if not there:
            return f"{where(at.interface, at.hook)}: what ran there was taken off"
        return f"{where(at.interface, at.hook)}: something else was put there"

    @property
    def down(self) -> bool:
        """Whether the interface was down when that was last looked at: nothing comes then."""
        return self._down

    def _member(self, number: int) -> str:
        """The member of a number: written down before its first packet."""
        if number not in self._members:
            self._members = remembered(self.tap.name)
        return self._members.get(number, "?")

    def _take_off(self) -> None:
        """The hook as it was; packets that are in the program now are waited for."""
        if self._off:
            return
        with locked(self.request.lock_timeout), uninterrupted():
            self._left = not taps.end(self.session, self.at, self.tap.name, frozenset(self._tapped))
            self._off = True
        grace_period()

    def _end_quietly(self) -> None:
        """On the way out; what fails is left to the watcher, and to the next command."""
        try:
            self._take_off()
            self._members = remembered(self.tap.name)
            self._watch.done()
        except NetbpfError:
            self._left = True
        self._counts = self.place.counts()

    def close(self) -> None:
        """Take it off the hook, and let go of everything; closing twice is harmless."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _compiled(expression: str) -> bytes:
    if not expression.strip():
        return b""
    from netbpf._sys.pcap import compile_filter  # the library is only for filters

    return compile_filter(expression)
