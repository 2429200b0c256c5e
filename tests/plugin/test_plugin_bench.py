"""Programs in TEST_RUN: verdicts, packets afterwards, counters, and programs that are as if new for each test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from netbpf.constants import TcAction, XdpAction
from netbpf.errors import UsageError
from netns_fixtures.bench import BenchProgram
from netns_fixtures.bench_rig import BenchRig
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.evidence import Evidence
from netns_fixtures.kinds import TC_TESTRUN, XDP_TESTRUN
from netns_fixtures.pool import POOL, Pool
from netns_fixtures.programs import attach, pass_object, verdict_object
from netns_fixtures.rig import Rig
from netns_fixtures.topology import Topology
from tests.support.compiling import compile_c

pytestmark = pytest.mark.requires("root")

Load = Callable[..., BenchProgram]

DNS = IP(src="10.0.0.2", dst="10.0.0.1", ttl=64) / UDP(sport=1024, dport=53) / b"question"
WEB = IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=1024, dport=80, flags="S")
COUNT = {"xdp": "builtin:xdp_count", "tc": "builtin:tc_count"}

# A small router: one hop less, the checksum with it. Counts, and remembers each source in a hash.
ROUTER = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
__u64 routed;
__u32 hops = 1;
struct {
	__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16);
	__type(key, __be32); __type(value, __u64);
} sources SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4);
	__type(key, __u32); __type(value, __u64);
} lengths SEC(".maps");
SEC("xdp") int router(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	__u32 zero = 0, sum;
	__u64 one = 1, *length;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ttl <= hops)
		return XDP_ABORTED;
	for (__u32 i = 0; i < 4; i++) {
		if (i >= hops)
			break;
		ip->ttl--;
		sum = ip->check + bpf_htons(0x0100);
		ip->check = sum + (sum >= 0xffff);
	}
	__sync_fetch_and_add(&routed, 1);
	bpf_map_update_elem(&sources, &ip->saddr, &one, BPF_ANY);
	length = bpf_map_lookup_elem(&lengths, &zero);
	if (length)
		*length += end - data;
	return XDP_TX;
}
char _license[] SEC("license") = "GPL";
"""
MARKER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int marker(struct __sk_buff *ctx) { return ctx->mark == 7 ? 2 : ctx->mark; }
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def router(bench: Load) -> BenchProgram:
    return bench(compile_c(ROUTER))


# --- what is said of a program ------------------------------------------------------------------


def test_a_verdict_is_asserted_by_name_constant_or_number(router: BenchProgram) -> None:
    router.assert_verdict("tx", DNS, WEB)
    router.assert_verdict("XDP_TX", DNS)
    router.assert_verdict(XdpAction.TX, DNS)
    router.assert_verdict(3, [DNS, WEB])
    router.assert_verdict({"xdp": "tx", "tc": "redirect"}, DNS)
    router.assert_verdict("aborted", IP(ttl=1) / UDP())


def test_another_verdict_fails_and_names_the_packets(router: BenchProgram) -> None:
    with pytest.raises(ExpectationError) as info:
        router.assert_verdict("tx", DNS, IP(src="10.0.0.2", dst="10.0.0.1", ttl=1) / TCP(), WEB)
    first, *rest = str(info.value).splitlines()
    assert first == "expected verdict tx of router for 3 packets; not so for"
    assert len(rest) == 1
    assert rest[0].startswith("  #2 aborted   Ether / IP / TCP 10.0.0.2")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("shot", "no verdict of xdp; there are aborted, drop, pass, tx"), ({"tc": "ok"}, "nothing of xdp")],
)  # fmt: skip
def test_a_verdict_that_the_hook_does_not_have_is_an_error(
    router: BenchProgram, verdict: str, words: str
) -> None:
    with pytest.raises(TrafficError, match=words):
        router.assert_verdict(verdict, DNS)


def test_no_packet_asserts_nothing(router: BenchProgram) -> None:
    with pytest.raises(TrafficError, match="without a packet"):
        router.assert_verdict("tx")


@pytest.mark.parametrize("number", [TcAction.OK, TcAction.UNSPEC, TcAction.PIPE, TcAction.SHOT])
def test_pass_and_drop_are_words_for_tc_too(bench: Load, number: TcAction) -> None:
    program = bench(verdict_object("tc", number))
    right, wrong = ("drop", "pass") if number == TcAction.SHOT else ("pass", "drop")
    program.assert_verdict(right, DNS)
    program.assert_verdict(number.name.lower(), DNS)
    with pytest.raises(ExpectationError):
        program.assert_verdict(wrong, DNS)


def test_the_packet_afterwards_is_the_one_before_with_fields_changed(router: BenchProgram) -> None:
    router.assert_output(DNS, verdict="tx", mutate={"IP.ttl": 63})
    router.assert_output(DNS, ignore=["IP.ttl", "IP.chksum"])
    changed = DNS.copy()
    changed[IP].ttl = 63
    router.assert_output(DNS, changed)


