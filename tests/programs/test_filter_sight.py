"""xdp_drop and tc_drop: what must not hide a packet from a rule."""

import pytest
from scapy.layers.inet import TCP, IPOption_NOP

from netns_fixtures.programs import attach
from tests.programs.filters import InTestRun, OnWire, drop
from tests.programs.frames import (
    DEST_OPTIONS,
    EIGHT,
    ETHERNET,
    EXTENSIONS,
    ROUTING,
    TCP_NUMBER,
    Ext,
    auth,
    authenticated4,
    ext,
    extended,
    ipv4,
    tagged,
    tcp4,
    tcp6,
    udp4,
    udp6,
)
from tests.support.compiling import compile_c

TAGS = {
    "8100": (0x8100,),
    "88a8": (0x88A8,),
    "88a8 8100": (0x88A8, 0x8100),
    "9100": (0x9100,),
    "9100 8100": (0x9100, 0x8100),
    "9200": (0x9200,),
    "9300": (0x9300,),
    "three": (0x8100,) * 3,
    "four": (0x88A8, 0x8100, 0x9100, 0x8100),
}
tags = pytest.mark.parametrize("tpids", TAGS.values(), ids=TAGS)
OPTIONS = [IPOption_NOP()]


@tags
def test_vlan_tags_do_not_hide_a_packet(any_filter: InTestRun, tpids: tuple[int, ...]) -> None:
    any_filter.rules(
        drop("tcp_dport[80]", 1), drop("src4[10.1.2.3/32]", 2), drop("dst6[2001:db8:1::2/128]", 3)
    )
    any_filter.drops(tagged(tcp4(), *tpids), tagged(tcp6(), *tpids), by=1)
    any_filter.drops(tagged(udp4(), *tpids), by=2)
    any_filter.drops(tagged(udp6(), *tpids), by=3)
    any_filter.passes(tagged(tcp4(src="10.9.9.9", dport=81), *tpids))


@pytest.mark.attach_kinds("all")
@pytest.mark.parametrize(
    "tpids", [(0x8100,), (0x88A8, 0x8100), (0x8100,) * 4], ids=["one", "two", "four"]
)
def test_vlan_tags_do_not_hide_a_packet_on_a_wire(
    packet_filter: OnWire, tpids: tuple[int, ...]
) -> None:
    """At TC ingress the kernel keeps the outermost tag beside the packet: it still counts 4 bytes."""
    packet_filter.rules(drop("tcp_dport[80]", 1))
    packet_filter.drops(tagged(tcp4(), *tpids), tagged(tcp6(), *tpids), by=1)
    packet_filter.passes(tagged(udp4(), *tpids), tagged(tcp4(dport=81), *tpids))


