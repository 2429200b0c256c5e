"""xdp_drop and tc_drop: packets whose headers cannot be followed."""

import pytest
from scapy.layers.inet import TCP, IPOption_NOP

from tests.programs.filters import MALFORMED, POLICY, InTestRun, OnWire, drop, let
from tests.programs.frames import (
    AUTH,
    DEST_OPTIONS,
    ETHERNET,
    EXTENSIONS,
    FRAGMENT,
    IPV4,
    IPV6,
    SENDER,
    TCP_NUMBER,
    Ext,
    auth,
    authenticated4,
    changed,
    discovery,
    echo6,
    ext,
    extended,
    fragment,
    icmp4,
    tagged,
    tcp4,
    tcp6,
    udp4,
    udp6,
)

PORTS = 4  # bytes of TCP and UDP that have to be there
TAG = 4
FIVE_TAGS = tagged(tcp4(), *[0x8100] * 5)
NINE_HEADERS = extended([ext(DEST_OPTIONS)] * 9)
OPTIONS = [IPOption_NOP()] * 40


def everything_passes(mac: str = SENDER) -> list[str]:
    """PASS rules that match every packet in several ways."""
    return [
        let("src4[0.0.0.0/0]", 1), let("src6[::/0]", 2), let(f"src_mac[{mac}]", 3),
        *(let(f"proto[{number}]", 4) for number in range(256)),
    ]  # fmt: skip


# --- cut short, on the wire: TEST_RUN itself refuses cut IP headers at TC ------------------------

# A whole frame, and the number of its bytes that have to be there.
CUT = {
    "ipv4 tcp": (tcp4(), ETHERNET + IPV4 + PORTS),
    "ipv4 udp": (udp4(), ETHERNET + IPV4 + PORTS),
    "ipv4 options": (tcp4(options=OPTIONS), ETHERNET + 60 + PORTS),
    "ipv4 ah": (authenticated4(), ETHERNET + IPV4 + 24 + PORTS),
    "ipv6 tcp": (tcp6(), ETHERNET + IPV6 + PORTS),
    "ipv6 udp": (udp6(), ETHERNET + IPV6 + PORTS),
    "ipv6 options": (extended([ext(DEST_OPTIONS, 1)]), ETHERNET + IPV6 + 16 + PORTS),
    "ipv6 fragment": (extended([fragment()]), ETHERNET + IPV6 + 8 + PORTS),
    "ipv6 fragment without upper protocol": (extended([fragment()], 59, b""), ETHERNET + IPV6 + 8),
    "icmp": (icmp4(), ETHERNET + IPV4),
    "icmpv6": (echo6(), ETHERNET + IPV6),
    "two tags": (tagged(tcp4(), 0x88A8, 0x8100), ETHERNET + 2 * TAG + IPV4 + PORTS),
}


@pytest.mark.attach_kinds("all")
@pytest.mark.parametrize(("frame", "needed"), CUT.values(), ids=CUT)
def test_a_packet_cut_anywhere_in_its_headers_is_dropped(
    packet_filter: OnWire, frame: bytes, needed: int
) -> None:
    tagged_at_tc = packet_filter.rig.kind.hook == "tc/ingress" and frame[12:14] == b"\x88\xa8"
    # The kernel itself drops a frame cut inside the outermost tag or the EtherType behind it, before TC ingress
    # (skb_vlan_untag in net/core/skbuff.c).
    first = ETHERNET + TAG + 2 if tagged_at_tc else ETHERNET
    packet_filter.drops(*(frame[:length] for length in range(first, needed)), by=MALFORMED)
    packet_filter.passes(*(frame[:length] for length in range(needed, len(frame) + 1)))


@pytest.mark.attach_kinds("all")
def test_no_rule_and_no_policy_lets_a_cut_packet_through(packet_filter: OnWire) -> None:
    cut = tcp4()[: ETHERNET + IPV4 - 1], tcp6()[: ETHERNET + IPV6 + 3], tcp4()[:ETHERNET]
    packet_filter.rules(*everything_passes(), "policy=DROP")
    packet_filter.drops(*cut, by=MALFORMED)
    packet_filter.rules("policy=PASS")
    packet_filter.drops(*cut, by=MALFORMED)


