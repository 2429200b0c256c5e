"""Sending through a packet socket (packet(7)): any interface, any kernel, a million packets a second."""

import errno
import socket
import struct
import threading
import time
from collections.abc import Generator
from contextlib import closing
from typing import Final, Protocol

from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.packet_messages import MOST, Messages
from netbpf.ahead import ahead
from netbpf.errors import NotSupportedError
from netbpf.traffic.frames import Batch, Skipped
from netbpf.traffic.outlet import Outlet
from netbpf.traffic.pace import Pace, Recorded

_SOL_PACKET: Final = 263
_PACKET_QDISC_BYPASS: Final = 20  # Linux 3.14
_ETHERNET: Final = (1, 772)  # ARPHRD_ETHER, ARPHRD_LOOPBACK: frames begin with an Ethernet header
_PATIENCE_US: Final = 100_000  # how long a full queue may hold a call, before a stop is looked for
_NAP: Final = 0.0002  # seconds until a full queue is tried again
STUCK: Final = 10.0  # seconds that one packet is tried: a slow queue may need some
_FULL: Final = (errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.ENOMEM)

_LENGTH: Final = (errno.EMSGSIZE, errno.EINVAL)  # too long, too short (packet_snd)


class Frames(Protocol):
    """Where packets come from. ``existing`` batches may exist at a time."""

    existing: int

    def batches(self, total: int) -> Generator[Batch, None, None]:
        """At most ``total`` packets, some at a time."""


class RawSender:
    """Sends until everything is sent, or ``stop`` is set. The counts may be read from other threads meanwhile."""

    remark = ""

    def __init__(
        self, outlet: Outlet, frames: Frames, total: int, skipped: Skipped, *, bypass: bool
    ) -> None:
        """Open the socket. Raises PermissionDeniedError, NotSupportedError, and what ``Outlet`` raises."""
        self.sent = self.bytes = self.waits = self.dropped = 0
        self._outlet, self._frames, self._total = outlet, frames, total
        self._skipped, self._passed = skipped, 0  # _passed: sent or refused
        self._socket = outlet.namespace.run(_opened, outlet, bypass=bypass)

    def run(self, pace: Pace, stop: threading.Event) -> None:
        """Send. Raises what ``Outlet.failure`` makes of an errno."""
        messages = Messages()
        batches, most = self._frames.batches(self._total), self._frames.existing
        if most > 1:
            batches = ahead(batches, most=most, stop=stop)
        with closing(batches):
            for batch in batches:
                if batch.again and not self.sent:
                    return  # none of them can be sent, however often
                if isinstance(pace, Recorded):
                    pace.use(self._passed, batch.times)
                self._send(batch, messages, pace, stop)
                if stop.is_set():
                    return

    def _send(self, batch: Batch, messages: Messages, pace: Pace, stop: threading.Event) -> None:
        done, total, fd = 0, len(batch.lengths), self._socket.fileno()
        give_up = None
        while done < total and not stop.is_set():
            allowed = pace.allowed(self._passed)
            if allowed <= 0:
                pace.wait(self._passed, stop)
                continue
            count = messages.send(fd, batch.vectors, done, min(allowed, total - done, MOST))
            if count < 0:
                if -count in _FULL:
                    self.waits += 1
                    give_up = give_up or time.monotonic() + STUCK
                    if time.monotonic() > give_up:
                        raise self._outlet.stuck(batch.lengths[done], STUCK, self.sent)
                    stop.wait(_NAP)
                    continue
                if -count not in _LENGTH or not self._skipped.refused(batch.lengths[done]):
                    raise self._outlet.failure(-count, self.sent)
                done, self._passed = done + 1, self._passed + 1
                continue
            give_up = None
            self.bytes += sum(batch.lengths[done : done + count])
            self.sent += count
            self._passed += count
            done += count

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _opened(outlet: Outlet, *, bypass: bool) -> socket.socket:
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except PermissionError:
        raise permission_error(f"send on {outlet.name}", Capability.NET_RAW) from None
    try:
        # Protocol 0: the socket receives nothing.
        made.bind((outlet.interface.name, 0))
        if made.getsockname()[3] not in _ETHERNET:
            raise NotSupportedError(
                f"{outlet.name} is no Ethernet interface: its packets have no Ethernet header"
            )
        timeout = struct.pack("ll", 0, _PATIENCE_US)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        # Room for a few thousand packets on their way; the kernel takes what net.core.wmem_max allows.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        if bypass:
            made.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    except OSError as error:
        made.close()
        raise outlet.failure(error.errno or 0, 0) from None
    except BaseException:
        made.close()
        raise
    return made
