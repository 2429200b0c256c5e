"""Packets from Hypothesis: they are what they say, as scapy sees it, and they find planted bugs."""

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, defragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw

from netns_fixtures import strategies
from netns_fixtures.bench import BenchProgram
from netns_fixtures.errors import ExpectationError
from tests.programs.model import Model
from tests.support.compiling import compile_c

Load = Callable[..., BenchProgram]
EXTENSIONS = (IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting, AH)
few = hypothesis.settings(max_examples=200)
one_is_enough = hypothesis.settings(max_examples=5000, phases=[hypothesis.Phase.generate])


def exists(frames: strategies.Frames, wanted: Callable[[Any], bool]) -> bool:
    """Whether such a packet comes; NoSuchExample otherwise."""
    return bool(hypothesis.find(frames, lambda one: wanted(Ether(one)), settings=one_is_enough))


def all_exist(frames: strategies.Frames, *wanted: Callable[[Any], bool]) -> bool:
    """Whether a packet of each kind comes, in one search; NoSuchExample otherwise."""
    missing = list(wanted)

    def last(frame: bytes) -> bool:
        packet = Ether(frame)
        missing[:] = [one for one in missing if not one(packet)]
        return not missing

    hypothesis.find(frames, last, settings=one_is_enough)
    return True


def is_question(frame: bytes) -> bool:
    """Whether UDP to port 53 can be found in it, by the model of netbpf's own filter."""
    model = Model(exact={("udp_dport", 53): ("DROP", 0)}, keep_link=False, drop_malformed=False)
    return model.judge(frame)[0] == "DROP"


def computed(packet: Any) -> bytes:
    """The packet with checksums and lengths as scapy computes them."""
    again = packet.copy()
    layer = again
    while layer:
        for field in ("chksum", "cksum", "len", "plen"):
            if field in layer.fields and not isinstance(layer, AH):
                layer.delfieldval(field)
        layer = layer.payload
    return bytes(again)


def headers(packet: Any) -> list[type]:
    return [type(layer) for layer in packet.iterpayloads()]


# --- they are what they say ------------------------------------------------------------------------


@few
@given(strategies.valid())
def test_valid_packets_have_right_lengths_and_checksums(frame: bytes) -> None:
    packet = Ether(frame)
    assert computed(packet) == frame
    assert {IP, IPv6} & set(headers(packet))
    assert len(headers(packet)) >= 3


@few
@given(strategies.valid(protocol="udp", dport=53, src="192.0.2.7", payload=b"abc"))
def test_what_is_given_is_so(frame: bytes) -> None:
    packet = Ether(frame)
    assert (packet[IP].src, packet[UDP].dport, bytes(packet[UDP].payload)) == (
        "192.0.2.7",
        53,
        b"abc",
    )


@few
@given(strategies.valid(family="ipv6", protocol=st.sampled_from(["tcp"]), sport=st.integers(5, 6)))
def test_strategies_are_taken_for_values(frame: bytes) -> None:
    assert Ether(frame)[IPv6][TCP].sport in (5, 6)


def test_valid_packets_come_in_all_kinds() -> None:
    assert all_exist(
        strategies.valid(),
        lambda p: IP in p and p[IP].ihl > 5 and TCP in p,
        lambda p: IPv6 in p and UDP in p,
        lambda p: TCP in p and p[TCP].dataofs > 5,
        lambda p: UDP in p and p[UDP].dport == 65535,
        lambda p: ICMPv6EchoRequest in p,
    )


@few
@given(strategies.vlan_stacked(depth=3))
def test_tags_are_stacked(frame: bytes) -> None:
    kinds = headers(Ether(frame))
    assert set(kinds[1:4]) <= {Dot1Q, Dot1AD}
    assert kinds[4] in (IP, IPv6)


@few
@given(strategies.with_extension_headers(protocol="udp", dport=53))
def test_extension_headers_lead_to_the_protocol(frame: bytes) -> None:
    packet = Ether(frame)
    kinds = headers(packet)
    assert set(kinds) & set(EXTENSIONS)
    assert IPv6ExtHdrHopByHop not in kinds[3:], "they come first"
    assert is_question(frame)
    assert packet[IPv6].plen == len(frame) - 54


def test_every_extension_header_comes_and_several_do() -> None:
    several = [lambda p: len(set(headers(p)) & set(EXTENSIONS)) >= 3]
    each = [lambda p, one=one: one in p for one in EXTENSIONS]
    assert all_exist(strategies.with_extension_headers(), *each, *several)


@few
@given(strategies.fragmented(family="ipv4", protocol="udp"))
def test_fragments_of_ipv4_make_the_datagram(frames: list[bytes]) -> None:
    assert len(frames) >= 2
    [whole] = defragment([Ether(frame) for frame in frames])
    again = IP(bytes(whole[IP]))
    assert again.flags == 0
    assert again[UDP].len == len(again) - 20
    assert computed(again[IP]) == bytes(again)


@few
@given(strategies.fragmented(family="ipv6", protocol="udp"))
def test_fragments_of_ipv6_make_the_datagram(frames: list[bytes]) -> None:
    assert len(frames) >= 2
    whole = defragment6([Ether(frame)[IPv6] for frame in frames])
    again = IPv6(bytes(whole))
    assert IPv6ExtHdrFragment not in again
    assert again[UDP].len == len(again) - 40
    assert computed(again) == bytes(again)


