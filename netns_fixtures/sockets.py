"""Packet sockets (packet(7)) inside a namespace, and getting rid of many of them at once."""

import socket
import struct
import threading
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from netbpf.net.netns import Namespace

# include/uapi/linux/if_packet.h, asm-generic/socket.h
SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6
_PACKET_AUXDATA: Final = 8
_PACKET_QDISC_BYPASS: Final = 20  # Linux 3.14
_PACKET_IGNORE_OUTGOING: Final = 23  # Linux 4.20, kernel commit fa788d986a3a
_SO_RCVBUFFORCE: Final = 33
_TP_STATUS_VLAN_VALID: Final = 1 << 4
_TP_STATUS_VLAN_TPID_VALID: Final = 1 << 6
_AUXDATA: Final = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_ANCILLARY: Final = socket.CMSG_SPACE(_AUXDATA.size)
_LARGEST: Final = 1 << 16  # bytes; larger than any frame without GSO, which is off
ETH_P_ALL: Final = 0x0003
ETH_P_8021Q: Final = 0x8100


class Arrivals(NamedTuple):
    """Since the last time it was asked: frames that reached the socket, and those it had no room for."""

    seen: int
    dropped: int


def sender(namespace: Namespace, ifname: str, *, bypass: bool = False) -> socket.socket:
    """A socket that sends frames out of one interface and receives nothing.

    With ``bypass`` they go straight to the driver, past qdiscs and TC egress programs.
    """
    # Protocol 0 binds to no packets at all: nothing is queued for a socket that nobody reads.
    sock = namespace.run(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
    if bypass:
        sock.setsockopt(SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    sock.bind((ifname, 0))
    return sock


def receivers(
    namespace: Namespace, ifname: str, protocols: Iterable[int], buffer: int
) -> list[socket.socket]:
    """Sockets that receive what comes in on one interface, each one EtherType (or ETH_P_ALL), ``buffer`` bytes deep.

    They are complete when this returns: every packet sent from then on is seen.
    """

    def opened() -> list[socket.socket]:
        return [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) for _ in wanted]

    wanted = list(protocols)
    made = namespace.run(opened)
    for sock, protocol in zip(made, wanted, strict=True):
        sock.setblocking(False)
        # FORCE: not limited by net.core.rmem_max. The kernel doubles the number for its own bookkeeping.
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        sock.setsockopt(SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(SOL_PACKET, _PACKET_AUXDATA, 1)
        # Only now does it hear anything: bound before, it would have heard every interface for a moment.
        sock.bind((ifname, protocol))
    return made


def receive(sock: socket.socket) -> bytes | None:
    """The next frame as it was on the wire, or None if there is none yet.

    The kernel takes the outermost VLAN tag off before any socket sees the frame (skb_vlan_untag in net/core/dev.c);
    it is put back from the auxiliary data.
    """
    try:
        frame, ancillary, _, _ = sock.recvmsg(_LARGEST, _ANCILLARY)
    except BlockingIOError:
        return None
    for level, kind, data in ancillary:
        if level == SOL_PACKET and kind == _PACKET_AUXDATA and len(data) >= _AUXDATA.size:
            status, _, _, _, _, tci, tpid = _AUXDATA.unpack_from(data)
            if status & _TP_STATUS_VLAN_VALID:
                kind = tpid if status & _TP_STATUS_VLAN_TPID_VALID else ETH_P_8021Q
                return frame[:12] + struct.pack("!HH", kind, tci) + frame[12:]
    return frame


def arrivals(sock: socket.socket) -> Arrivals:
    """PACKET_STATISTICS, which the kernel sets back to zero when it is read. ``seen`` counts dropped frames too."""
    seen, dropped = struct.unpack("=II", sock.getsockopt(SOL_PACKET, _PACKET_STATISTICS, 8))
    return Arrivals(seen, dropped)


class Closable(Protocol):
    """Whatever can be closed."""

    def close(self) -> None:
        """Let go of it."""


def close_all(sockets: Iterable[Closable]) -> None:
    """Close packet sockets and programs, all at the same time.

    Closing a packet socket waits for an RCU grace period (synchronize_net in packet_release), 12 to 16 ms each, and so
    does a TCX link. In threads they wait for the same one: ten take 12 ms and not 120 (measured).
    """
    waiting = [threading.Thread(target=one.close, name="netns-fixtures-close") for one in sockets]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
