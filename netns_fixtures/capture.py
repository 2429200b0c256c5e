"""Capturing what comes in on one end of a wire, and saying what should have."""

import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from netns_fixtures import sockets
from netns_fixtures.arrivals import PATIENCE, Arrivals
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.frames import (
    ETH_P_LOCAL_EXPERIMENTAL,
    ETHERNET_HEADER,
    Packets,
    mac_bytes,
    to_frames,
)

if TYPE_CHECKING:
    from netns_fixtures.topology import End

# Room for some 80,000 small packets: the kernel charges each 768 bytes.
BUFFER: Final = 64 << 20
# What a stack capture listens to (include/uapi/linux/if_ether.h): 802.3 and 802.2, IPv4, ARP, IPv6, VLAN tags below
# the outermost, MPLS, PPPoE, LLDP, and the two for experiments.
STACK_PROTOCOLS: Final = (
    0x0001, 0x0004, 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8, 0x8847, 0x8848, 0x8864, 0x88CC, 0x88B5, 0x88B6,
)  # fmt: skip

Point = Literal["wire", "stack"]
_SENTINEL: Final = b"netns_fixtures sentinel "
_numbers = itertools.count(1)


def sentinel_frame(source: str, target: str) -> bytes:
    """A frame like no other: EtherType 0x88b5, a text and a number, 60 bytes."""
    header = mac_bytes(target) + mac_bytes(source) + ETH_P_LOCAL_EXPERIMENTAL.to_bytes(2)
    return (header + _SENTINEL + f"{os.getpid()}.{next(_numbers)}".encode()).ljust(60, b"\0")