@pytest.mark.attach_kinds("all")
def test_with_drop_malformed_off_a_cut_packet_is_judged_by_what_was_read(
    packet_filter: OnWire,
) -> None:
    in_ports, in_addresses = tcp4()[: ETHERNET + IPV4 + 3], tcp4()[: ETHERNET + IPV4 - 1]
    packet_filter.rules("drop_malformed=false")
    packet_filter.passes(in_ports, in_addresses, by=POLICY)
    packet_filter.rules("policy=DROP")
    packet_filter.drops(in_ports, in_addresses, by=POLICY)
    packet_filter.rules(let("src4[10.0.0.0/8]", 4), let("tcp_dport[80]", 2))
    packet_filter.passes(in_ports, by=4)
    packet_filter.drops(in_addresses, by=POLICY)
    packet_filter.rules(drop("proto[6]", 3), let(f"src_mac[{SENDER}]", 9))
    packet_filter.drops(in_ports, by=3)
    packet_filter.passes(in_addresses, by=9)


# --- headers that cannot be ----------------------------------------------------------------------

IMPOSSIBLE = {
    **{f"ipv4 version {v}": changed(tcp4(), ETHERNET, v << 4 | 5) for v in range(16) if v != 4},
    **{f"ipv4 header length {n}": changed(tcp4(), ETHERNET, 0x40 | n) for n in range(5)},
    **{f"ipv6 version {v}": changed(tcp6(), ETHERNET, v << 4) for v in range(16) if v != 6},
    "five tags": FIVE_TAGS,
    "five tags of all kinds": tagged(tcp6(), 0x88A8, 0x8100, 0x9100, 0x9200, 0x9300),
    "nine tags": tagged(tcp4(), *[0x8100] * 9),
    "nine extension headers": NINE_HEADERS,
    "ten extension headers": extended([ext(DEST_OPTIONS)] * 10),
    "nine fragment headers": extended([fragment()] * 9),
    "nine authentication headers": extended([auth()] * 9),
}


