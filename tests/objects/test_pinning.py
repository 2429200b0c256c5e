"""Maps that ask to be pinned: in libbpf's way, in iproute2's (struct bpf_elf_map), and in cilium's."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbpf.bpf.object import ObjectSpec
from tests.cli.lab import Lab, udp

LEGACY = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct bpf_elf_map {
	__u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx;
};
#define MAP(name, where)                                                              \\
	struct bpf_elf_map SEC("maps") name = {                                       \\
		.type = BPF_MAP_TYPE_ARRAY, .size_key = 4, .size_value = 8, .max_elem = 1, .pinning = where }
MAP(none, 0);
MAP(of_object, 1);
MAP(global, 2);
MAP(own_place, 7);
#define COUNT(map) ({ __u32 k = 0; __u64 *v = bpf_map_lookup_elem(&map, &k); if (v) *v += STEP; })
SEC("classifier") int count(struct __sk_buff *skb)
{
	COUNT(none);
	COUNT(of_object);
	COUNT(global);
	COUNT(own_place);
	return -1;
}
char _license[] SEC("license") = "GPL";
"""
CILIUM = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, 1 << 4);
} calls SEC(".maps");
SEC("tc") int entry(struct __sk_buff *skb)
{
	__u32 key = ENTRIES;
	__u64 value = 1;
	bpf_map_update_elem(&calls, &key, &value, 0);
	return -1;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def bpffs(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    made = tmp_path / "bpf"
    made.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", made, "-o", "mode=0700"], check=True)
    yield made
    subprocess.run(["umount", "-l", made], check=True)


def legacy(lab: Lab, step: int) -> Path:
    return lab.compiled(LEGACY.replace("STEP", str(step)), f"legacy{step}")


def counts(lab: Lab, direction: str) -> list[int]:
    names = ("none", "of_object", "global", "own_place")
    hook = f"tc/{direction}"
    return [int(lab.get("dut0", f"{name}[0]", "--hook", hook), 0) for name in names]


def test_tc_maps_are_shared_by_their_namespaces(lab: Lab, bpffs: Path) -> None:
    path, globals_ = legacy(lab, 1), bpffs / "tc" / "globals"
    lab.attach("tc", "dut0", path, "--pin-maps", globals_)
    lab.attach("tc", "dut0", path, "--egress", "--pin-maps", globals_)
    udp(lab.wire.peer, number=3)
    assert counts(lab, "ingress") == [3, 3, 3, 3]
    assert counts(lab, "egress") == [0, 3, 3, 3]
    own = ObjectSpec.open(path).sha256[:16]
    assert sorted(str(one.relative_to(globals_)) for one in globals_.rglob("*")) == sorted(
        [own, f"{own}/of_object", "global", "own_place"]
    )


def test_another_object_shares_what_is_global_alone(lab: Lab, bpffs: Path) -> None:
    globals_ = bpffs / "globals"
    lab.attach("tc", "dut0", legacy(lab, 1), "--pin-maps", globals_)
    lab.attach("tc", "dut0", legacy(lab, 10), "--egress", "--pin-maps", globals_)
    udp(lab.wire.peer)
    udp(lab.wire.dut)
    assert counts(lab, "ingress") == [1, 1, 11, 11]
    assert counts(lab, "egress") == [10, 10, 11, 11]


def test_what_tc_has_pinned_is_used(lab: Lab, bpffs: Path) -> None:
    globals_ = bpffs / "globals"
    globals_.mkdir(mode=0o700)
    create = "bpftool map create {} type array key 4 value 8 entries 1 name global"
    subprocess.run(create.format(globals_ / "global").split(), check=True)
    update = f"bpftool map update pinned {globals_ / 'global'} key 0 0 0 0 value 41 0 0 0 0 0 0 0"
    subprocess.run(update.split(), check=True)
    lab.attach("tc", "dut0", legacy(lab, 1), "--pin-maps", globals_)
    udp(lab.wire.peer)
    assert counts(lab, "ingress") == [1, 1, 42, 1]


def test_without_a_directory_they_are_private_and_it_is_said(lab: Lab) -> None:
    path = legacy(lab, 1)
    done = lab.attach("tc", "dut0", path)
    assert done.err == (
        "netbpf: note: of_object, global, own_place ask to be pinned, and would be shared with --pin-maps DIR; "
        "made anew for this attach\n"
    )
    lab.attach("tc", "dut0", path, "--egress")
    udp(lab.wire.peer, number=2)
    assert counts(lab, "ingress") == [2, 2, 2, 2]
    assert counts(lab, "egress") == [0, 0, 0, 0]


def cilium(lab: Lab, entries: int) -> Path:
    return lab.compiled(CILIUM.replace("ENTRIES", str(entries)), f"cilium{entries}")


def pinned(path: Path) -> str:
    command = ["bpftool", "map", "show", "pinned", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_pin_that_is_replaced_may_have_another_shape(lab: Lab, bpffs: Path) -> None:
    lab.attach("tc", "dut0", cilium(lab, 4), "--pin-maps", bpffs)
    assert "max_entries 4" in pinned(bpffs / "calls")
    lab.attach("tc", "dut0", cilium(lab, 8), "--egress", "--pin-maps", bpffs)
    assert "max_entries 8" in pinned(bpffs / "calls")


def test_a_failed_attach_puts_back_what_was_pinned(lab: Lab, bpffs: Path) -> None:
    lab.attach("tc", "dut0", cilium(lab, 4), "--pin-maps", bpffs)
    before = pinned(bpffs / "calls")
    lab("attach", "tc", "dut0", cilium(lab, 8), "--pin-maps", bpffs, "--replace", "--link", code=2)
    assert pinned(bpffs / "calls") == before
    lab("attach", "tc", "dut9", cilium(lab, 8), "--pin-maps", bpffs, code=6)
    assert pinned(bpffs / "calls") == before
