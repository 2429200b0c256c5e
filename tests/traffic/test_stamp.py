"""Numbers in packets: where they stand, and that scapy finds every packet valid."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from netbpf.errors import UsageError
from netbpf.traffic.stamp import FURTHEST, NUMBERS, SIZE, WORDS, Session, folded, stamped

SESSION = Session(0x1234, 0xABCD)
E = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
PACKETS = {
    "udp": E / IP() / UDP(),
    "udp, odd payload": E / IP() / UDP() / ("x" * 101),
    "udp without checksum": E / IP() / UDP(chksum=0) / ("x" * 40),
    "udp6": E / IPv6() / UDP() / "abc",
    "tcp with options": E / IP(options=b"\1\1\1\0") / TCP(options=[("MSS", 1460)]) / ("y" * 33),
    "tcp6 in a vlan": E / Dot1Q(vlan=5) / IPv6() / TCP(),
    "icmp": E / IP() / ICMP() / "ping",
    "icmp6 behind options": E / IPv6() / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest(),
    "another protocol": E / IP(proto=253) / Raw(bytes(50)),
    "fragment": E / IP(frag=10, flags="MF") / Raw(bytes(range(64))),
    "fragment6": E / IPv6() / IPv6ExtHdrFragment(offset=7) / Raw(bytes(64)),
    "arp": E / ARP(),
    "own": E / Raw(b"\x88\xb5"),
}
PLACES = {
    "udp": 42, "udp6": 62, "tcp with options": 62, "tcp6 in a vlan": 78, "icmp": 42, "icmp6 behind options": 70,
    "another protocol": 34, "fragment": 34, "fragment6": 62, "arp": 42,
}  # fmt: skip


def settled(frame: bytes) -> bytes:
    """The frame with every checksum and length as scapy computes it."""
    packet: Packet = Ether(frame)
    for layer in packet.layers():
        for name in ("chksum", "cksum", "len", "plen"):
            # A UDP checksum of zero says that there is none.
            if name in packet[layer].fields and not (layer is UDP and packet[UDP].chksum == 0):
                packet[layer].delfieldval(name)
    return bytes(packet)


@pytest.mark.parametrize("name", PACKETS)
def test_a_packet_stays_valid_whatever_its_number(name: str) -> None:
    plain = bytes(PACKETS[name])
    frame, at = stamped(plain, SESSION)
    assert at == PLACES.get(name, at)
    assert len(frame) == max(len(plain), at + SIZE)
    for number in (0, 1, 0xFFFF, 0x123456789A, NUMBERS):
        numbered = bytearray(frame)
        WORDS.pack_into(numbered, at, *SESSION.words(number))
        assert settled(bytes(numbered)) == bytes(numbered), number


def test_a_stamp_says_its_number_twice_and_sums_what_follows() -> None:
    frame, at = stamped(bytes(PACKETS["udp, odd payload"]), SESSION)
    made = bytearray(frame)
    WORDS.pack_into(made, at, *SESSION.words(7))
    assert made[at : at + 6] == (7).to_bytes(6, "little")
    assert made[at + 8 : at + 14] == (NUMBERS - 7).to_bytes(6, "little")
    assert made[at + 6 : at + 8] + made[at + 14 : at + 16] == b"\x34\x12\xcd\xab"
    assert int.from_bytes(made[at + 16 : at + 18], "little") == folded(b"x" * (101 - SIZE))


def test_sums_are_those_of_rfc_1071() -> None:
    assert folded(bytes.fromhex("0001f203f4f5f6f7")) == 0xF2DD  # its example, in our byte order
    assert folded(b"") == folded(bytes(99)) == 0
    assert folded(b"\xff\xff" * 3) == 0xFFFF


def test_the_rest_of_a_packet_is_not_touched() -> None:
    plain = bytes(PACKETS["tcp with options"])
    frame, at = stamped(plain, SESSION)
    assert frame[at + SIZE :] == plain[at + SIZE :]
    assert frame[:14] == plain[:14]


def test_headers_that_are_too_long_are_refused() -> None:
    deep = E / IPv6() / IPv6ExtHdrHopByHop(options=[]) / Raw(b"")
    frame = bytearray(bytes(deep))
    frame[14 + 40 + 1] = 20  # 168 bytes of options
    with pytest.raises(UsageError, match=rf"at most {FURTHEST} bytes into it"):
        stamped(bytes(frame) + bytes(200), SESSION)


@pytest.mark.parametrize("size", [14, 15, 20, 33, 34, 41, 54])
def test_frames_that_end_early_take_a_number_too(size: int) -> None:
    for packet in (PACKETS["udp"], PACKETS["tcp6 in a vlan"], PACKETS["icmp6 behind options"]):
        frame, at = stamped(bytes(packet)[:size], SESSION)
        assert at % 2 == 0
        assert len(frame) >= at + SIZE


def test_sessions_differ() -> None:
    found = {Session.fresh() for _ in range(50)}
    assert len(found) > 45
    assert all(one.first and one.second for one in found)
