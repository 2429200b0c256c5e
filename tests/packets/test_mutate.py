"""The expected packet as the given one with fields changed: what follows by itself, and what does not."""

import pytest

from netbpf.errors import UsageError
from netbpf.packets.expression import read_expression
from netbpf.packets.fields import differences
from netbpf.packets.mutate import mutate

UDP = "IP(src='10.0.0.1', dst='10.0.0.2', ttl=64)/UDP(sport=1024, dport=4053)/'question'"


@pytest.mark.parametrize(
    ("packet", "changes", "moved"),
    [
        (UDP, {"IP.ttl": 63}, "IP.ttl IP.chksum"),
        (UDP, {"IP.src": "10.0.0.9"}, "IP.src IP.chksum UDP.chksum"),
        (UDP, {"Ether.dst": "02:00:00:00:00:99"}, "Ether.dst"),
        (UDP, {"Raw.load": b"a longer question"}, "IP.len IP.chksum UDP.len UDP.chksum Raw.load"),
        ("IPv6()/TCP()", {"IPv6.dst": "2001:db8::9"}, "IPv6.dst TCP.chksum"),
        ("IPv6()/UDP()/'ab'", {"Raw.load": b"abc"}, "IPv6.plen UDP.len UDP.chksum Raw.load"),
        ("Dot1Q(vlan=4)/Dot1Q(vlan=5)/IP()", {"Dot1Q:2.vlan": 9}, "Dot1Q:2.vlan"),
        ("IP()/IP()/ICMP()", {"IP:2.ttl": 9}, "IP:2.ttl IP:2.chksum"),
        # Without a checksum, with a wrong one, in a fragment: as it was.
        ("IP()/UDP(chksum=0)", {"IP.src": "10.0.0.9"}, "IP.src IP.chksum"),
        ("IP(chksum=7)/TCP()", {"IP.ttl": 9}, "IP.ttl"),
        ("IP(len=1500)/UDP(len=8)", {"UDP.dport": 9}, "UDP.dport UDP.chksum"),
        ("IP(flags='MF')/UDP(len=999, chksum=3)", {"IP.src": "10.0.0.9"}, "IP.src IP.chksum"),
        # Said explicitly, it is that.
        (UDP, {"UDP.dport": 9, "UDP.chksum": 5}, "UDP.dport UDP.chksum"),
    ],
)  # fmt: skip
def test_what_was_right_stays_right_and_nothing_else_moves(
    packet: str, changes: dict[str, object], moved: str
) -> None:
    before = read_expression(packet)
    after = mutate(before, changes)
    found = differences(before, after)
    assert found is not None
    assert {one.path for one in found} == set(moved.split())
    for name in changes:
        assert name in moved


def test_the_checksums_are_those_of_a_packet_made_so() -> None:
    made = mutate(read_expression(UDP), {"IP.ttl": 63, "IP.dst": "10.0.0.7", "UDP.dport": 5000})
    assert made == read_expression(
        "IP(src='10.0.0.1', dst='10.0.0.7', ttl=63)/UDP(sport=1024, dport=5000)/'question'"
    )


def test_what_lies_behind_the_packet_stays() -> None:
    padded = read_expression(UDP) + bytes(18)
    assert mutate(padded, {"IP.ttl": 63}).endswith(bytes(18))
    assert len(mutate(padded, {"IP.ttl": 63})) == len(padded)


def test_no_change_is_the_packet_itself() -> None:
    assert mutate(b"no packet at all", {}) == b"no packet at all"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"IP.tl": 3}, "the packet has no field IP.tl"),
        ({"ttl": 3}, "the packet has no field ttl"),
        ({"IP.ttl": 300}, r"IP.ttl cannot be 300: .*255"),
        ({"IP.src": "nowhere"}, "IP.src cannot be 'nowhere': .*no address"),
        ({"UDP.dport": -1}, "UDP.dport cannot be -1"),
        ({"Ether.src": "zz"}, "Ether.src cannot be 'zz': that is no MAC address"),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mutate(read_expression(UDP), changes)
