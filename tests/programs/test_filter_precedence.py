"""xdp_drop and tc_drop: which of several rules decides."""

from itertools import permutations

import pytest

from tests.programs.filters import LAST, POLICY, InTestRun, OnWire, drop, let
from tests.programs.frames import SENDER, extended, fragment, tcp4, udp6

# Rules of every map, all of which match the one frame.
MATCHING = {
    "tcp4": (
        tcp4(),
        ("src4[10.0.0.0/8]", "dst4[192.0.2.0/24]", "proto[6]", "tcp_sport[1000]", "tcp_dport[80]",
         f"src_mac[{SENDER}]"),
    ),
    "udp6": (
        udp6(),
        ("src6[2001:db8::/32]", "dst6[::/0]", "proto[17]", "udp_sport[1000]", "udp_dport[53]",
         f"src_mac[{SENDER}]"),
    ),
    "two protocol numbers": (extended([fragment()]), ("proto[44]", "proto[6]")),
}  # fmt: skip
PAIRS = [
    pytest.param(frame, one, other, id=f"{one.partition('[')[0]}-{other.partition('[')[0]}-{name}")
    for name, (frame, places) in MATCHING.items()
    for one, other in permutations(places, 2)
]
every_pair = pytest.mark.parametrize(("frame", "one", "other"), PAIRS)


@every_pair
def test_the_rule_with_the_lower_number_decides(
    any_filter: InTestRun, frame: bytes, one: str, other: str
) -> None:
    any_filter.rules(let(one, 10), drop(other, 11))
    any_filter.passes(frame, by=10)
    any_filter.rules(drop(one, 10), let(other, 11))
    any_filter.drops(frame, by=10)


@every_pair
def test_at_the_same_number_drop_decides(
    any_filter: InTestRun, frame: bytes, one: str, other: str
) -> None:
    any_filter.rules(drop(one, 10), let(other, 10))
    any_filter.drops(frame, by=10)


@every_pair
def test_a_rule_without_a_number_comes_last(
    any_filter: InTestRun, frame: bytes, one: str, other: str
) -> None:
    any_filter.rules(drop(one, 0), let(other, 4294967295))
    any_filter.passes(frame, by=LAST)
    any_filter.rules(let(one, 0), drop(other, 4294967295))
    any_filter.drops(frame, by=LAST)
    any_filter.rules(let(one, 0), drop(other, 0))
    any_filter.drops(frame, by=POLICY)


@pytest.mark.parametrize(("name", "policy"), [("tcp4", "DROP"), ("udp6", "DROP"), ("tcp4", "PASS")])
def test_of_rules_in_every_map_the_lowest_number_decides(
    any_filter: InTestRun, name: str, policy: str
) -> None:
    """All maps at once, each in its turn with the lowest number; the others say the opposite."""
    frame, places = MATCHING[name]
    any_filter.rules(f"policy={policy}")
    for winner in places:
        others = [place for place in places if place != winner]
        any_filter.rules(let(winner, 3), *(drop(place, 100) for place in others))
        any_filter.passes(frame, by=3)
        any_filter.rules(drop(winner, 3), *(let(place, 4) for place in others))
        any_filter.drops(frame, by=3)


@pytest.mark.parametrize(
    ("number", "entry"),
    [(1, 1), (2, 2), (255, 255), (16381, 16381), (16382, 16382), (16383, LAST), (16384, LAST), (65536, LAST),
     (2147483647, LAST), (2147483648, LAST), (4294967295, LAST)],
)  # fmt: skip
def test_hits_are_counted_by_rule_number_and_large_ones_share_the_last_entry(
    any_filter: InTestRun, number: int, entry: int
) -> None:
    any_filter.rules(drop("tcp_dport[80]", number))
    any_filter.drops(tcp4(), by=entry)


@pytest.mark.parametrize(
    ("low", "high"),
    [(1, 2), (16382, 16383), (16383, 16384), (2147483647, 2147483648), (2147483648, 4294967295)],
)
def test_numbers_that_share_an_entry_keep_their_order(
    any_filter: InTestRun, low: int, high: int
) -> None:
    any_filter.rules(let("tcp_dport[80]", low), drop("src4[10.0.0.0/8]", high))
    any_filter.passes(tcp4(), by=min(low, LAST))
    any_filter.rules(let("tcp_dport[80]", high), drop("src4[10.0.0.0/8]", low))
    any_filter.drops(tcp4(), by=min(low, LAST))


def test_entries_that_share_a_number_are_counted_together(any_filter: InTestRun) -> None:
    any_filter.rules(drop("src4[10.0.0.0/8]", 5), drop("udp_dport[53]", 5))
    any_filter.drops(tcp4(), udp6(), by=5)


@pytest.mark.attach_kinds("all")
def test_rules_read_like_a_numbered_list(packet_filter: OnWire) -> None:
    packet_filter.rules(
        let("src4[10.1.2.3/32]", 1),
        drop("tcp_dport[23]", 5),
        let("src4[10.1.0.0/16]", 10),
        drop("src4[10.0.0.0/8]", 20),
    )
    packet_filter.passes(tcp4(src="10.1.2.3", dport=23), by=1)
    packet_filter.drops(tcp4(src="10.1.2.4", dport=23), by=5)
    packet_filter.passes(tcp4(src="10.1.2.4"), by=10)
    packet_filter.drops(tcp4(src="10.2.2.4"), by=20)
    packet_filter.passes(tcp4(src="11.0.0.1"), by=POLICY)
