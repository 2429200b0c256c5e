"""Pins that keep prog arrays filled, when things go wrong: killed or failing at every step of every change."""

import errno
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from netbpf import api, layout
from netbpf.bpf import pin
from netbpf.bpf.map import Map
from netbpf.constants import Hook
from netbpf.manager import mappinned
from netbpf.model import Attachment
from tests.faults.confirming import LONG, ended, the_pending
from tests.faults.driver import Answer, Fault
from tests.faults.lab import Lab
from tests.faults.ways import LIMIT
from tests.support.compiling import compile_c
from tests.support.waiting import eventually, exists

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
FILLED: dict[str, Any] = {"program": "entry", "tail_calls": ["jumps[1]=leaf"]}


def joined(lab: Lab, path: Path, name: str, fault: Fault | None = None, **options: Any) -> Answer:
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


def ids(answers: Iterable[Answer]) -> set[int]:
    """The maps that operations made."""
    return {number for one in answers for kind, number in one["made"] if kind == "MAP"}


def wait_for_pins(lab: Lab, ours: set[int], arrays: set[int]) -> None:
    """Nothing is pinned but what is needed. The kernel frees programs a moment later: until then they count."""

    def settled() -> bool:
        if pinned(lab) & ours <= arrays:
            return True
        api.detach("v3", missing_ok=True, netns=lab.namespace)
        return False

    eventually(settled, "a pin stays")


def check_nothing_left(lab: Lab, *answers: Answer) -> None:
    """Maps are not asked for: the kernel leaks a prog array if its last user closes it twice before it is emptied
    (6.18, prog_array_map_clear), which somebody else who looks at it can bring about.
    """
    wait_for_pins(lab, ids(answers), set())
    programs = [[one for one in answer["made"] if one[0] != "MAP"] for answer in answers]
    lab.assert_nothing_left(
        *(
            cast("Answer", {**one, "made": made})
            for one, made in zip(answers, programs, strict=True)
        )
    )


@dataclass(frozen=True)
class Change:
    """A change of a hook, from how many members with tail calls to how many."""

    before: int
    after: int
    act: Callable[[Lab, Path, Fault | None], Answer]


def _joins(lab: Lab, path: Path, fault: Fault | None) -> Answer:
    return joined(lab, path, "new", fault)


def _replaces(lab: Lab, path: Path, fault: Fault | None) -> Answer:
    return joined(lab, path, "new", fault, replace=True)


def _goes(lab: Lab, path: Path, fault: Fault | None) -> Answer:
    return lab.detach("v0", Hook.XDP, everything=True, fault=fault)


def _leaves(lab: Lab, path: Path, fault: Fault | None) -> Answer:
    return lab.detach("v0", Hook.XDP, member="m1", fault=fault)


CHANGES = {
    "first": Change(0, 1, _joins),
    "second": Change(1, 2, _joins),
    "replace": Change(1, 1, _replaces),
    "out": Change(2, 1, _leaves),
    "last": Change(1, 0, _goes),
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
        made.append(answer)
        wait_for_pins(lab, ids(made), arrays)
        assert check_filled(lab) == arrays
        assert pinned(lab) >= arrays
        api.detach(everything=True, netns=lab.namespace)
        check_nothing_left(lab, *made)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert ends == {change.before, change.after}


@pytest.mark.parametrize(
    ("kind", "number"),
    [("kernel", errno.ENOMEM), ("disk", errno.ENOSPC), ("lost", 0), ("signal", 0)],
)
@each_change
def test_failing_at_each_step(
    lab: Lab, source: Path, change: Change, kind: str, number: int
) -> None:
    """It succeeds in spite of it, or all is as it was; either way nothing is pinned that nobody needs."""
    made: list[Answer] = []
    for at in range(LIMIT):
        if not made:
            made = start(lab, source, change)
        answer = change.act(lab, source, Fault(kind=kind, at=at, errno=number))
        assert "Traceback" not in str(answer["error"]), answer["message"]
        arrays = check_filled(lab)
        if answer["error"] is None:
            assert len(arrays) == change.after
        elif kind != "signal" and change.after:
            # A detach that fails at last has taken it off all the same.
            assert len(arrays) == change.before, answer
        made.append(answer)
        # Where nothing has changed, the next step meets what this one has left.
        if answer["error"] is None or kind == "signal" or len(arrays) != change.before:
            api.detach(everything=True, missing_ok=True, netns=lab.namespace)
            check_nothing_left(lab, *made)
            made = []
        else:
            wait_for_pins(lab, ids(made), arrays)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")


def test_a_change_that_waits_keeps_them(lab: Lab, source: Path, tmp_path: Path) -> None:
    """Also where its watcher is killed, and whatever else is done until it goes back."""
    assert joined(lab, source, "m")["error"] is None
    arrays = check_filled(lab)
    (before,) = lab.status()
    assert lab.detach("v0", confirm=LONG)["error"] is None
    assert pinned(lab) >= arrays
    watcher = the_pending().watcher
    os.kill(watcher, signal.SIGKILL)
    assert ended(watcher)
    eventually(lambda: not exists("PROG", before.program.id), "the program stays")
    # A netbpf that shares the bpffs, but has a state directory of its own, knows nothing of it.
    other = {"NETBPF_STATE_DIR": str(tmp_path / "other")}
    assert lab.cli("detach", "--all", "--ignore-missing", env=other).returncode == 0
    assert lab.attach(Hook.XDP, "v2", "builtin:xdp_count", mode="skb")["error"] is None
    assert pinned(lab) >= arrays
    api.confirm(undo=True, netns=lab.namespace)
    assert check_filled(lab) == arrays
    api.detach(everything=True, netns=lab.namespace)
    assert not pinned(lab) & arrays
    lab.assert_nothing_left()


def test_packets_on_their_way_have_their_tail_calls(
    lab: Lab, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of a program and that of its pins no packet can be in it any more."""
    assert joined(lab, source, "m")["error"] is None
    arrays = check_filled(lab)
    waited: list[tuple[object, bool]] = []
    monkeypatch.setattr(
        mappinned, "grace_period", lambda: waited.append((running(lab), pinned(lab) >= arrays))
    )
    api.detach("v0", netns=lab.namespace)
    assert waited == [(None, True)]
    assert not pinned(lab) & arrays
    lab.assert_nothing_left()
