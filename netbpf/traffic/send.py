"""Sending: what is asked for, made ready, sent by a thread, watched meanwhile, and counted at the end."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final, Protocol, TypeAlias

from netbpf.errors import UsageError
from netbpf.manager.status import opened
from netbpf.traffic.frames import (
    Kept,
    Ring,
    Skipped,
    Stream,
    checked,
    keep_capture,
    stamps_of,
)
from netbpf.traffic.model import DEFAULT_RATE, SendRequest, SendResult
from netbpf.traffic.outlet import Outlet
from netbpf.traffic.pace import ENDLESS, Flood, Pace, Recorded, Steady
from netbpf.traffic.stamp import Session, stamped

# Called now and then with the packets sent, all of them (0: unknown) and the seconds since the beginning.
Progress: TypeAlias = Callable[[int, int, float], None]
_MOST_VARIANTS = 4096  # packets of one expression: scapy makes them slowly
_LOOK: Final = 0.1  # seconds between looks at the interface and calls of progress
_BUSY: Final = 10_000.0  # packets per second, from which on a default route is worth a word


class Sender(Protocol):
    """A way to send."""

    sent: int
    bytes: int
    dropped: int
    waits: int

    @property
    def remark(self) -> str:
        """What has to be said about the counts, "" for nothing."""

    def run(self, pace: Pace, stop: threading.Event) -> None:
        """Send until done or stopped."""

    def close(self) -> None:
        """Let go of everything."""


def send(
    request: SendRequest, progress: Progress | None = None, stop: threading.Event | None = None
) -> SendResult:
    """Send packets out of an interface; ``stop``, once set, ends it early, with what was sent until then.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError, NotSupportedError, CaptureError,
    UsageError for requests and packets that make no sense, NetbpfError where the interface is down or goes down.
    """
    _check(request)
    with ExitStack() as stack:
        namespace = stack.enter_context(opened(request.netns))
        outlet = stack.enter_context(Outlet.open(request.interface, namespace))
        return _Sending(request, outlet, stack).run(progress, stop or threading.Event())


def frames_of(packets: Sequence[str | bytes]) -> tuple[bytes, ...]:
    """The frames of expressions and bytes. Raises PacketTextError, ToolMissingError."""
    found: list[bytes] = []
    for one in packets:
        if isinstance(one, bytes):
            found.append(one)
            continue
        from netbpf.packets.expression import read_expressions

        found += read_expressions(one, _MOST_VARIANTS)
    return tuple(found)


def _check(request: SendRequest) -> None:
    if bool(request.frames) == (request.capture is not None):
        raise UsageError("say what to send: packets, or one capture")
    if request.capture == "-" and (request.loops != 1 or request.count == 0):
        raise UsageError(
            "standard input can be sent only once", hint="put it into a file, or leave the count to it"
        )  # fmt: skip
    if request.rate is not None and request.rate < 0:
        raise UsageError(f"a rate of {request.rate:g} packets per second cannot be")
    if request.speed <= 0:
        raise UsageError(f"a speed of {request.speed:g} cannot be")
    if request.bypass and request.xdp:
        raise UsageError("XDP frames pass no queueing discipline that could be bypassed")


class _Sending:
    def __init__(self, request: SendRequest, outlet: Outlet, stack: ExitStack) -> None:
        self.request, self.outlet, self.stack = request, outlet, stack
        self.skipped = Skipped(outlet.longest)
        self.numbered = request.sequence or request.expect is not None
        self.session = Session.fresh() if self.numbered else None
        self.total = ENDLESS
        self.warnings: list[str] = []
        self.failure: BaseException | None = None

    def run(self, progress: Progress | None, stop: threading.Event) -> SendResult:
        sender = self._sender()
        self.stack.callback(sender.close)
        receiver = None
        if self.request.expect is not None and self.session:
            from netbpf.traffic.receive import Receiver

            namespace = (
                self.outlet.namespace
                if self.request.expect_netns is None
                else self.stack.enter_context(opened(self.request.expect_netns))
            )
            receiver = self.stack.enter_context(
                Receiver.open(self.request.expect, namespace, self.session)
            )
        rate = self._rate()
        if (rate == 0 or (rate or 0) > _BUSY) and self.outlet.default_route():
            self.warnings.append(
                f"{self.outlet.name} has this machine's default route; other traffic on it may suffer"
            )
        before = self.outlet.counted()
        start = time.monotonic()
        seconds, behind = self._drive(sender, rate, progress, stop, start)
        arrivals = receiver.arrivals(sender.sent, self.request.wait, stop) if receiver else None
        if receiver:
            self.warnings += receiver.trouble()
        if sender.remark:
            self.warnings.append(sender.remark)
        after = self.outlet.counted()
        return SendResult(
            interface=self.outlet.interface.name,
            way="xdp" if self.request.xdp else "raw",
            sent=sender.sent,
            bytes=sender.bytes,
            dropped=sender.dropped,
            seconds=seconds,
            rate=rate,
            waits=sender.waits,
            behind=behind,
            skipped=self.skipped.reasons,
            interface_dropped=max(after.dropped - before.dropped, 0),
            stopped=stop.is_set(),
            arrivals=arrivals,
            warnings=(*self.warnings, *self.skipped.warnings),
        )

    # --- what to send, and how fast ---

    def _rate(self) -> float | None:
        """Packets per second, 0: as fast as it goes; None: recorded times."""
        request = self.request
        if request.rate is not None:
            return request.rate
        return None if request.capture is not None and not request.xdp else DEFAULT_RATE

    def _sender(self) -> Sender:
        request = self.request
        if request.capture is not None and not (request.xdp or self.numbered):
            # How many packets a capture holds is known when it is read.
            self.total = request.count or ENDLESS
            again = request.count is not None and request.capture != "-"
            loops = 0 if again else request.loops
            frames: Ring | Stream = Stream(
                request.capture, loops, self.skipped, timed=self._rate() is None
            )
            return self._raw(frames)
        kept = self._kept()
        rounds = len(kept.frames) * (request.loops if request.capture is not None else 1)
        self.total = (request.count if request.count is not None else rounds) or ENDLESS
        if not kept.frames:
            self.total = 0
        stamps: list[int] | None = None
        found = kept.frames
        if self.session:
            found, stamps = stamps_of([stamped(one, self.session) for one in found])
            for one in found:
                if why := self.skipped.why(one):
                    raise UsageError(f"with a number a packet is {why}: it has {len(one)}")
        if request.xdp:
            from netbpf.traffic.live import LiveSender

            return LiveSender.open(
                self.outlet, found, stamps, self.session, self.total, request.batch
            )
        times = kept.times if self._rate() is None else None
        return self._raw(Ring(found or [bytes(14)], times, stamps, self.session))

    def _raw(self, frames: Ring | Stream) -> Sender:
        from netbpf.traffic.raw import RawSender

        bypass = self.request.bypass
        return RawSender(self.outlet, frames, self.total, self.skipped, bypass=bypass)

    def _kept(self) -> Kept:
        request = self.request
        if request.capture is not None:
            return keep_capture(request.capture, self.skipped, request.count or None)
        shown = f", the most that {self.outlet.name} takes with its MTU of {self.outlet.mtu}"
        return Kept(checked(request.frames, self.skipped, shown), [])

    # --- sending ---

    def _drive(
        self,
        sender: Sender,
        rate: float | None,
        progress: Progress | None,
        stop: threading.Event,
        start: float,
    ) -> tuple[float, bool]:
        """Let a thread send, and look at it now and then; seconds, and whether the rate could not be held."""
        end = threading.Event()  # of the thread: also where this one is interrupted
        finished = threading.Event()
        pace: Pace = Recorded(self.request.speed)
        if rate is not None:
            pace = Steady(rate, 2_000_000 if self.request.xdp else 500_000) if rate else Flood()
        taken = [0.0]

        def body() -> None:
            try:
                sender.run(pace, end)
            except BaseException as error:  # noqa: BLE001 - it is raised again below
                self.failure = error
            finally:
                taken[0] = time.monotonic() - start
                finished.set()

        thread = threading.Thread(target=body, name="netbpf-send", daemon=True)
        try:
            thread.start()
            known = 0 if self.total == ENDLESS else self.total
            while not finished.wait(_LOOK):
                if stop.is_set():
                    end.set()
                    continue
                self.outlet.look(sender.sent)
                if progress:
                    progress(sender.sent, known, time.monotonic() - start)
        finally:
            end.set()
            finished.wait()
            thread.join()
        if self.failure is not None:
            raise self.failure
        self.outlet.look(sender.sent)
        return taken[0], pace.behind