def test_another_packet_afterwards_fails_with_the_fields(router: BenchProgram) -> None:
    with pytest.raises(ExpectationError, match=r"IP.ttl +expected 62 +got 63(?s:.*)\^\^"):
        router.assert_output(DNS, mutate={"IP.ttl": 62})
    with pytest.raises(ExpectationError, match="expected verdict pass of router, got tx"):
        router.assert_output(DNS, verdict="pass", mutate={"IP.ttl": 63})
    with pytest.raises(TrafficError, match=r"mutate=: the packet has no field IP.hops"):
        router.assert_output(DNS, mutate={"IP.hops": 63})


def test_counters_are_strict_and_do_not_wait(router: BenchProgram) -> None:
    with router.changes({"routed": 2, "sources[10.0.0.2]": 1, "lengths[0]": 104}) as moved:
        router.run(DNS)
        router.run(WEB)
    assert moved.after["routed"] == 2
    with (
        pytest.raises(ExpectationError, match=r"lengths\[0\] +104 -> 154 \(\+50\)"),
        router.changes({"routed": 1}),
    ):
        router.run(DNS)


def test_variables_are_set_before_the_load_and_while_it_runs(bench: Load) -> None:
    router = bench(compile_c(ROUTER), variables={"hops": 2})
    router.assert_output(DNS, mutate={"IP.ttl": 62})
    router.set({"hops": 3})
    router.assert_output(DNS, mutate={"IP.ttl": 61})
    assert (router.get("hops"), router.get("routed")) == (3, 2)
    assert router.stats().variables


def test_the_context_is_given_by_name(bench: Load) -> None:
    marker = bench(compile_c(MARKER))
    marker.assert_verdict("ok", DNS)
    marker.assert_verdict("shot", DNS, mark=7)
    assert marker.run(DNS, mark=3).verdict_name == "pipe"


def test_what_test_run_does_not_take_says_so(bench: Load) -> None:
    marker = bench(compile_c(MARKER))
    with pytest.raises(UsageError, match="rx_queue is for xdp programs"):
        marker.run(DNS, rx_queue=1)


def test_the_program_of_several_and_the_family_can_be_chosen(bench: Load) -> None:
    assert bench("builtin:xdp_drop", program="xdp_drop", family="xdp").name == "xdp_drop"


# --- as if new ------------------------------------------------------------------------------------


def test_a_program_used_before_is_as_if_new(bench: Load) -> None:
    with bench(compile_c(ROUTER)) as router:
        router.set({"hops": 2, "lengths[3]": 9})
        router.run(DNS)
    again = bench(compile_c(ROUTER))
    assert again.id == router.id, "it was loaded anew, which is slow"
    assert again.counters() == {"routed": 0, "hops": 1}


def test_other_settings_are_another_program(bench: Load) -> None:
    one, other = bench(compile_c(ROUTER)), bench(compile_c(ROUTER), variables={"hops": 2})
    assert one.id != other.id
    assert bench(compile_c(ROUTER)).id not in (one.id, other.id), "two at a time share nothing"


def test_large_arrays_are_loaded_anew() -> None:
    pool = Pool()
    taken = pool.take("builtin:xdp_drop")
    pool.give_back(taken)
    assert taken.loaded.program.fd.closed
    pool.close()


def test_the_pool_lets_go_in_the_end(leaks: Callable[..., list[str]]) -> None:
    pool = Pool()
    pool.give_back(pool.take(pass_object("xdp")))
    try:
        assert leaks() == [], "what is kept on purpose is no leak"
    finally:
        pool.close()
    assert leaks() == []


def test_what_a_test_keeps_is_a_leak_and_what_the_pool_keeps_is_not(
    leaks: Callable[..., list[str]],
) -> None:
    held = POOL.take(verdict_object("xdp", 77))
    seen = leaks(patience=0.0)
    POOL.give_back(held)
    number = held.loaded.program.info.id
    assert any(f"(program {number})" in line for line in seen)
    assert leaks() == []


def test_a_source_is_compiled_once_per_session(
    bench: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "marker.bpf.c").write_text(MARKER)
    first = bench(tmp_path / "marker.bpf.c").loaded.spec.data
    monkeypatch.setattr(
        "netbpf.compiler.cached_object", lambda *_: pytest.fail("it was looked up again")
    )
    assert bench(tmp_path / "marker.bpf.c").loaded.spec.data == first


def test_a_session_shares_its_programs(session_bench: Load) -> None:
    first = session_bench(compile_c(ROUTER), variables={"hops": 2})
    first.run(DNS)
    assert session_bench(compile_c(ROUTER), variables={"hops": 2}) is first
    assert session_bench(compile_c(ROUTER), variables={"hops": 3}) is not first


# --- as a rig --------------------------------------------------------------------------------------


