"""Maps that carry typed events, maps of one entry per CPU, and ``--map-size``."""

import resource
from pathlib import Path

import pytest

import netbpf
from netbpf.bpf.map import Map, possible_cpus
from netbpf.model import MapInfo
from tests.cli.lab import Lab, run_cli

SOURCE = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct event { __u64 when; __u32 what[5]; };
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct event);
} ring SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, struct event);
	__type(value, struct event);
} perf SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1 << 20);
	__type(key, __u32);
	__type(value, __u32);
} many_cpus SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
} flows SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 0x7fffffff);
	__type(key, __u32);
	__type(value, __u64);
} huge SEC(".maps");
int total;

SEC("xdp") int events(struct xdp_md *ctx)
{
	struct event event = { .when = total++ };

	bpf_ringbuf_output(&ring, &event, sizeof(event), 0);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event));
	bpf_redirect_map(&cpus, 0, 0);
	bpf_redirect_map(&many_cpus, 0, 0);
	return XDP_PASS;
}

SEC("xdp") int counts(struct xdp_md *ctx)
{
	__u32 key = 1;

	bpf_map_lookup_elem(&flows, &key);
	return XDP_PASS;
}

SEC("xdp") int fills(struct xdp_md *ctx)
{
	__u32 key = 1;

	bpf_map_lookup_elem(&huge, &key);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def path(lab: Lab) -> Path:
    return lab.compiled(SOURCE, "sizes")


def maps(lab: Lab) -> dict[str, MapInfo]:
    """What the kernel says of the maps of the one program on dut0."""
    [hook] = lab.hooks()
    found = {}
    for number in hook["program"]["map_ids"]:
        with Map.by_id(number) as one:
            found[one.info.name] = one.info
    return found


def test_the_types_of_events_do_not_keep_a_map_from_the_kernel(lab: Lab, path: Path) -> None:
    lab.attach("xdp", "dut0", path, "-n", "events")
    found = maps(lab)
    assert (found["ring"].key_size, found["ring"].value_size) == (0, 0)
    assert (found["perf"].key_size, found["perf"].value_size) == (4, 4)
    assert found["perf"].max_entries == possible_cpus()
    assert found["cpus"].max_entries == possible_cpus()
    assert found["many_cpus"].max_entries >= possible_cpus()


def test_a_size_that_the_object_leaves_open(lab: Lab, path: Path) -> None:
    done = lab("attach", "xdp", "dut0", path, "-n", "counts", code=3)
    assert "map flows (hash) has max_entries 0; give it a size: --map-size flows=N" in done.error
    lab.attach("xdp", "dut0", path, "-n", "counts", "--map-size", "flows=1000")
    assert maps(lab)["flows"].max_entries == 1000


def test_sizes_in_place_of_those_of_the_object(lab: Lab, path: Path) -> None:
    lab.attach(
        "xdp", "dut0", path, "-n", "events",
        "--map-size", "ring=0x5000", "--map-size", "perf=1", "--map-size", "cpus=cpus", "--map-size", "many_cpus=2",
    )  # fmt: skip
    found = maps(lab)
    assert found["ring"].max_entries == 32768  # the next power of two that the kernel takes
    assert found["perf"].max_entries == 1
    assert found["cpus"].max_entries == possible_cpus()
    assert found["many_cpus"].max_entries == 2


def test_a_map_that_is_too_large(lab: Lab, path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = lab("attach", "xdp", "dut0", path, "-n", "fills", code=3)
    assert "map huge (hash) is too large for the kernel" in done.error
    assert "make it smaller: --map-size huge=N" in done.error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    lab.attach("xdp", "dut0", path, "-n", "fills", "--map-size", "huge=8")
    assert maps(lab)["huge"].max_entries == 8


def test_the_library_takes_numbers(lab: Lab, path: Path) -> None:
    with netbpf.attach(
        "xdp", "dut0", path, program="counts", map_sizes={"flows": 77}, netns=lab.netns
    ):
        assert maps(lab)["flows"].max_entries == 77


BAD = {
    "flows": (2, "is not NAME=N"),
    "=5": (2, "is not NAME=N"),
    "flows=": (2, "is no size for map flows"),
    "flows=0": (2, "is no size for map flows"),
    "flows=-1": (2, "is no size"),
    "flows=1.5": (2, "is no size"),
    "flows=4294967296": (2, "is no size"),
    "flows=many": (2, "or 'cpus': one entry per CPU"),
    "flovs=5": (3, "did you mean flows"),
    ".bss=5": (3, "holds its global variables"),
    "\x1b]0;x\x07=5": (3, r"\x1b]0;x\x07"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_size(lab: Lab, path: Path, text: str) -> None:
    code, words = BAD[text]
    done = lab("attach", "xdp", "dut0", path, "-n", "counts", "--map-size", text, code=code)
    assert words in done.error
    assert not lab.hooks()
    assert words in run_cli("attach", "auto", path, "-n", "counts", "--map-size", text).err or code
