"""Packets as bytes, built without scapy: a thousand of them take 10 ms, which tests of random packets need."""

import ipaddress
import struct
from typing import Final, NamedTuple

ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_IPV6: Final = 0x86DD
ETH_P_8021Q: Final = 0x8100
ETH_P_8021AD: Final = 0x88A8
ICMP, TCP, UDP, ICMPV6, NO_NEXT_HEADER = 1, 6, 17, 58, 59
HOP_BY_HOP, ROUTING, FRAGMENT, AUTH, DEST_OPTIONS = 0, 43, 44, 51, 60

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ethernet(dst: bytes, src: bytes, kind: int, payload: bytes) -> bytes:
    """A frame without padding and FCS."""
    return dst + src + struct.pack("!H", kind) + payload


def tagged(frame: bytes, tags: list[tuple[int, int]]) -> bytes:
    """The frame behind VLAN tags, given from the outermost to the innermost: (TPID, TCI)."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


class Upper(NamedTuple):
    """What an IP header carries: the protocol, its bytes with a checksum of 0, and where that checksum is."""

    protocol: int
    data: bytes
    checksum_at: int | None

    def summed(self, src: Address, dst: Address) -> bytes:
        """The bytes with the right checksum."""
        if self.checksum_at is None:
            return self.data
        pseudo = b""
        if self.protocol != ICMP:  # ICMP over IPv4 has no pseudo header (RFC 792)
            # RFC 9293 3.1, RFC 768; RFC 8200 8.1.
            layout = "!BBH" if src.version == 4 else "!I3xB"
            numbers = (
                (0, self.protocol, len(self.data))
                if src.version == 4
                else (len(self.data), self.protocol)
            )
            pseudo = src.packed + dst.packed + struct.pack(layout, *numbers)
        found = checksum(pseudo + self.data)
        if self.protocol == UDP and found == 0:
            found = 0xFFFF  # 0 says that there is none
        at = self.checksum_at
        return self.data[:at] + struct.pack("!H", found) + self.data[at + 2 :]


def udp(sport: int, dport: int, payload: bytes) -> Upper:
    """A UDP datagram."""
    return Upper(UDP, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload, 6)


def tcp(sport: int, dport: int, flags: int, payload: bytes, options: bytes = b"") -> Upper:
    """A TCP segment; ``options`` are a multiple of 4 bytes."""
    words = 5 + len(options) // 4
    head = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, words << 4, flags, 8192, 0, 0)
    return Upper(TCP, head + options + payload, 16)


def icmp(kind: int, code: int, payload: bytes, *, version: int = 4) -> Upper:
    """An ICMP or ICMPv6 message; ``payload`` is all behind the first four bytes."""
    return Upper(ICMP if version == 4 else ICMPV6, struct.pack("!BBH", kind, code, 0) + payload, 2)


def ipv4(
    src: Address,
    dst: Address,
    protocol: int,
    payload: bytes,
    *,
    ttl: int = 64,
    tos: int = 0,
    identification: int = 1,
    fragment: int = 0,
    options: bytes = b"",
) -> bytes:
    """A packet with the right length and header checksum. ``fragment`` is the word of flags and offset."""
    words = 5 + len(options) // 4
    length = 4 * words + len(payload)
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | words, tos, length, identification, fragment, ttl, protocol, 0, src.packed, dst.packed
    ) + options  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(
    src: Address, dst: Address, next_header: int, payload: bytes, *, hops: int = 64, flow: int = 0
) -> bytes:
    """A packet with the right payload length."""
    head = struct.pack("!IHBB", 6 << 28 | flow, len(payload), next_header, hops)
    return head + src.packed + dst.packed + payload


class Extension(NamedTuple):
    """An IPv6 extension header: its number, and all behind its first byte."""

    number: int
    body: bytes


def extension(number: int, units: int) -> Extension:
    """A well-formed one: ``units`` of 8 bytes beyond the first 8 (AH: 4 beyond 12, routing: 16), mostly padding."""
    if number == AUTH:
        # RFC 4302 2.2: the length counts words of 4 bytes, minus 2.
        return Extension(number, struct.pack("!BxxII", units + 1, 1, 1) + bytes(4 * units))
    if number == ROUTING:
        # RFC 8200 4.4: segments left 0, so whoever does not know the type (253, for experiments) goes on. Whole
        # addresses, as every type that was ever defined has them.
        return Extension(number, bytes([2 * units, 253, 0]) + bytes(4 + 16 * units))
    room = 6 + 8 * units
    options = b""
    while len(options) < room:
        # PadN holds up to 255 bytes, Pad1 fills a single one (RFC 8200 4.2).
        left = room - len(options)
        options += (
            b"\0" if left == 1 else bytes([1, min(left, 257) - 2]) + bytes(min(left, 257) - 2)
        )
    return Extension(number, bytes([units]) + options)


def chained(headers: list[Extension], last: int, payload: bytes) -> tuple[int, bytes]:
    """Headers end to end before a payload of protocol ``last``: the first one's number, and the bytes."""
    numbers = [*(header.number for header in headers), last]
    parts = [
        bytes([following]) + header.body
        for header, following in zip(headers, numbers[1:], strict=True)
    ]
    return numbers[0], b"".join(parts) + payload


def fragment_header(offset: int, more: bool, identification: int) -> Extension:
    """An IPv6 fragment header; ``offset`` in units of 8 bytes (RFC 8200 4.5)."""
    return Extension(FRAGMENT, struct.pack("!BHI", 0, offset << 3 | more, identification))
