"""xdp_drop and tc_drop: ``keep_link``, which keeps an allow list from cutting the link itself."""

import pytest

from tests.programs.filters import LINK, MALFORMED, POLICY, InTestRun, OnWire, drop, let
from tests.programs.frames import (
    DEST_OPTIONS,
    ETHERNET,
    IPV6,
    RECEIVER,
    SENDER,
    arp,
    changed,
    discovery,
    echo6,
    ethernet,
    ext,
    extended,
    lldp,
    stp,
    strange,
    tagged,
    tcp4,
)

LINK_TRAFFIC = {
    "arp": arp(),
    **{kind: discovery(kind) for kind in ("rs", "ra", "ns", "na")},
    "lldp": lldp(),
    "stp": stp(),
    "lacp": ethernet(bytes(110), "01:80:c2:00:00:02", 0x8809),
    "802.1X": ethernet(bytes(46), "01:80:c2:00:00:03", 0x888E),
    "last of the addresses": lldp("01:80:c2:00:00:0f"),
}
# Frames that look like it, and are not.
ORDINARY = {
    "redirect": discovery("redirect"),
    "echo request": echo6(hlim=255),
    "ns of a router away": discovery("ns", hop_limit=254),
    "ra of a router away": discovery("ra", hop_limit=64),
    "ns with a code": changed(discovery("ns"), ETHERNET + IPV6 + 1, 1),
    "icmpv6 type 132": changed(discovery("ns"), ETHERNET + IPV6, 132),
    "icmpv6 type 138": changed(discovery("ns"), ETHERNET + IPV6, 138),
    "ns behind an extension header": extended([ext(DEST_OPTIONS)], 58, discovery("ns")[ETHERNET + IPV6 :]),
    "lldp to the next address": lldp("01:80:c2:00:00:10"),
    "lldp to a host": lldp(RECEIVER),
    "lldp to another block": lldp("01:80:c2:00:01:0e"),
    "ipv4 to a link address": bytes.fromhex("0180c200000e") + tcp4()[6:],
    "another EtherType": strange(),
}  # fmt: skip
link_traffic = pytest.mark.parametrize("frame", LINK_TRAFFIC.values(), ids=LINK_TRAFFIC)


@pytest.mark.attach_kinds("all")
def test_an_allow_list_does_not_cut_the_link(packet_filter: OnWire) -> None:
    packet_filter.rules("policy=DROP")
    packet_filter.passes(*LINK_TRAFFIC.values(), by=LINK)
    packet_filter.drops(*ORDINARY.values(), by=POLICY)
    packet_filter.rules("keep_link=false")
    packet_filter.drops(*LINK_TRAFFIC.values(), by=POLICY)


@pytest.mark.attach_kinds("all")
def test_a_mac_rule_overrides_keep_link(packet_filter: OnWire) -> None:
    packet_filter.rules(drop(f"src_mac[{SENDER}]", 5))
    packet_filter.drops(*LINK_TRAFFIC.values(), by=5)


@link_traffic
@pytest.mark.parametrize("policy", ["PASS", "DROP"])
def test_link_traffic_passes_under_either_policy(
    any_filter: InTestRun, frame: bytes, policy: str
) -> None:
    any_filter.rules(f"policy={policy}")
    any_filter.passes(frame, tagged(frame, 0x8100), tagged(frame, 0x88A8, 0x8100), by=LINK)


@link_traffic
def test_no_rule_but_one_for_the_mac_applies_to_link_traffic(
    any_filter: InTestRun, frame: bytes
) -> None:
    any_filter.rules(
        "policy=DROP", drop("src6[::/0]", 1), drop("dst6[::/0]", 1), drop("src4[0.0.0.0/0]", 1), drop("proto[58]", 1),
    )  # fmt: skip
    any_filter.passes(frame, by=LINK)
    any_filter.rules(drop(f"src_mac[{SENDER}]", 9))
    any_filter.drops(frame, by=9)
    any_filter.rules(let(f"src_mac[{SENDER}]", 9))
    any_filter.passes(frame, by=9)


@link_traffic
def test_when_off_link_traffic_is_ordinary(any_filter: InTestRun, frame: bytes) -> None:
    any_filter.rules("keep_link=false")
    any_filter.passes(frame, by=POLICY)
    any_filter.rules("policy=DROP")
    any_filter.drops(frame, by=POLICY)


@pytest.mark.parametrize("kind", ["rs", "ra", "ns", "na"])
@pytest.mark.parametrize("place", ["proto[58]", "src6[fe80::1/128]", "dst6[fe80::/10]"])
def test_when_off_rules_apply_to_neighbour_discovery(
    any_filter: InTestRun, kind: str, place: str
) -> None:
    any_filter.rules("keep_link=false", drop(place, 6))
    any_filter.drops(discovery(kind), by=6)


@pytest.mark.parametrize("frame", ORDINARY.values(), ids=ORDINARY)
def test_what_only_looks_like_link_traffic_is_ordinary(any_filter: InTestRun, frame: bytes) -> None:
    any_filter.passes(frame, by=POLICY)
    any_filter.rules("policy=DROP")
    any_filter.drops(frame, by=POLICY)


@pytest.mark.parametrize("cut", [0, 1])
def test_neighbour_discovery_cut_before_its_type_and_code_is_malformed(
    any_filter: InTestRun, cut: int
) -> None:
    frame = discovery("ns")[: ETHERNET + IPV6 + cut]
    any_filter.drops(frame, by=MALFORMED)
    any_filter.passes(discovery("ns")[: ETHERNET + IPV6 + 2], by=LINK)
