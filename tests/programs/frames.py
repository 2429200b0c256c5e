"""Frames for the tests of the shipped programs, byte for byte: fixed MACs, addresses and ports."""

import struct
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

SENDER = "02:00:00:00:00:aa"
RECEIVER = "02:00:00:00:00:bb"
SRC4, DST4 = "10.1.2.3", "192.0.2.9"
SRC6, DST6 = "2001:db8::1", "2001:db8:1::2"

ETHERNET, IPV4, IPV6 = 14, 20, 40  # bytes of the headers
TCP_NUMBER, UDP_NUMBER = 6, 17


def ethernet(payload: Packet | bytes, dst: str = RECEIVER, kind: int | None = None) -> bytes:
    """A frame from SENDER; the EtherType is that of the payload, or ``kind``."""
    header = Ether(src=SENDER, dst=dst) if kind is None else Ether(src=SENDER, dst=dst, type=kind)
    return bytes(header / (Raw(payload) if isinstance(payload, bytes) else payload))


def ipv4(payload: Packet | bytes, **fields: object) -> bytes:
    """An IPv4 packet; ``fields`` are scapy's: src, dst, flags, frag, options, proto."""
    header = IP(**{"src": SRC4, "dst": DST4, **fields})
    return ethernet(header / (Raw(payload) if isinstance(payload, bytes) else payload))


def ipv6(payload: Packet | bytes, **fields: object) -> bytes:
    """An IPv6 packet; ``fields`` are scapy's: src, dst, nh, hlim."""
    header = IPv6(**{"src": SRC6, "dst": DST6, **fields})
    return ethernet(header / (Raw(payload) if isinstance(payload, bytes) else payload))


def tcp4(sport: int = 1000, dport: int = 80, **fields: object) -> bytes:
    """TCP over IPv4."""
    return ipv4(TCP(sport=sport, dport=dport), **fields)


def udp4(sport: int = 1000, dport: int = 53, **fields: object) -> bytes:
    """UDP over IPv4."""
    return ipv4(UDP(sport=sport, dport=dport) / b"question", **fields)


def icmp4() -> bytes:
    """An ICMP echo request."""
    return ipv4(ICMP())


def tcp6(sport: int = 1000, dport: int = 80, **fields: object) -> bytes:
    """TCP over IPv6."""
    return ipv6(TCP(sport=sport, dport=dport), **fields)


def udp6(sport: int = 1000, dport: int = 53, **fields: object) -> bytes:
    """UDP over IPv6."""
    return ipv6(UDP(sport=sport, dport=dport) / b"question", **fields)


def echo6(**fields: object) -> bytes:
    """An ICMPv6 echo request."""
    return ipv6(ICMPv6EchoRequest(), **fields)


def arp() -> bytes:
    """An ARP request."""
    return ethernet(ARP(hwsrc=SENDER, psrc="10.0.0.1", pdst="10.0.0.2"))


def discovery(kind: str, hop_limit: int = 255) -> bytes:
    """IPv6 neighbour discovery: "rs", "ra", "ns", "na" or "redirect"."""
    target = "fe80::2"
    message = {
        "rs": ICMPv6ND_RS(),
        "ra": ICMPv6ND_RA(),
        "ns": ICMPv6ND_NS(tgt=target),
        "na": ICMPv6ND_NA(tgt=target),
        "redirect": ICMPv6ND_Redirect(tgt=target, dst=target),
    }[kind]
    return ipv6(message, src="fe80::1", dst=target, hlim=hop_limit)


def lldp(dst: str = "01:80:c2:00:00:0e") -> bytes:
    """An LLDP frame, or one of its EtherType to another address."""
    return ethernet(bytes(46), dst, 0x88CC)


def stp() -> bytes:
    """A spanning tree frame: 802.3 with a length where others have an EtherType."""
    return ethernet(b"\x42\x42\x03" + bytes(35), "01:80:c2:00:00:00", 38)


def strange(size: int = 60) -> bytes:
    """A frame of an EtherType for experiments."""
    return ethernet(bytes(size - ETHERNET), kind=0x88B6)


def tagged(frame: bytes, *tpids: int) -> bytes:
    """The frame behind VLAN tags, given from the outermost to the innermost."""
    return frame[:12] + b"".join(struct.pack("!HH", tpid, 5) for tpid in tpids) + frame[12:]


def changed(frame: bytes, offset: int, value: int) -> bytes:
    """The frame with another byte at one place."""
    return frame[:offset] + bytes([value]) + frame[offset + 1 :]


# --- extension headers ---------------------------------------------------------------------------


class Ext(NamedTuple):
    """A header of the protocol number ``number``; ``body`` is all behind its first byte, the next header."""

    number: int
    body: bytes


HOP_BY_HOP, ROUTING, FRAGMENT, AUTH, DEST_OPTIONS, MOBILITY, HIP, SHIM6 = (
    0,
    43,
    44,
    51,
    60,
    135,
    139,
    140,
)
WITH_LENGTH_IN_EIGHTS = (HOP_BY_HOP, ROUTING, DEST_OPTIONS, MOBILITY, HIP, SHIM6)  # fmt: skip


def ext(number: int, length: int = 0) -> Ext:
    """One whose length field counts 8 bytes beyond the first 8."""
    return Ext(number, bytes([length]) + bytes(6 + 8 * length))


def auth(length: int = 4) -> Ext:
    """AH, whose length field counts 4 bytes beyond the first 8."""
    return Ext(AUTH, bytes([length]) + bytes(6 + 4 * length))


def fragment(offset: int = 0, more: int = 1) -> Ext:
    """A fragment header; ``offset`` in units of 8 bytes. Its second byte is reserved, and not a length."""
    return Ext(FRAGMENT, b"\xff" + struct.pack("!HI", offset << 3 | more, 77))


def chain(headers: list[Ext], last: int, payload: bytes) -> bytes:
    """Headers end to end, and the payload they announce as ``last``."""
    followers = [*(header.number for header in headers), last][1:]
    joined = (bytes([n]) + header.body for n, header in zip(followers, headers, strict=True))
    return b"".join(joined) + payload


def extended(headers: list[Ext], last: int = TCP_NUMBER, payload: bytes | None = None) -> bytes:
    """An IPv6 packet with extension headers before TCP to port 80, or something else."""
    if payload is None:
        payload = bytes(TCP(sport=1000, dport=80))
    first = headers[0].number if headers else last
    return ipv6(chain(headers, last, payload), nh=first)


def authenticated4() -> bytes:
    """TCP to port 80 behind AH over IPv4."""
    return ipv4(chain([auth()], TCP_NUMBER, bytes(TCP(sport=1000, dport=80))), proto=AUTH)


# Every kind of extension header at several lengths, by a name for the test's id.
EXTENSIONS = {
    **{f"{n} length {length}": ext(n, length) for n in WITH_LENGTH_IN_EIGHTS for length in (0, 1, 3, 40, 255)},
    **{f"{AUTH} length {length}": auth(length) for length in (1, 4, 7, 255)},
    f"{FRAGMENT} first": fragment(0, 1),
    f"{FRAGMENT} only": fragment(0, 0),
}  # fmt: skip
EIGHT = [ext(HOP_BY_HOP), ext(DEST_OPTIONS), ext(ROUTING, 2), fragment(), auth(), ext(DEST_OPTIONS, 1),
         ext(MOBILITY), ext(HIP)]  # fmt: skip
