"""Taps in chains of every shape, by TEST_RUN; and what only a wire shows."""

import struct
from collections.abc import Iterator

import pytest

from netbpf._sys.pcap import compile_filter
from netbpf.bpf.chain import Chain, Part, build
from netbpf.bpf.chain.link import who
from netbpf.bpf.map import possible_cpus
from netbpf.bpf.ringbuf import RingBuffer
from netbpf.bpf.tap import HEAD, Functions, Place
from netbpf.constants import Hook
from tests.bpf.chain_lab import FRAME, Bench, returning
from tests.cli.lab import Lab, frame
from tests.cli.test_cli_chain_traffic import WAYS
from tests.tap.capturing import capture, taken

pytestmark = pytest.mark.root

ADJUSTS = """
SEC("xdp") int adjusts(struct xdp_md *ctx) {
	if (bpf_xdp_adjust_head(ctx, 14)) return XDP_ABORTED;
	__u8 *data = (void *)(long)ctx->data;
	if ((void *)(data + 1) > (void *)(long)ctx->data_end) return XDP_ABORTED;
	*data = 0xee;
	return XDP_PASS;
}
"""
JUMPS = """
MAP(jumps, PROG_ARRAY, 1, __u32, __u32);
SEC("xdp") int jumps_on(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 0); return XDP_TX; }
"""
REDIRECTS = """
SEC("xdp") int redirects(struct xdp_md *ctx) { return bpf_redirect(1, 0); }
"""
STACK = """
static noinline int deep(void) { volatile char big[400] = {}; return big[opaque(3)] ? 1 : XDP_PASS; }
SEC("xdp") int stacked(struct xdp_md *ctx) { volatile char big[60] = {}; return deep() + big[opaque(3)]; }
"""


class Tapped:
    """A chain with one tap, and what that has seen."""

    def __init__(self, bench: Bench, *parts: Part, expression: str = "", member: str = "") -> None:
        self.bench, self.parts = bench, parts
        opened = bench.opened
        self.place = opened.enter_context(Place.create(4096, 1 << 16))
        self.ring = opened.enter_context(RingBuffer(self.place.ring))
        code = compile_filter(expression) if expression else b""
        tap = Functions(
            member, code, self.place.state.fd.fileno(), self.place.ring.fd.fileno(), possible_cpus(), 4096,
        )  # fmt: skip
        counters = bench.counters if len(parts) > 1 else None
        self.chain: Chain = opened.enter_context(build(parts, bench.hook, counters, taps=[tap]))

    def run(self, given: bytes = FRAME) -> list[tuple[int, int, bytes]]:
        """What was captured of one packet: verdict, who decided, bytes."""
        self.bench.run(self.chain, given)
        heads = [(HEAD.unpack_from(one), one[HEAD.size :]) for one in self.ring.read()]
        return [(head[3], head[4], data) for head, data in heads]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def test_what_came_in_is_shown(bench: Bench) -> None:
    """Not what the program made of it."""
    first, last = bench.member(ADJUSTS, "first"), bench.member(returning(1), "last")
    assert Tapped(bench, first, last).run() == [(1, who("last"), FRAME)]
    # To the last one it comes as the first has left it.
    [(_, _, data)] = Tapped(bench, first, last, member="last").run()
    assert data == b"\xee" + FRAME[15:]


@pytest.mark.parametrize("filled", [False, True])
def test_a_member_with_tail_calls(bench: Bench, filled: bool) -> None:
    """The verdict of where it jumped, alone and in a chain."""
    jumping, last = bench.member(JUMPS, "jumping", ["tx"]), bench.member(returning(2), "last")
    if filled:
        target = bench.opened.enter_context(build([last], Hook.XDP, bench.counters))
        bench.map(jumping, "jumps").update(bytes(4), struct.pack("=I", target.fd.fileno()))
    verdict = 2 if filled else 3
    assert Tapped(bench, jumping).run() == [(verdict, who("jumping"), FRAME)]
    by = who("jumping" if filled else "last")
    assert [one[:2] for one in Tapped(bench, jumping, last).run()] == [(2, by)]
    assert [one[:2] for one in Tapped(bench, jumping, last, member="jumping").run()] == [
        (verdict, who("jumping"))
    ]


def test_a_redirect(bench: Bench) -> None:
    """It still says where to."""
    assert [one[0] for one in Tapped(bench, bench.member(REDIRECTS, "to")).run()] == [4]


def test_a_deep_stack(bench: Bench) -> None:
    """The tap takes nothing from what members need: it is a branch of its own."""
    parts = bench.member(STACK, "deep"), bench.member(returning(1), "last")
    assert [one[0] for one in Tapped(bench, *parts).run()] == [1]
    assert [one[0] for one in Tapped(bench, parts[0]).run()] == [2]


def test_a_chain_of_several_programs(bench: Bench) -> None:
    """The first program asks the filter, and the one in which the packet's way ends hands it over."""
    many = "".join(f"MAP(m{n}, ARRAY, 1, __u32, __u32);\n" for n in range(40))
    uses = "".join(f"sum += !!bpf_map_lookup_elem(&m{n}, &key);\n" for n in range(40))
    source = (
        many
        + f'SEC("xdp") int big(struct xdp_md *ctx) {{ __u32 key = 0, sum = 0; {uses} return sum == 40 ? 2 : 0; }}'
    )
    parts = [bench.member(source, f"m{n}") for n in range(3)]
    parts.append(bench.member(returning(1), "last"))
    tapped = Tapped(bench, *parts)
    assert len(tapped.chain.hold) == 1
    assert tapped.run() == [(1, who("last"), FRAME)]
    assert Tapped(bench, *parts, expression="ip6").run() == []
    assert [one[:2] for one in Tapped(bench, *parts, member="m2").run()] == [(2, who("m2"))]


def test_frames_in_several_buffers(bench: Bench) -> None:
    """All of a frame is kept, up to the limit, whatever buffers it is in."""
    source = returning(2, "xdp.frags")
    tapped = Tapped(bench, bench.member(source, "frags"))
    big = FRAME + bytes(range(256)) * 20
    [(_, _, data)] = tapped.run(big)
    assert data == big[:4096]


def test_sent_from_within(lab: Lab) -> None:
    """A program that sends a copy through its own hook is entered again before it is done."""
    source = lab.compiled(
        """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int clones(struct __sk_buff *skb) {
	if (skb->mark == 2) return TC_ACT_SHOT;
	skb->mark++;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	return TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
""",
        "clones",
    )
    lab("attach", "tc", "dut0", source, "--egress")
    with capture(lab, "udp") as packets:
        lab.wire.dut.send(frame(lab.wire.dut), may_drop=True)
        found = taken(packets, 3)
    # What began last ends first.
    assert [one.verdict_name for one in found] == ["shot", "ok", "ok"]
    assert packets.summary().nested == 0


def test_a_tag_beside_the_packet(lab: Lab) -> None:
    """In TC the kernel has taken the VLAN tag out; filters and files have it where it was."""
    plain = frame(lab.wire.peer)
    tagged = plain[:12] + b"\x81\x00\x00\x05" + plain[12:]
    other = plain[:12] + b"\x81\x00\x00\x06" + plain[12:]
    with capture(lab, "vlan 5 and udp port 53 and len = 104", WAYS["clsact"]) as packets:
        lab.wire.peer.send([tagged, other, plain])
        lab.wire.peer.send(tagged)
        found = taken(packets, 2)
        assert packets.summary().seen == 4
    assert [(one.data, one.length) for one in found] == [(tagged, 104)] * 2