@pytest.mark.attach_kinds("everywhere")
def test_one_body_for_every_kind(rig: Rig) -> None:
    program = rig.attach(COUNT)
    verdict = "pass" if rig.kind.family == "xdp" else "unspec"
    names = ("protocols[ipv4]", "protocols[ipv4/udp]", f"verdicts[{verdict}]")
    moved = {
        f"{name}.{unit}": 2 * n for name in names for unit, n in (("packets", 1), ("bytes", 50))
    }
    with program.changes(moved):
        rig.send(DNS, DNS)
    rig.expect(DNS, DNS)
    rig.expect_none()
    rig.assert_verdict("pass", DNS, WEB)
    rig.assert_verdict({"xdp": "pass", "tc": "unspec"}, DNS)


@pytest.mark.attach_kinds("everywhere")
def test_a_drop_is_a_drop_everywhere(rig: Rig) -> None:
    xdp = rig.kind.family == "xdp"
    program = rig.attach(COUNT, variables={"verdict": XdpAction.DROP if xdp else TcAction.SHOT})
    counted = lambda: program.counters().get("protocols[ipv4].packets") == 2  # noqa: E731
    # A program that drops everything drops the sentinel of skb XDP too.
    rig.assert_verdict("drop", DNS, WEB, until=counted if rig.kind.id == "xdp-skb" else None)


@pytest.mark.attach_kinds("xdp", "xdp-testrun")
def test_what_is_sent_back_comes_back_everywhere(rig: Rig) -> None:
    rig.attach(compile_c(ROUTER))
    [sent] = rig.send(DNS)
    rig.expect_back(sent, mutate={"IP.ttl": 63})
    rig.assert_verdict("tx", DNS, WEB)


@pytest.mark.attach_kinds("everywhere")
@pytest.mark.parametrize("wrong", ["drop", "tx"])
def test_a_wrong_verdict_fails_everywhere(rig: Rig, wrong: str) -> None:
    rig.attach({"xdp": pass_object("xdp"), "tc": pass_object("tc")})
    asked = wrong if rig.kind.family == "xdp" else "drop"
    with pytest.raises(ExpectationError, match=f"expected verdict {asked}"):
        rig.assert_verdict(asked, DNS, WEB)


@pytest.mark.attach_kinds("everywhere")
def test_a_pass_that_does_not_come_fails_everywhere(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netns_fixtures.capture.PATIENCE", 0.1)
    rig.attach(
        {"xdp": verdict_object("xdp", XdpAction.DROP), "tc": verdict_object("tc", TcAction.SHOT)}
    )
    with pytest.raises(ExpectationError, match="expected verdict pass"):
        rig.assert_verdict("pass", DNS)


@pytest.mark.attach_kinds("everywhere")
def test_mutate_is_for_every_kind(rig: Rig) -> None:
    rig.attach({"xdp": pass_object("xdp"), "tc": pass_object("tc")})
    aged = DNS.copy()
    aged[IP].ttl = 63
    rig.send(aged)
    rig.expect(DNS, mutate={"IP.ttl": 63})
    rig.send(aged)
    with pytest.raises(ExpectationError, match=r"IP.ttl +expected 62 +got 63"):
        rig.expect(DNS, mutate={"IP.ttl": 62}, within=0.0)
    rig.expect(aged)


@pytest.mark.attach_kinds("testrun")
def test_a_rig_in_test_run_has_no_wire_and_no_second_program(rig: Rig) -> None:
    rig.attach(COUNT)
    with pytest.raises(TrafficError, match="has no wire"):
        rig.wire  # noqa: B018
    with pytest.raises(TrafficError, match="is there already"):
        rig.attach(COUNT)


@pytest.mark.attach_kinds("testrun")
def test_without_a_program_everything_passes(rig: Rig) -> None:
    rig.send(DNS)
    rig.expect(DNS)
    with rig.attach({"xdp": verdict_object("xdp", 1), "tc": verdict_object("tc", 2)}):
        rig.send(DNS)
        rig.expect_none()
    rig.send(DNS)
    rig.expect(DNS)


def test_untaken_packets_fail_in_test_run_too() -> None:
    rig = BenchRig(XDP_TESTRUN, Evidence())
    rig.send(DNS, WEB)
    rig.expect(DNS)
    with pytest.raises(ExpectationError, match="1 packet arrived at the stack that no expect"):
        rig.verify()


def test_a_redirected_packet_is_nowhere_to_be_seen() -> None:
    evidence = Evidence()
    rig = BenchRig(TC_TESTRUN, evidence)
    with rig.attach(verdict_object("tc", TcAction.REDIRECT)):
        rig.send(Ether() / DNS)
        with pytest.raises(ExpectationError, match="verdicts: redirect 1"):
            rig.expect(DNS)
        rig.assert_verdict("redirect", DNS)


def test_a_hook_of_an_interface_is_none_in_test_run(topology: Topology) -> None:
    with pytest.raises(TrafficError, match="xdp-testrun is no hook"):
        attach(topology.wire().dut, XDP_TESTRUN, pass_object("xdp"))