@few
@given(st.data())
def test_truncated_packets_are_beginnings(data: st.DataObject) -> None:
    whole = data.draw(strategies.valid())
    cut = data.draw(strategies.truncated(st.just(whole)))
    assert 14 <= len(cut) < len(whole)
    assert whole.startswith(cut)


@pytest.mark.parametrize(("least", "most"), [(14, 15), (15, 33), (34, 41), (42, 50)])
def test_a_cut_can_be_in_every_header(least: int, most: int) -> None:
    udp = strategies.valid(family="ipv4", protocol="udp", payload=b"x" * 8)
    assert exists(strategies.truncated(udp), lambda p: least <= len(p.original) <= most)


def test_packets_are_everything_together() -> None:
    assert all_exist(
        strategies.packets(),
        lambda p: Dot1Q in p and IPv6ExtHdrDestOpt in p,
        lambda p: Dot1AD in p and IP in p and p[IP].frag > 0,
        lambda p: IPv6ExtHdrFragment in p,
        lambda p: type(p.payload) is Raw and p.type == 0x0800,
    )


@pytest.mark.parametrize(
    ("argument", "message"), [({"family": "ip"}, "no family 'ip'"), ({"protocol": "sctp"}, "no protocol 'sctp'")]
)  # fmt: skip
def test_a_word_that_means_nothing_is_an_error(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypothesis.find(strategies.valid(**argument), lambda _: True)


# --- they find bugs --------------------------------------------------------------------------------

# Drops UDP to port 53, and has the mistake that a macro plants. Right only without one.
DNS_FILTER = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#ifndef TAGS
#define TAGS 4
#endif
#ifndef HEADERS
#define HEADERS 8
#endif
struct tag { __be16 tci, type; };
struct ext { __u8 next, length; __be16 offset; };
SEC("xdp") int dns_filter(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *at = data + ETH_HLEN;
	struct ethhdr *eth = data;
	struct iphdr *ip;
	struct ipv6hdr *ip6;
	struct udphdr *udp;
	__be16 type;
	__u32 next, size;

	if (at > end)
		return XDP_PASS;
	type = eth->h_proto;
	for (int i = 0; i < TAGS; i++) {
		struct tag *tag = at;
		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return XDP_PASS;
		type = tag->type;
		at = tag + 1;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		ip = at;
		if ((void *)(ip + 1) > end)
			return XDP_PASS;
#ifndef FORGET_FRAGMENTS
		if (ip->frag_off & bpf_htons(0x1fff))
			return XDP_PASS;
#endif
		next = ip->protocol;
#ifdef FORGET_OPTIONS
		at += 20;
#else
		at += ip->ihl * 4;
#endif
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		ip6 = at;
		if ((void *)(ip6 + 1) > end)
			return XDP_PASS;
		next = ip6->nexthdr;
		at = ip6 + 1;
		for (int i = 0; i < HEADERS; i++) {
			struct ext *ext = at;
			if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60)
				break;
			if ((void *)(ext + 1) > end)
				return XDP_PASS;
#ifndef FORGET_FRAGMENTS
			if (next == 44 && ext->offset & bpf_htons(0xfff8))
				return XDP_PASS;
#endif
			size = (ext->length + 1) * 8;
#ifndef FORGET_AH
			if (next == 51)
				size = (ext->length + 2) * 4;
#endif
			if (next == 44)
				size = 8;
			next = ext->next;
			at += size;
		}
	} else {
		return XDP_PASS;
	}
	udp = at;
#ifdef FORGET_LENGTH
	if (next == IPPROTO_UDP && (void *)udp + 4 > end)
		return XDP_DROP;
#endif
	if (next != IPPROTO_UDP || (void *)udp + 4 > end)
		return XDP_PASS;
#ifdef FORGET_ORDER
	return udp->dest == 53 ? XDP_DROP : XDP_PASS;
#endif
	return udp->dest == bpf_htons(53) ? XDP_DROP : XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
# Which packets find which mistake.
BUGS = {
    "-DTAGS=1": strategies.vlan_stacked(strategies.valid(protocol="udp", dport=53)),
    "-DFORGET_OPTIONS": strategies.valid(family="ipv4", protocol="udp", dport=53),
    "-DFORGET_ORDER": strategies.valid(protocol="udp", dport=53),
    "-DHEADERS=2": strategies.with_extension_headers(protocol="udp", dport=53),
    "-DFORGET_AH": strategies.with_extension_headers(protocol="udp", dport=53),
    "-DFORGET_FRAGMENTS": st.one_of(
        strategies.fragments(protocol="udp", dport=53),
        # What a later fragment holds where the ports would be is anything.
        strategies.fragmented(protocol="udp", dport=53).map(lambda all_: all_[1][:-8] + all_[0][-8:]),
    ),
    "-DFORGET_LENGTH": strategies.truncated(strategies.valid(protocol="udp")),
}  # fmt: skip


@pytest.mark.requires("root")
@hypothesis.settings(max_examples=400)
@given(
    st.one_of(*BUGS.values(), strategies.packets()),
)
def test_the_right_filter_is_right(session_bench: Load, frame: bytes) -> None:
    program = session_bench(compile_c(DNS_FILTER))
    program.assert_verdict("drop" if is_question(frame) else "pass", frame)


@pytest.mark.requires("root")
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(session_bench: Load, bug: str) -> None:
    program = session_bench(compile_c(DNS_FILTER, flags=(bug,)))

    @one_is_enough
    @given(BUGS[bug])
    def check(frame: bytes) -> None:
        program.assert_verdict("drop" if is_question(frame) else "pass", frame)

    with pytest.raises(ExpectationError, match="expected verdict"):
        check()
