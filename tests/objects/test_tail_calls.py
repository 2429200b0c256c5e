"""``--tail-call``: prog arrays that user space fills, in objects and in BCC sources."""

from pathlib import Path

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.compiler import compile_source
from netbpf.constants import Hook, XdpAction
from netbpf.manager import tailcalls
from tests.cli.lab import run_cli
from tests.support.compiling import compile_c

SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} jumps SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} numbers SEC(".maps");
int entered, parsed, passed_by;
SEC("xdp") int entry(struct xdp_md *ctx)
{
	entered++;
	bpf_tail_call(ctx, &jumps, 2);
	passed_by++;
	return XDP_PASS;
}
SEC("xdp") int parse(struct xdp_md *ctx)
{
	parsed++;
	bpf_tail_call(ctx, &jumps, 3);
	return XDP_DROP;
}
SEC("xdp") int bounce(struct xdp_md *ctx) { return XDP_TX; }
SEC("tc") int classify(struct __sk_buff *ctx) { return 0; }
char _license[] SEC("license") = "GPL";
"""
BCC = """
#include <uapi/linux/bpf.h>
struct event { u64 time; u32 length; };
BPF_PROG_ARRAY(next, 8);
BPF_PERF_OUTPUT(events);
BPF_HISTOGRAM(sizes);
BPF_HASH(flows, u32, u64, 64);

int hop(struct xdp_md *ctx)
{
	u32 length = ctx->data_end - ctx->data;

	flows.increment(length);
	return XDP_TX;
}

int entry(struct xdp_md *ctx)
{
	u32 length = ctx->data_end - ctx->data;
	struct event event = {.length = length};

	sizes.increment(bpf_log2l(length));
	events.perf_submit(ctx, &event, sizeof(event));
	next.call(ctx, 2);
	return XDP_PASS;
}
"""


def verdict(spec: ObjectSpec, *calls: str) -> XdpAction:
    """What the entry of an object says to a packet, with such tail calls."""
    tailcalls.fill([spec], calls)
    with load(spec, spec.select(Hook.XDP, "entry"), Hook.XDP) as loaded:
        return XdpAction(sys_bpf.prog_test_run(loaded.program.fd.fileno(), bytes(64)).retval)


def test_what_is_put_there_runs() -> None:
    assert verdict(ObjectSpec(compile_c(SOURCE))) is XdpAction.PASS
    assert verdict(ObjectSpec(compile_c(SOURCE)), "jumps[2]=parse") is XdpAction.DROP
    assert verdict(ObjectSpec(compile_c(SOURCE)), "jumps[2]=bounce") is XdpAction.TX
    assert (
        verdict(ObjectSpec(compile_c(SOURCE)), "jumps[2]=parse", "jumps[0x3]=bounce")
        is XdpAction.TX
    )


def test_attach_auto_takes_them_too(tmp_path: Path, private: Path) -> None:
    source = SOURCE.replace('SEC("xdp")', 'SEC("raw_tp/sched_process_exec")').replace(
        "struct xdp_md", "void"
    )
    path = tmp_path / "traced.o"
    path.write_bytes(compile_c(source))
    done = run_cli("attach", "auto", path, "-n", "entry")
    assert "prog array jumps is empty" in done.err
    run_cli("detach", "auto")
    done = run_cli(
        "attach", "auto", path, "--tail-call", "jumps[2]=parse", "--tail-call", "jumps[3]=bounce"
    )
    assert (done.code, done.err) == (
        0,
        "netbpf: note: classify needs an interface: netbpf attach tc IFACE OBJECT -n classify\n",
    )
    assert [line.split()[3] for line in done.lines] == ["entry"]
    assert run_cli("detach", "auto").code == 0


def test_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prog.c").write_text(BCC)
    path = compile_source("prog.c", "prog.o").output
    assert verdict(ObjectSpec.open(path)) is XdpAction.PASS
    spec = ObjectSpec.open(path)
    tailcalls.fill([spec], ["next[2]=hop"])
    with load(spec, spec.select(Hook.XDP), Hook.XDP) as loaded:
        for size in (64, 64, 200):
            run = sys_bpf.prog_test_run(loaded.program.fd.fileno(), bytes(size))
            assert run.retval == XdpAction.TX
        histogram = {
            int.from_bytes(k, "little"): int.from_bytes(v, "little")
            for k, v in loaded.maps["sizes"].entries()
        }
        assert (histogram[7], histogram[8]) == (2, 1)  # powers of two, as bpf_log2l() numbers them
        assert loaded.maps["flows"].lookup((64).to_bytes(4, "little")) == (2).to_bytes(8, "little")
        assert loaded.maps["events"].info.max_entries