PUSH_TAG = """
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int push_tag(struct __sk_buff *ctx)
{
	return bpf_skb_vlan_push(ctx, bpf_htons(0x8100), 5) ? 2 : -1;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.attach_kinds("tc-clsact", "tc-clsact-egress")
def test_a_tag_kept_beside_the_packet_counts(packet_filter: OnWire) -> None:
    """A filter before this one adds a tag, which the kernel only writes into the frame when it has to."""
    rig = packet_filter.rig
    packet_filter.rules(drop("tcp_dport[80]", 1))
    # Of filters with one priority the kernel runs the newest first.
    with attach(rig.wire.dut, rig.kind, compile_c(PUSH_TAG)):
        with packet_filter.moves([tagged(tcp4(), 0x8100)], dropped=True, by=1):
            packet_filter.send(tcp4())
        with packet_filter.moves([tagged(udp4(), 0x8100)], dropped=False, by=0):
            packet_filter.send(udp4())


# --- IPv4 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", range(1, 11))
def test_ipv4_options_do_not_hide_a_packet(any_filter: InTestRun, words: int) -> None:
    frame = tcp4(options=OPTIONS * 4 * words)
    assert frame[ETHERNET] == 0x45 + words
    any_filter.rules(drop("tcp_dport[80]", 7))
    any_filter.drops(frame, by=7)
    any_filter.passes(tcp4(dport=81, options=OPTIONS * 4 * words))


def test_ah_does_not_hide_a_packet_over_ipv4(any_filter: InTestRun) -> None:
    any_filter.passes(authenticated4())
    for place in ("tcp_dport[80]", "tcp_sport[1000]", "proto[51]", "proto[6]"):
        any_filter.rules(drop(place, 7))
        any_filter.drops(authenticated4(), by=7)
        any_filter.clear()


@pytest.mark.parametrize("number", [0, 43, 44, 60, 135, 139, 140])
def test_over_ipv4_the_other_numbers_are_no_extension_headers(
    any_filter: InTestRun, number: int
) -> None:
    """What looks like one is the payload of a protocol of that number."""
    payload = bytes([TCP_NUMBER]) + ext(number).body + bytes(TCP(sport=1000, dport=80))
    any_filter.rules(drop("tcp_dport[80]", 7), drop("proto[6]", 8))
    any_filter.passes(ipv4(payload, proto=number))
    any_filter.rules(drop(f"proto[{number}]", 9))
    any_filter.drops(ipv4(payload, proto=number), by=9)


@pytest.mark.parametrize("number", [50, 4, 41, 47])
def test_behind_esp_and_inside_tunnels_nothing_is_looked_at(
    any_filter: InTestRun, number: int
) -> None:
    payload = bytes(TCP(sport=1000, dport=80))
    any_filter.rules(drop("tcp_dport[80]", 7), drop("proto[6]", 8))
    any_filter.passes(ipv4(payload, proto=number), extended([], number, payload))
    any_filter.passes(extended([ext(DEST_OPTIONS)], number, payload))


# --- IPv6 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", EXTENSIONS.values(), ids=EXTENSIONS)
def test_an_extension_header_does_not_hide_a_packet(any_filter: InTestRun, header: Ext) -> None:
    frame = extended([header])
    any_filter.passes(frame)
    for place in ("tcp_dport[80]", "tcp_sport[1000]", "proto[6]", f"proto[{header.number}]"):
        any_filter.rules(drop(place, 7))
        any_filter.drops(frame, tagged(frame, 0x8100), by=7)
        any_filter.clear()
    any_filter.rules(drop("udp_dport[80]", 7), drop("udp_sport[1000]", 7), drop("proto[17]", 7))
    any_filter.passes(frame)


@pytest.mark.parametrize("number", range(1, 9))
def test_up_to_eight_extension_headers_do_not_hide_a_packet(
    any_filter: InTestRun, number: int
) -> None:
    for headers in (EIGHT[:number], EIGHT[-number:], [ext(DEST_OPTIONS)] * number):
        any_filter.passes(extended(headers))
        any_filter.rules(drop("tcp_dport[80]", 7))
        any_filter.drops(extended(headers), by=7)
        any_filter.clear()
        any_filter.rules(drop(f"proto[{headers[-1].number}]", 8))
        any_filter.drops(extended(headers), by=8)
        any_filter.clear()


def test_a_protocol_rule_for_43_drops_routing_headers_wherever_they_are(
    any_filter: InTestRun,
) -> None:
    any_filter.rules(drop("proto[43]", 43))
    any_filter.drops(extended([ext(ROUTING, 2)]), extended(EIGHT), by=43)
    any_filter.drops(extended([ext(DEST_OPTIONS), auth(), ext(ROUTING)]), by=43)
    any_filter.passes(tcp6(), extended([ext(DEST_OPTIONS)]))


def test_no_next_header_is_the_end(any_filter: InTestRun) -> None:
    any_filter.rules(drop("proto[59]", 7))
    any_filter.drops(extended([], 59, b""), extended([ext(DEST_OPTIONS)], 59, b"padding"), by=7)


@pytest.mark.attach_kinds("all")
def test_options_and_extension_headers_do_not_hide_a_packet_on_a_wire(
    packet_filter: OnWire,
) -> None:
    hidden = [
        tcp4(options=OPTIONS * 40),
        authenticated4(),
        extended(EIGHT),
        tagged(extended(EIGHT), 0x88A8, 0x8100),
    ]
    packet_filter.passes(*hidden)
    packet_filter.rules(drop("tcp_dport[80]", 7))
    packet_filter.drops(*hidden, by=7)