class Capture(Arrivals):
    """The packets that come in on ``end`` from its making on. Made by ``End.capture``.

    ``point`` says where they are taken:

    - ``"wire"``: behind XDP and before TC ingress. What XDP drops is not seen; what TC drops is.
    - ``"stack"``: behind TC ingress, where the protocols receive. The kernel has taken the outermost VLAN tag off by
      then for good, so expected packets are compared without theirs. Packets of different EtherTypes may come out of
      order, and only the EtherTypes of STACK_PROTOCOLS and ``protocols`` are seen; another one is an error.

    Used as a context manager it fails at the end for packets nobody took, unless ``strict`` is False.
    """

    def __init__(
        self,
        end: "End",
        point: Point,
        *,
        protocols: Iterable[int] = (),
        strict: bool = True,
        buffer: int = BUFFER,
    ) -> None:
        super().__init__(end.ifname, end.other.mac, end.mac)
        self.end = end
        self.point = point
        self.strict = strict
        self._protocols = sorted({*STACK_PROTOCOLS, *protocols}) if point == "stack" else []
        made = sockets.receivers(
            end.namespace, end.ifname, [sockets.ETH_P_ALL, *self._protocols], buffer
        )
        self._tap, self._stack = made[0], made[1:]
        end.adopt(made)
        end.evidence.watch(self)
        self._waiting_for: bytes | None = None
        self._sentinel_seen = False
        self._seen = self._lost = 0
        self.closed = False

    # --- reading ---

    def _drain(self) -> None:
        if self.closed:
            raise TrafficError(f"the capture on {self.end.ifname} is closed")
        # The tap is read first: whatever came before the last frame it shows has been through TC by now.
        tap = list(_read(self._tap))
        if self._stack:
            self._check_types(tap)
            self._sentinel_seen |= self._waiting_for in tap
            tap = [frame for sock in self._stack for frame in _read(sock)]
        came = list(self._without_sentinels(tap))
        self._arrived += came
        self.end.evidence.seen(came, self.end.ifname)
        self._check_drops()

    def look(self) -> None:
        """Read what has arrived; nobody takes it."""
        self._drain()

    def _without_sentinels(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        for frame in frames:
            if frame == self._waiting_for:
                self._sentinel_seen = True
            elif not frame.startswith(_SENTINEL, ETHERNET_HEADER):
                # Another capture's sentinel, or a late copy of an earlier one, is nobody's packet.
                yield frame

    def _check_types(self, frames: list[bytes]) -> None:
        for frame in frames:
            kind = int.from_bytes(frame[12:14])
            if kind in (0x8100, 0x88A8):
                kind = int.from_bytes(frame[16:18])
            if kind >= 0x600 and kind not in self._protocols:
                raise TrafficError(
                    f"a packet of EtherType {kind:#06x} came in on {self.end.ifname}, which this capture behind TC "
                    f"cannot see: capture('stack', protocols=[{kind:#06x}])"
                )

    def _check_drops(self) -> None:
        for sock in (self._tap, *self._stack):
            seen, dropped = sockets.arrivals(sock)
            self._seen += seen
            self._lost += dropped
        if self._lost:
            raise TrafficError(
                f"the capture on {self.end.ifname} lost {self._lost} of {self._seen} packets: nothing it shows can be "
                "trusted; read it more often, or give it a larger buffer"
            )

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Read until ``done`` (True) or until so many seconds have passed (False)."""
        deadline = time.monotonic() + seconds
        while True:
            self._drain()
            if done():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([self._tap, *self._stack], [], [], left)

    def await_packets(self, number: int) -> None:
        """Wait until so many packets have arrived, or patience is at its end; whoever takes them says what is wrong."""
        self._wait(lambda: len(self._arrived) >= number, PATIENCE)

    # --- expecting ---

    def expect_none(
        self,
        *packets: Packets,
        ignore: Iterable[str] = (),
        sentinel: Packets | None = None,
        sender: "End | None" = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """None of ``packets`` arrives; without any, nothing arrives but what was taken.

        No time-out says so: a sentinel packet is sent after them, and once it has arrived whatever was sent before
        would have too. It goes past TC egress, and a TC ingress program may drop it, but an XDP program has to let it
        pass and sees it like any other (EtherType 0x88b5, 60 bytes). For one that does not, give a ``sentinel`` that
        it lets pass, or ``until``: a function that tells whether the packets were processed, such as a counter of
        the program that has reached its value.

        ``sender`` is the end that sends the sentinel, if not the other one of this wire.
        Raises ExpectationError, also if the sentinel does not arrive.
        """
        __tracebackhide__ = True
        self.settle(sentinel=sentinel, sender=sender, until=until)
        self._reject(packets, ignore)

    def settle(
        self,
        *,
        sentinel: Packets | None = None,
        sender: "End | None" = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Wait until all that was sent so far has come through; see ``expect_none``."""
        __tracebackhide__ = True
        if until is not None:
            if not self._wait_until(until):
                raise ExpectationError(f"until() was still false after {PATIENCE:g} s")
            self._drain()
            return
        sender = sender or self.end.other
        self._drain()
        self._sentinel_seen = False
        if sentinel is None:
            self._waiting_for = sentinel_frame(sender.mac, self.end.mac)
            sender.send_past_tc(self._waiting_for)
        else:
            [self._waiting_for] = to_frames(sentinel, sender.mac, self.end.mac)
            sender.send(self._waiting_for)
        if not self._wait(lambda: self._sentinel_seen, PATIENCE):
            raise ExpectationError(
                f"the sentinel did not arrive at {self.end.ifname} within {PATIENCE:g} s, so nothing can be said about "
                f"what else did not. Does the program drop EtherType 0x88b5? Then give sentinel= a packet that passes, "
                f"or until= a counter.\n{self._state()}"
            )

    def _wait_until(self, until: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > deadline:
                return False
            # A wake-up by the next packet, or soon anyway: nothing announces that a counter moved.
            select.select([self._tap], [], [], 0.001)
        return True

    def _seen_here(self, frame: bytes) -> bytes:
        tagged = int.from_bytes(frame[12:14]) in (0x8100, 0x88A8)
        return frame[:12] + frame[16:] if self._stack and tagged else frame

    # --- reporting ---

    def _state(self) -> str:
        """The driver's counters of both ends that are not zero: where packets may have gone."""
        lines = []
        for end in (self.end.other, self.end):
            moved = {
                name: value
                for name, value in end.statistics().items()
                if value and name != "peer_ifindex"
            }
            text = ", ".join(f"{name}={value}" for name, value in moved.items()) or "all zero"
            lines.append(f"  {end.ifname}: sent {end.sent}; driver counters {text}")
        return "\n".join(lines)

    # --- the end ---

    def close(self) -> None:
        """Stop capturing. Its sockets are closed together with the wire's, since each takes the kernel 12 ms."""
        if not self.closed:
            self.closed = True
            for sock in (self._tap, *self._stack):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            # A test that has failed already has said enough.
            if kind is None and self.strict:
                self.check_taken()
        finally:
            self.close()


def _read(sock: socket.socket) -> Iterator[bytes]:
    while (frame := sockets.receive(sock)) is not None:
        yield frame
