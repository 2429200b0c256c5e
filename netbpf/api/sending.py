"""Packets out of an interface."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netbpf.api.common import StrPath

if TYPE_CHECKING:
    from netbpf.net.netns import Namespace
    from netbpf.traffic.model import SendResult
    from netbpf.traffic.send import Progress


def send(
    interface: str,
    packets: str | bytes | Sequence[str | bytes] = (),
    *,
    capture: StrPath | None = None,
    count: int | None = None,
    loops: int = 1,
    rate: float | None = None,
    speed: float = 1.0,
    xdp: bool = False,
    batch: int = 64,
    bypass: bool = False,
    sequence: bool = False,
    expect: str | None = None,
    expect_netns: str | Namespace | None = None,
    wait: float = 1.0,
    netns: str | Namespace | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> SendResult:
    """Send packets, or those of a capture (pcap, pcapng, gzipped or not), out of an interface.

    ``packets`` are bytes that begin with an Ethernet header, or scapy expressions, whose fields may have several
    values; they are sent in turn, ``count`` in all (None: each once, 0: until ``stop`` is set). A capture is
    sent ``loops`` times (0: without end). ``rate`` is in packets per second, 0 as fast as it goes; None: 1,000 a
    second, or a capture by its recorded times, ``speed`` times as fast. ``xdp`` sends XDP frames through
    BPF_PROG_TEST_RUN (Linux 5.18), ``batch`` at a time; otherwise it is a packet socket, with ``bypass`` past the
    queueing discipline. ``sequence`` writes a number into each packet; ``expect`` is the interface that receives them,
    in the namespace ``expect_netns`` (None: that of the sender): its arrivals are counted until all are there, or none
    came for ``wait`` seconds.
    ``progress`` gets the packets sent, all of them (0: unknown) and seconds; ``stop`` ends it early.
    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError, NotSupportedError, CaptureError,
    ToolMissingError, UsageError, and NetbpfError where an interface is down or goes down.
    """
    from netbpf.traffic.model import SendRequest
    from netbpf.traffic.send import frames_of
    from netbpf.traffic.send import send as run

    given = (packets,) if isinstance(packets, str | bytes) else tuple(packets)
    request = SendRequest(
        interface=interface,
        frames=frames_of(given),
        capture=None if capture is None else os.fspath(capture),
        netns=netns,
        count=count,
        loops=loops,
        rate=rate,
        speed=speed,
        xdp=xdp,
        batch=batch,
        bypass=bypass,
        sequence=sequence,
        expect=expect,
        expect_netns=expect_netns,
        wait=wait,
    )
    return run(request, progress, stop)
