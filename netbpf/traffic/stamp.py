"""Numbers in packets: where they stand, and how the packet stays valid whatever number it carries.

A stamp is 18 bytes at an even place, behind the headers that are known (UDP, TCP, ICMP, IP, Ethernet):

    0  number, 48 bits           8  the number's complement, 48 bits     16  sum of the bytes behind the stamp
    6  tag of the sender         14 another tag of the sender

all little-endian. A number and its complement add nothing to an Internet checksum (RFC 1071): each of their 16-bit
words comes with its opposite, and 0xffff is zero there. So checksums are made right once, for every number.
"""

import secrets
import struct
from typing import Final, NamedTuple

from netbpf.errors import UsageError

SIZE: Final = 18  # bytes
FURTHEST: Final = 174  # bytes from the frame's beginning, even; receivers look no further
NUMBERS: Final = (1 << 48) - 1
WORDS: Final = struct.Struct("<QQ")
_SUM: Final = struct.Struct("<H")
_NET16: Final = struct.Struct(">H")
_VLANS: Final = (0x8100, 0x88A8, 0x9100)
_IPV4, _IPV6 = 0x0800, 0x86DD
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_EXTENSIONS: Final = (0, 43, 60)  # hop-by-hop, routing, destination options
_FRAGMENT: Final = 44
_CHECKSUM_AT: Final = {_ICMP: 2, _TCP: 16, _UDP: 6, _ICMP6: 2}


class Session(NamedTuple):
    """The two tags of one sender, random, so that no other's packets are taken for its own."""

    first: int
    second: int

    @classmethod
    def fresh(cls) -> "Session":
        """New ones. Neither is zero: a packet of zeros carries no stamp."""
        return cls(1 + secrets.randbelow(0xFFFF), 1 + secrets.randbelow(0xFFFF))

    def words(self, number: int) -> tuple[int, int]:
        """The stamp's first 16 bytes, as two numbers of 64 bits."""
        return self.first << 48 | number, self.second << 48 | NUMBERS - number


class Stamped(NamedTuple):
    """A frame with a stamp of number 0 at ``at``."""

    frame: bytes
    at: int


class _Headers(NamedTuple):
    """Where things are: the payload, the IP header (0: none), its end by its own length, and what lies in it."""

    payload: int
    network: int = 0
    version: int = 0
    end: int = 0
    transport: int = 0
    protocol: int = -1


def stamped(frame: bytes, session: Session) -> Stamped:
    """Put a stamp into a frame of at least 14 bytes; a payload that is too short for it is made longer.

    Checksums of IPv4, UDP, TCP and ICMP are made right. UsageError where the headers are too long for a stamp.
    """
    found = _headers(frame)
    if found.payload > FURTHEST:
        raise UsageError(
            f"the packet's headers take {found.payload} bytes; a number can stand at most {FURTHEST} bytes into it",
            hint="send it without numbers",
        )
    made = bytearray(frame)
    short = found.payload + SIZE - (found.end or len(made))
    if short > 0:
        _grow(made, found, short)
    at = found.payload
    WORDS.pack_into(made, at, *session.words(0))
    _SUM.pack_into(made, at + 16, folded(bytes(made[at + SIZE :])))
    _settle(made, found)
    return Stamped(bytes(made), at)


def folded(data: bytes) -> int:
    """The sum of little-endian 16-bit words with carries added (RFC 1071), an odd byte filled up with zero.

    0 only for nothing but zeros, so bytes of padding change nothing.
    """
    data += bytes(-len(data) % 2)
    total: int = sum(struct.unpack(f"<{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _u16(frame: bytes | bytearray, at: int) -> int:
    return int.from_bytes(frame[at : at + 2])


def _headers(frame: bytes) -> _Headers:
    at = 12
    while _u16(frame, at) in _VLANS and len(frame) >= at + 6:
        at += 4
    kind, at = _u16(frame, at), at + 2
    rest = len(frame) - at
    if kind == _IPV4 and rest >= 20 and frame[at] >> 4 == 4 and frame[at] & 15 >= 5:
        size = 4 * (frame[at] & 15)
        end = at + max(_u16(frame, at + 2), size)
        whole = not _u16(frame, at + 6) & 0x3FFF  # more fragments, or not the first
        return _transport(frame, at, 4, end, at + size, frame[at + 9] if whole else -1)
    if kind == _IPV6 and rest >= 40 and frame[at] >> 4 == 6:
        end = at + 40 + _u16(frame, at + 4)
        following, place = frame[at + 6], at + 40
        while following in _EXTENSIONS and place + 8 <= len(frame):
            following, place = frame[place], place + 8 + 8 * frame[place + 1]
        if following == _FRAGMENT:
            following, place = -1, place + 8
        return _transport(frame, at, 6, end, place, following)
    # Nothing is written over in a protocol that is not known: the stamp stands behind what ARP needs.
    return _Headers(at + 28 if kind == 0x0806 else at)


def _transport(
    frame: bytes, network: int, version: int, end: int, at: int, protocol: int
) -> _Headers:
    sizes = {_UDP: 8, _ICMP: 8, _ICMP6: 8, _TCP: 20}
    if protocol not in sizes or len(frame) < at + sizes[protocol]:
        return _Headers(at, network, version, end)
    size = max(4 * (frame[at + 12] >> 4), 20) if protocol == _TCP else sizes[protocol]
    return _Headers(at + size, network, version, end, at, protocol)


def _grow(made: bytearray, found: _Headers, by: int) -> None:
    """Make the payload longer: the bytes, and the lengths that headers say."""
    need = found.payload + SIZE
    if len(made) < need:
        made += bytes(need - len(made))
    if not found.network:
        return
    field = found.network + (2 if found.version == 4 else 4)
    _NET16.pack_into(made, field, min(_u16(made, field) + by, 0xFFFF))
    if found.protocol == _UDP:
        field = found.transport + 4
        _NET16.pack_into(made, field, min(_u16(made, field) + by, 0xFFFF))


def _settle(made: bytearray, found: _Headers) -> None:
    """Make the checksums right."""
    if not found.network:
        return
    network = found.network
    if found.version == 4:
        size = 4 * (made[network] & 15)
        _NET16.pack_into(made, network + 10, 0)
        _NET16.pack_into(made, network + 10, _checksum(bytes(made[network : network + size])))
    if found.protocol < 0:
        return
    field = found.transport + _CHECKSUM_AT[found.protocol]
    if found.protocol == _UDP and found.version == 4 and not _u16(made, field):
        return  # it has none
    end = max(found.end, found.payload + SIZE)
    data = bytes(made[found.transport : end])
    pseudo = b""
    if found.protocol != _ICMP:
        first, width = (network + 12, 8) if found.version == 4 else (network + 8, 32)
        pseudo = bytes(made[first : first + width]) + struct.pack(">II", len(data), found.protocol)
    _NET16.pack_into(made, field, 0)
    data = bytes(made[found.transport : end])
    value = _checksum(pseudo + data)
    _NET16.pack_into(made, field, value or 0xFFFF if found.protocol == _UDP else value)


def _checksum(data: bytes) -> int:
    # Swapping the bytes of every word swaps those of the sum.
    return ~int.from_bytes(folded(data).to_bytes(2, "little")) & 0xFFFF