@pytest.mark.parametrize("frame", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@pytest.mark.parametrize("policy", ["PASS", "DROP"])
def test_headers_that_cannot_be_are_dropped_whatever_rules_and_policy_say(
    any_filter: InTestRun, frame: bytes, policy: str
) -> None:
    any_filter.rules(f"policy={policy}")
    any_filter.drops(frame, by=MALFORMED)
    any_filter.rules(let("src4[0.0.0.0/0]", 1), let("src6[::/0]", 2), let(f"src_mac[{SENDER}]", 3))
    any_filter.drops(frame, by=MALFORMED)


@pytest.mark.attach_kinds("all")
def test_headers_that_cannot_be_are_dropped_on_a_wire(packet_filter: OnWire) -> None:
    frames = [frame for name, frame in IMPOSSIBLE.items() if not name.startswith("five tags")]
    packet_filter.drops(*frames, by=MALFORMED)
    packet_filter.rules(*everything_passes(), "policy=DROP")
    packet_filter.drops(*frames, by=MALFORMED)


@pytest.mark.attach_kinds("all")
def test_four_tags_are_followed_in_the_frame_and_one_beside_it(packet_filter: OnWire) -> None:
    """Before TC ingress the kernel takes the first tag out of the frame, so there are four left of five."""
    packet_filter.rules(drop("tcp_dport[80]", 7))
    packet_filter.drops(tagged(tcp4(), *[0x8100] * 4), by=7)
    beside = packet_filter.rig.kind.hook == "tc/ingress"
    packet_filter.drops(FIVE_TAGS, by=7 if beside else MALFORMED)
    packet_filter.drops(tagged(tcp4(), *[0x8100] * 6), by=MALFORMED)


@pytest.mark.parametrize("header", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extension_header_cut_anywhere_is_dropped(any_filter: InTestRun, header: Ext) -> None:
    start, end = ETHERNET + IPV6, ETHERNET + IPV6 + 1 + len(header.body)
    frame = extended([header])
    lengths = {start, *range(start + 1, min(start + 9, end)), end - 1, *range(end, end + PORTS)}
    any_filter.drops(*(frame[:length] for length in sorted(lengths)), by=MALFORMED)
    any_filter.passes(frame[: end + PORTS])


@pytest.mark.parametrize("number", [AUTH, DEST_OPTIONS, FRAGMENT])
def test_an_extension_header_whose_length_lies_is_dropped(
    any_filter: InTestRun, number: int
) -> None:
    """One that says it is longer than the packet; a fragment header has no length to lie about."""
    lying = extended([Ext(number, b"\xff" + bytes(7))])
    if number == FRAGMENT:
        any_filter.passes(lying)
    else:
        any_filter.drops(lying, by=MALFORMED)


# --- drop_malformed off: judged by what was read ---------------------------------------------------


def test_five_tags_hide_all_but_the_mac_when_drop_malformed_is_off(any_filter: InTestRun) -> None:
    any_filter.rules("drop_malformed=false", drop("src4[0.0.0.0/0]", 1), drop("tcp_dport[80]", 2))
    any_filter.passes(FIVE_TAGS, by=POLICY)
    any_filter.rules(drop(f"src_mac[{SENDER}]", 3))
    any_filter.drops(FIVE_TAGS, by=3)
    any_filter.rules(let(f"src_mac[{SENDER}]", 3), "policy=DROP")
    any_filter.passes(FIVE_TAGS, by=3)


def test_of_nine_extension_headers_eight_are_read_when_drop_malformed_is_off(
    any_filter: InTestRun,
) -> None:
    any_filter.rules("drop_malformed=false", drop("tcp_dport[80]", 1), drop("proto[6]", 2))
    any_filter.passes(NINE_HEADERS, by=POLICY)
    any_filter.rules(drop("proto[60]", 60))
    any_filter.drops(NINE_HEADERS, by=60)
    any_filter.rules(let("src6[2001:db8::/32]", 7))
    any_filter.passes(NINE_HEADERS, by=7)
    any_filter.rules(let("src6[2001:db8::/32]", 61))
    any_filter.drops(NINE_HEADERS, by=60)


@pytest.mark.parametrize("policy", ["PASS", "DROP"])
@pytest.mark.parametrize("frame", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_the_policy_decides_when_drop_malformed_is_off_and_no_rule_matches(
    any_filter: InTestRun, frame: bytes, policy: str
) -> None:
    any_filter.rules("drop_malformed=false", f"policy={policy}")
    (any_filter.passes if policy == "PASS" else any_filter.drops)(frame, by=POLICY)


# --- 4096 bytes of headers -----------------------------------------------------------------------


def far_tcp(offset: int) -> bytes:
    """TCP to port 80 whose header begins at that byte of the frame; two or more option headers before it."""
    left = offset - ETHERNET - IPV6
    assert left % 8 == 0
    headers = []
    while left:
        size = min(left, 2048)
        headers.append(ext(DEST_OPTIONS, size // 8 - 1))
        left -= size
    return extended(headers, TCP_NUMBER, bytes(TCP(sport=1000, dport=80)) + bytes(500))


@pytest.mark.attach_kinds("xdp-skb", "tc", "tc-egress")
def test_headers_have_to_begin_within_4096_bytes(jumbo_filter: OnWire) -> None:
    """Native XDP never sees such a frame: it does not fit one buffer."""
    within, behind = far_tcp(4094), far_tcp(4102)
    jumbo_filter.passes(within)
    jumbo_filter.rules(drop("tcp_dport[80]", 7))
    jumbo_filter.drops(within, by=7)
    jumbo_filter.drops(behind, by=MALFORMED)
    jumbo_filter.rules("drop_malformed=false")
    jumbo_filter.passes(behind, by=POLICY)
    jumbo_filter.rules(drop("proto[60]", 60))
    jumbo_filter.drops(behind, by=60)


# --- what is not judged --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(changed(tcp4(), ETHERNET + 2, 0xFF), id="ipv4 total length"),
        pytest.param(changed(tcp4(), ETHERNET + 10, 0), id="ipv4 checksum"),
        pytest.param(changed(tcp6(), ETHERNET + 4, 0xFF), id="ipv6 payload length"),
        pytest.param(changed(udp4(), ETHERNET + IPV4 + 4, 0xFF), id="udp length"),
        pytest.param(tcp4()[: ETHERNET + IPV4 + 4], id="tcp header after its ports"),
        pytest.param(icmp4()[: ETHERNET + IPV4], id="icmp without a header"),
        pytest.param(discovery("ns", hop_limit=64)[: ETHERNET + IPV6], id="icmpv6 without a header"),
    ],
)  # fmt: skip
def test_lengths_and_checksums_are_left_to_the_network_stack(
    any_filter: InTestRun, frame: bytes
) -> None:
    any_filter.passes(frame)
