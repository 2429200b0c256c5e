"""``--redirect``: devmaps and cpumaps with the programs that run there, proven by packets that went through them."""

import os
import select
import time
from collections.abc import Callable

import pytest

from netns_fixtures.topology import Wire
from tests.cli.lab import Lab, run_cli, udp

SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} tx SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} by_index SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 0);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} plain SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} array SEC(".maps");

const volatile int way;
__u64 redirected, left, ingress_seen, egress_index, moved;

SEC("xdp") int entry(struct xdp_md *ctx)
{
	__u32 zero = 0;

	redirected++;
	bpf_map_lookup_elem(&array, &zero);
	if (way == 1)
		return bpf_redirect_map(&by_index, EGRESS, 0);
	if (way == 2)
		return bpf_redirect_map(&cpus, 0, 0);
	if (way == 3)
		return bpf_redirect_map(&plain, 1, 0);
	return bpf_redirect_map(&tx, 2, 0);
}

SEC("xdp/devmap") int leaving(struct xdp_md *ctx)
{
	left++;
	egress_index = ctx->egress_ifindex;
	return XDP_PASS;
}

SEC("xdp/cpumap") int arrived(struct xdp_md *ctx)
{
	moved++;
	return XDP_DROP;
}

SEC("xdp.frags/devmap") int of_frags(struct xdp_md *ctx) { return XDP_PASS; }
SEC("tc") int classifier(struct __sk_buff *ctx) { return 0; }
SEC("xdp") int no_map(struct xdp_md *ctx) { return XDP_PASS; }

char _license[] SEC("license") = "GPL";
"""


def until(condition: Callable[[], bool]) -> None:
    """What another CPU does comes a moment later."""
    patience = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < patience
        select.select([], [], [], 0.002)


def made(lab: Lab, wire: Wire | None = None) -> tuple[str, int]:
    """The object, and the index of a second interface to which it redirects."""
    second = wire or lab.wires(1)[0]
    index = second.dut.ifindex
    return str(lab.compiled(SOURCE.replace("EGRESS", str(index)), "redirect")), index


def test_a_devmap_runs_its_program(lab: Lab) -> None:
    [second] = lab.wires(1)
    path, index = made(lab, second)
    # veth takes redirected frames only while its other end has an XDP program.
    other = f"/proc/{os.getpid()}/fd/{second.peer.namespace.fileno()}"
    assert not run_cli(
        "attach", "xdp", second.peer.ifname, path, "-n", "no_map", "--netns", other
    ).code
    lab.attach("xdp", "dut0", path, "-n", "entry", "--redirect", "tx[2]=dut1:leaving")
    with second.peer.capture() as arriving:
        for sent in udp(lab.wire.peer, number=3):
            arriving.expect(sent)
    assert not run_cli("detach", "xdp", second.peer.ifname, "--netns", other).code
    assert lab.get("dut0", "redirected") == 3
    assert lab.get("dut0", "left") == 3
    assert lab.get("dut0", "egress_index") == index


def test_a_devmap_hash_by_the_name_of_an_interface(lab: Lab) -> None:
    path, index = made(lab)
    lab.attach(
        "xdp",
        "dut0",
        path,
        "-n",
        "entry",
        "--set",
        "way=1",
        "--mode",
        "skb",
        "--redirect",
        "by_index[dut1]=dut1:leaving",
    )
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "left") == 2
    assert lab.get("dut0", "egress_index") == index


def test_an_entry_without_a_program(lab: Lab) -> None:
    path, index = made(lab)
    lab.attach(
        "xdp", "dut0", path, "-n", "entry", "--set", "way=3",
        "--redirect", "plain[1]=dut1", "--redirect", "tx[0]=dut1",
    )  # fmt: skip
    assert int(lab.get("dut0", "plain[1]"), 0) == index
    assert lab.get("dut0", "left") == 0


def test_a_cpumap_for_every_cpu(lab: Lab) -> None:
    path, _ = made(lab)
    lab.attach(
        "xdp", "dut0", path, "-n", "entry", "--set", "way=2", "--redirect", "cpus[*]=64:arrived"
    )
    udp(lab.wire.peer, number=4)
    until(lambda: lab.get("dut0", "moved") == 4)


def test_programs_of_maps_are_not_for_hooks(lab: Lab) -> None:
    path, _ = made(lab)
    done = lab("attach", "xdp", "dut0", path, "-n", "leaving", code=3)
    assert "leaving is a xdp/devmap program" in done.error
    done = lab("attach", "xdp", "dut0", path, code=3)
    assert "2 programs that fit xdp" in done.error


BAD = {
    "tx": (2, "is not MAP[KEY]=TARGET"),
    "tx[0]": (2, "is not MAP[KEY]=TARGET"),
    "[0]=dut1": (2, "is not MAP[KEY]=TARGET"),
    "tx[9]=dut1": (3, "index 9 is behind its end"),
    "tx[0]=dut9": (6, "dut9"),
    "tx[dut9]=dut1": (6, "dut9"),
    "tx[*]=dut1": (2, "only cpumaps"),
    "tx[4294967296]=dut1": (2, "is no index"),
    "by_indx[0]=dut1": (3, "did you mean by_index?"),
    "array[0]=dut1": (3, "neither a devmap nor a cpumap"),
    "plain[0]=dut1:leaving": (3, "values of 4 bytes, without room"),
    "tx[0]=dut1:leavin": (3, "did you mean leaving?"),
    "tx[0]=dut1:classifier": (3, "is no xdp program"),
    "tx[0]=dut1:of_frags": (5, "xdp.frags"),
    "cpus[0]=dut1": (2, "no queue size"),
    "cpus[0]=99999": (2, "too long"),
    "cpus[99]=64": (3, "behind its end"),
    "tx[0]=dut1:\x1b[31m": (3, r"\x1b[31m"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_redirected_to_attaches_nothing(lab: Lab, text: str) -> None:
    code, words = BAD[text]
    path, _ = made(lab)
    done = lab("attach", "xdp", "dut0", path, "-n", "entry", "--redirect", text, code=code)
    assert words in done.error
    assert not lab.hooks()


def test_a_map_that_the_program_does_not_use(lab: Lab) -> None:
    path, _ = made(lab)
    done = lab("attach", "xdp", "dut0", path, "-n", "no_map", "--redirect", "tx[0]=dut1", code=3)
    assert "no program that is attached uses map tx" in done.error


def test_tc_has_no_devmaps(lab: Lab) -> None:
    path, _ = made(lab)
    done = lab("attach", "tc", "dut0", path, "--redirect", "tx[0]=dut1", code=2)
    assert "--redirect is for xdp" in done.error
