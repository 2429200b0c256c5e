"""Pins that keep prog arrays filled, when things go wrong: killed or failing at every step of every change."""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from netbpf import api, layout
from netbpf.bpf import pin
from netbpf.bpf.map import Map
from netbpf.constants import Hook
from netbpf.model import Attachment
from tests.faults.driver import Answer, Fault
from tests.faults.lab import Lab, eventually, exists
from tests.faults.ways import LIMIT
from tests.support.compiling import compile_c

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} jumps SEC(".maps");
SEC("xdp") int leaf(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp") int entry(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 1); return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
FILLED = {"program": "entry", "tail_calls": ["jumps[1]=leaf"]}


def joined(
    lab: Lab, path: Path, name: str, fault: Fault | None = None, **options: object
) -> Answer:
    """A member with tail calls more."""
    return lab.attach(
        Hook.XDP, "v0", str(path), name=name, mode="skb", fault=fault, **FILLED, **options
    )


def running(lab: Lab) -> Attachment | None:
    return lab.on(Hook.XDP).get("v0")


def check_filled(lab: Lab) -> set[int]:
    """The arrays of the members that run, each with its program in it."""
    one = running(lab)
    found = (
        {number for m in one.members for name, number in m.maps if name == "jumps"}
        if one
        else set()
    )
    for number in found:
        with Map.by_id(number) as array:
            assert array.lookup((1).to_bytes(4, "little")), "the kernel has emptied it"
    return found


def pinned(lab: Lab) -> set[int]:
    roots = [layout.BPFFS, lab.state / "bpffs"]
    return {
        int(path.name)
        for root in roots
        if pin.is_bpffs(root)
        for path in pin.listed(layout.map_pins(root))
    }


@dataclass(frozen=True)
class Change:
    """A change of a hook, from how many members with tail calls to how many."""

    before: int
    after: int
    act: Callable[[Lab, Path, Fault | None], Answer]


CHANGES = {
    "first": Change(0, 1, lambda lab, path, fault: joined(lab, path, "new", fault)),
    "second": Change(1, 2, lambda lab, path, fault: joined(lab, path, "new", fault)),
    "replace": Change(1, 1, lambda lab, path, fault: joined(lab, path, "new", fault, replace=True)),
    "out": Change(
        2, 1, lambda lab, path, fault: lab.detach("v0", Hook.XDP, member="m1", fault=fault)
    ),
    "last": Change(1, 0, lambda lab, path, fault: lab.detach("v0", Hook.XDP, fault=fault)),
}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "jump.o"
    path.write_bytes(compile_c(SOURCE))
    return path


def start(lab: Lab, source: Path, change: Change) -> list[Answer]:
    done = [joined(lab, source, f"m{number}") for number in range(change.before)]
    assert all(one["error"] is None for one in done), done
    return done


@each_change
def test_killed_at_each_step(lab: Lab, source: Path, change: Change) -> None:
    """Whoever runs has its tail calls; the next command removes the pins that nobody needs."""
    ends = set()
    for at in range(LIMIT):
        made = start(lab, source, change)
        answer = change.act(lab, source, Fault(kind="kill", at=at))
        arrays = check_filled(lab)
        assert len(arrays) in (change.before, change.after)
        ends.add(len(arrays))
        # The next command, somewhere else.
        assert lab.attach(Hook.XDP, "v2", "builtin:xdp_count", mode="skb")["error"] is None
        ours = {n for one in (*made, answer) for kind, n in one["made"] if kind == "MAP"}
        eventually(
            lambda ours=ours, arrays=arrays: pinned(lab) & ours <= arrays or _again(lab),
            "a pin stays",
        )  # type: ignore[misc]
        assert check_filled(lab) == arrays
        assert pinned(lab) >= arrays
        api.detach(everything=True, netns=lab.namespace)
        lab.assert_nothing_left(*made, answer)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert ends == {change.before, change.after}


def _again(lab: Lab) -> bool:
    """The kernel frees programs a moment later; until then their maps count as needed."""
    api.detach("v3", missing_ok=True, netns=lab.namespace)
    return False


@pytest.mark.parametrize(
    ("kind", "number"),
    [("kernel", errno.ENOMEM), ("disk", errno.ENOSPC), ("lost", 0), ("signal", 0)],
)
@each_change
def test_failing_at_each_step(
    lab: Lab, source: Path, change: Change, kind: str, number: int
) -> None:
    """It succeeds in spite of it, or all is as it was; either way nothing is pinned that nobody needs."""
    for at in range(LIMIT):
        made = start(lab, source, change)
        answer = change.act(lab, source, Fault(kind=kind, at=at, errno=number))
        assert "Traceback" not in str(answer["error"]), answer["message"]
        arrays = check_filled(lab)
        if answer["error"] is None:
            assert len(arrays) == change.after
        elif kind != "signal" and change.after:
            # A detach that fails at last has taken it off all the same.
            assert len(arrays) == change.before, answer
        api.detach(everything=True, missing_ok=True, netns=lab.namespace)
        lab.assert_nothing_left(*made, answer)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")


def test_a_directory_of_others_is_not_used(lab: Lab, source: Path) -> None:
    """Whoever can write to the directory could put another map in the place of the pin."""
    assert joined(lab, source, "first")["error"] is None
    one = running(lab)
    assert one
    root = layout.BPFFS if pin.is_bpffs(layout.BPFFS) else lab.state / "bpffs"
    directory = layout.map_pins(root)
    directory.chmod(0o777)
    try:
        answer = joined(lab, source, "second")
        assert answer["exit_code"] == 1
        assert "that only user" in answer["message"]
        assert [each.name for each in (running(lab) or one).members] == ["first"]
    finally:
        directory.chmod(0o700)
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left(answer)
    assert not any(exists("MAP", number) for name, number in one.members[0].maps if name == "jumps")
