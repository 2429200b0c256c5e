"""xdp_drop and tc_drop: what each kind of rule matches, on every kind of hook."""

import pytest

from tests.programs.filters import POLICY, InTestRun, OnWire, drop, let, no_rule
from tests.programs.frames import (
    AUTH,
    SENDER,
    TCP_NUMBER,
    UDP_NUMBER,
    arp,
    changed,
    echo6,
    icmp4,
    ipv4,
    lldp,
    strange,
    tcp4,
    tcp6,
    udp4,
    udp6,
)

# A rule's place, frames it names, and frames it does not.
NAMED = {
    "src4[10.0.0.0/8]": ((tcp4(), udp4(src="10.255.0.1")), (tcp4(src="11.1.2.3"), tcp6())),
    "dst4[192.0.2.9/32]": ((icmp4(), udp4()), (udp4(dst="192.0.2.8"), tcp4(src="192.0.2.9", dst="10.1.2.3"))),
    "src6[2001:db8::/48]": ((tcp6(), udp6()), (udp6(src="2001:db8:1::1"), udp4())),
    "dst6[2001:db8:1::2/128]": ((echo6(), tcp6()), (tcp6(dst="2001:db8:1::3"), tcp6(dst="2001:db8::1"))),
    "proto[17]": ((udp4(), udp6()), (tcp4(), icmp4(), tcp6(), arp())),
    "tcp_sport[1000]": ((tcp4(), tcp6()), (tcp4(sport=80, dport=1000), udp4(), udp6())),
    "tcp_dport[80]": ((tcp4(), tcp6()), (tcp4(sport=80, dport=81), udp4(dport=80), udp6(dport=80))),
    "udp_sport[1000]": ((udp4(), udp6()), (udp4(sport=53, dport=1000), tcp4(), tcp6())),
    "udp_dport[53]": ((udp4(), udp6()), (udp4(sport=53, dport=54), tcp4(dport=53), tcp6(dport=53))),
    f"src_mac[{SENDER}]": ((tcp4(), udp6(), strange(), arp()), (changed(tcp4(), 11, 0xAB),)),
}  # fmt: skip
kinds_of_rules = pytest.mark.parametrize(
    "place", [pytest.param(place, id=place.partition("[")[0]) for place in NAMED]
)


@kinds_of_rules
@pytest.mark.attach_kinds("all")
def test_a_drop_rule_drops_what_it_names_and_nothing_else(
    packet_filter: OnWire, place: str
) -> None:
    named, others = NAMED[place]
    packet_filter.rules(drop(place, 7))
    packet_filter.drops(*named, by=7)
    for frame in others:
        packet_filter.passes(frame, by="link" if frame == arp() else POLICY)


@kinds_of_rules
@pytest.mark.attach_kinds("all")
def test_under_policy_drop_only_what_a_pass_rule_names_gets_through(
    packet_filter: OnWire, place: str
) -> None:
    named, others = NAMED[place]
    packet_filter.rules("policy=DROP", "keep_link=false", let(place, 9))
    packet_filter.passes(*named, by=9)
    packet_filter.drops(*others, by=POLICY)


@pytest.mark.attach_kinds("all")
def test_without_rules_the_policy_decides(packet_filter: OnWire) -> None:
    frames = tcp4(), udp6(), icmp4(), strange()
    packet_filter.passes(*frames, by=POLICY)
    packet_filter.rules("policy=DROP")
    packet_filter.drops(*frames, by=POLICY)
    packet_filter.rules("policy=PASS")
    packet_filter.passes(*frames, by=POLICY)


# --- the details, in TEST_RUN --------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 255, 256, 32768, 65534, 65535])
@pytest.mark.parametrize("side", ["sport", "dport"])
def test_every_port_has_its_own_rule(any_filter: InTestRun, side: str, number: int) -> None:
    other = {"sport": number ^ 1} if side == "sport" else {"dport": number ^ 1}
    this = {side: number}
    any_filter.rules(drop(f"tcp_{side}[{number}]", 6), drop(f"udp_{side}[{number}]", 17))
    any_filter.drops(tcp4(**this), tcp6(**this), by=6)
    any_filter.drops(udp4(**this), udp6(**this), by=17)
    any_filter.passes(tcp4(**other), udp4(**other), tcp6(**other), udp6(**other))


@pytest.mark.parametrize("side", ["sport", "dport"])
def test_a_tcp_rule_does_not_touch_udp_and_the_reverse(any_filter: InTestRun, side: str) -> None:
    port = {side: 4444}
    any_filter.rules(drop(f"tcp_{side}[4444]", 6))
    any_filter.passes(udp4(**port), udp6(**port))
    any_filter.rules(no_rule(f"tcp_{side}[4444]"), drop(f"udp_{side}[4444]", 17))
    any_filter.passes(tcp4(**port), tcp6(**port))


@pytest.mark.parametrize(
    ("place", "inside", "outside"),
    [
        ("src4[0.0.0.0/0]", [tcp4(src="0.0.0.0"), tcp4(src="255.255.255.255"), icmp4()], [tcp6()]),
        ("src4[128.0.0.0/1]", [tcp4(src="128.0.0.0"), tcp4(src="255.0.0.1")], [tcp4(src="127.255.255.255")]),
        ("dst4[10.0.0.0/31]", [tcp4(dst="10.0.0.0"), tcp4(dst="10.0.0.1")], [tcp4(dst="10.0.0.2")]),
        ("src4[10.0.0.1/32]", [tcp4(src="10.0.0.1")], [tcp4(src="10.0.0.0"), tcp4(src="10.0.0.2")]),
        ("dst6[::/0]", [tcp6(), udp6(dst="::"), tcp6(dst="ff0e::1")], [tcp4()]),
        ("src6[2001:db8::/63]", [tcp6(src="2001:db8:0:1::9")], [tcp6(src="2001:db8:0:2::9")]),
        ("src6[2001:db8::fffe/127]", [tcp6(src="2001:db8::ffff")], [tcp6(src="2001:db8::fffd")]),
        ("src6[2001:db8::5/128]", [tcp6(src="2001:db8::5")], [tcp6(src="2001:db8::4")]),
    ],
)  # fmt: skip
def test_prefixes_match_up_to_their_last_bit(
    any_filter: InTestRun, place: str, inside: list[bytes], outside: list[bytes]
) -> None:
    any_filter.rules(drop(place, 7))
    any_filter.drops(*inside, by=7)
    any_filter.passes(*outside)


@pytest.mark.parametrize(
    ("wide", "middle", "narrow", "frame"),
    [
        ("src4[0.0.0.0/0]", "src4[10.0.0.0/8]", "src4[10.1.2.3/32]", tcp4()),
        ("dst4[192.0.0.0/8]", "dst4[192.0.2.0/24]", "dst4[192.0.2.8/31]", tcp4()),
        ("src6[::/0]", "src6[2001:db8::/32]", "src6[2001:db8::1/128]", tcp6()),
        ("dst6[2000::/3]", "dst6[2001:db8::/32]", "dst6[2001:db8:1::2/127]", tcp6()),
    ],
)
def test_of_the_prefixes_in_one_map_the_longest_counts_whatever_their_numbers(
    any_filter: InTestRun, wide: str, middle: str, narrow: str, frame: bytes
) -> None:
    any_filter.rules(drop(wide, 1))
    any_filter.drops(frame, by=1)
    any_filter.rules(let(middle, 2))
    any_filter.passes(frame, by=2)
    any_filter.rules(drop(narrow, 3))
    any_filter.drops(frame, by=3)


def test_no_rule_makes_a_hole_in_a_prefix(any_filter: InTestRun) -> None:
    any_filter.rules(drop("src4[10.0.0.0/8]", 1), no_rule("src4[10.1.0.0/16]"))
    any_filter.passes(tcp4(src="10.1.2.3"))
    any_filter.drops(tcp4(src="10.2.2.3"), by=1)
    # What is in the hole is judged by the other rules, and by the policy.
    any_filter.rules(drop("tcp_dport[80]", 4), "policy=DROP")
    any_filter.drops(tcp4(src="10.1.2.3"), by=4)
    any_filter.drops(tcp4(src="10.1.2.3", dport=81), by=POLICY)


@pytest.mark.parametrize("action", [0, 3, 7, 0xFFFFFFFF])
def test_an_action_that_does_not_exist_is_no_rule(any_filter: InTestRun, action: int) -> None:
    value = f"{{action: {action}, rule: 1}}"
    any_filter.rules(
        f"tcp_dport[80]={value}", f"src4[10.0.0.0/8]={value}", f"src_mac[{SENDER}]={value}"
    )
    any_filter.passes(tcp4())
    any_filter.passes(arp(), by="link")
    any_filter.rules("policy=DROP", drop("proto[6]", 5))
    any_filter.drops(tcp4(), by=5)


@pytest.mark.parametrize("policy", ["NO_RULE", "3", "7", "0xffffffff"])
def test_a_policy_that_does_not_exist_is_pass(any_filter: InTestRun, policy: str) -> None:
    any_filter.rules(f"policy={policy}")
    any_filter.passes(tcp4(), udp6(), strange())


def test_a_protocol_rule_reaches_every_protocol_number(any_filter: InTestRun) -> None:
    any_filter.rules(*(drop(f"proto[{number}]", number + 1) for number in range(256)))
    for number in {*range(0, 256, 5), 1, 254} - {TCP_NUMBER, UDP_NUMBER, AUTH}:
        any_filter.drops(ipv4(bytes(20), proto=number), by=number + 1)
    any_filter.drops(tcp4(), by=TCP_NUMBER + 1)
    any_filter.drops(udp6(), by=UDP_NUMBER + 1)


def test_only_a_mac_rule_reaches_what_is_not_ip(any_filter: InTestRun) -> None:
    any_filter.rules(
        "keep_link=false", drop("src4[0.0.0.0/0]", 1), drop("src6[::/0]", 2),
        *(drop(f"proto[{number}]", 3) for number in range(256)),
    )  # fmt: skip
    any_filter.passes(strange(), arp(), lldp())
    any_filter.rules(drop(f"src_mac[{SENDER}]", 4))
    any_filter.drops(strange(), arp(), lldp(), by=4)
