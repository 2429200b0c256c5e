"""Chains when things go wrong: killed or failing at every step, many at once, records and objects lost."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from netbpf import api
from netbpf.constants import Hook
from netbpf.errors import InterfaceNotFoundError, NotAttachedError
from netbpf.manager.sources import builtin
from netbpf.model import Attachment
from tests.faults.driver import Answer, Fault
from tests.faults.lab import Lab
from tests.faults.test_races import at_once
from tests.faults.ways import LIMIT


@dataclass(frozen=True)
class Way:
    """A way onto a hook."""

    hook: Hook
    options: dict[str, Any] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """``more`` is `globals` once more: `drop` would cost the verifier 70 ms each time."""
        program = "globals" if name == "more" else name
        return f"builtin:{'xdp' if self.hook is Hook.XDP else 'tc'}_{program}"


WAYS = {
    "xdp": Way(Hook.XDP, {"mode": "skb"}),
    "xdp-link": Way(Hook.XDP, {"link": True}),
    "clsact": Way(Hook.TC_INGRESS),
    "tcx": Way(Hook.TC_EGRESS, {"link": True}),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
Names = tuple[str, ...]


def start(lab: Lab, way: Way, *names: str) -> None:
    """A hook with members of these names, in their order."""
    for number, name in enumerate(names):
        lab.put(way.hook, "v0", way.source(name), name=name, priority=10 * number, **way.options)


def hook(lab: Lab, way: Way) -> Attachment | None:
    return lab.on(way.hook).get("v0")


def names(lab: Lab, way: Way) -> Names:
    """The members in order, as netbpf and the kernel both have them."""
    one = hook(lab, way)
    if one is None:
        return ()
    assert one.managed
    assert one.is_chain == (one.program.name == "netbpf_chain")
    return tuple(each.name for each in one.members)


@dataclass(frozen=True)
class Change:
    """A change of a hook: what is there before, what is done, and what is there then."""

    before: Names
    after: Names
    act: Callable[[Lab, Way, Fault | None], Answer]


def _add(lab: Lab, way: Way, fault: Fault | None) -> Answer:
    return lab.attach(
        way.hook, "v0", way.source("more"), name="more", priority=5, fault=fault, **way.options
    )


def _detach(lab: Lab, way: Way, fault: Fault | None) -> Answer:
    return lab.detach("v0", way.hook, member="count", fault=fault)


def _move(lab: Lab, way: Way, fault: Fault | None) -> Answer:
    return lab.ask("set_member", "v0", "count", [way.hook], priority=99, fault=fault)


CHANGES = {
    "to-two": Change(("count",), ("count", "more"), _add),
    "to-three": Change(("count", "globals"), ("count", "more", "globals"), _add),
    "move": Change(("count", "globals"), ("globals", "count"), _move),
    "out-of-three": Change(("count", "more", "globals"), ("more", "globals"), _detach),
    "down-to-one": Change(("count", "globals"), ("globals",), _detach),
}
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


# Every change on one hook, and one change on every hook: what differs lies in one of the two.
PAIRS = {
    **{f"clsact-{name}": (WAYS["clsact"], change) for name, change in CHANGES.items()},
    **{f"{name}-to-two": (way, CHANGES["to-two"]) for name, way in WAYS.items()},
    **{f"{name}-down-to-one": (way, CHANGES["down-to-one"]) for name, way in WAYS.items()},
}


@pytest.mark.parametrize(("way", "change"), PAIRS.values(), ids=PAIRS)
def test_killed_at_each_step(lab: Lab, way: Way, change: Change) -> None:
    """The old chain or the new one; the next command repairs, and all of it can be taken off."""
    ends = set()
    for at in range(LIMIT):
        start(lab, way, *change.before)
        answer = change.act(lab, way, Fault(kind="kill", at=at))
        seen = names(lab, way)
        assert seen in (change.before, change.after)
        if not answer["hit"]:
            assert answer["error"] is None, answer
            assert seen == change.after
        ends.add(seen)
        if at % 2:
            # The next change finds a hook that it can change.
            again = lab.ask("set_member", "v0", seen[-1], [way.hook], priority=200)
            assert again["error"] is None, again
            assert names(lab, way) == seen
            lab.assert_consistent()
        api.detach("v0", everything=True, netns=lab.namespace)
        lab.assert_nothing_left(answer)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert ends == {change.before, change.after}


def _runs(lab: Lab, way: Way, name: str) -> str:
    """The program that a member runs."""
    one = hook(lab, way)
    assert one is not None
    return next(each.program for each in one.members if each.name == name)


@pytest.mark.parametrize("others", [(), ("count",)], ids=["alone", "chain"])
@each_way
def test_an_upgrade_killed_at_each_step(lab: Lab, way: Way, others: Names) -> None:
    """The old program or the new one, and a way back from the new one."""
    old, new = (way.source(name).removeprefix("builtin:") for name in ("globals", "count"))
    ends = set()
    for at in range(LIMIT):
        start(lab, way, "globals", *others)
        answer = lab.ask(
            "upgrade", "v0", way.source("count"), "globals", hooks=[way.hook],
            fault=Fault(kind="kill", at=at),
        )  # fmt: skip
        assert names(lab, way) == ("globals", *others)
        seen = _runs(lab, way, "globals")
        ends.add(seen)
        if not answer["hit"]:
            assert answer["error"] is None, answer
            assert seen == new
        if seen == new and at % 2:
            back = lab.ask("rollback", "v0", "globals", hooks=[way.hook])
            assert back["error"] is None, back
            assert _runs(lab, way, "globals") == old
            lab.assert_consistent()
        api.detach("v0", everything=True, netns=lab.namespace)
        lab.assert_nothing_left(answer)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert ends == {old, new}


@pytest.mark.parametrize(
    ("kind", "number"),
    [("kernel", errno.ENOMEM), ("disk", errno.ENOSPC), ("lost", 0)],
)
def test_an_upgrade_failing_at_each_step(lab: Lab, kind: str, number: int) -> None:
    """The old program and what it has gathered, or the new one with it."""
    way = WAYS["xdp"]
    failed = 0
    for at in range(LIMIT):
        start(lab, way, "globals", "count")
        api.set_values("v0", {"min_bytes": 77}, netns=lab.namespace)
        answer = lab.ask(
            "upgrade", "v0", way.source("count"), "globals", hooks=[way.hook],
            fault=Fault(kind=kind, at=at, errno=number),
        )  # fmt: skip
        assert "Traceback" not in str(answer["error"]), answer["message"]
        if answer["error"]:
            failed += 1
            assert _runs(lab, way, "globals") == "xdp_globals", answer
            assert api.get("v0", "min_bytes", netns=lab.namespace) == 77
            lab.assert_consistent()
        else:
            assert _runs(lab, way, "globals") == "xdp_count"
        api.detach("v0", everything=True, netns=lab.namespace)
        lab.assert_nothing_left(answer)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert failed


@pytest.mark.parametrize(
    ("kind", "number"),
    [("kernel", errno.ENOMEM), ("disk", errno.ENOSPC), ("lost", 0), ("signal", 0)],
)
@each_change
def test_failing_at_each_step(lab: Lab, change: Change, kind: str, number: int) -> None:
    """Either it succeeds in spite of it, or the chain is the one there was; nothing is left over."""
    way = WAYS["clsact"]
    answers: list[Answer] = []
    failed = 0
    seen: Names = ()
    for at in range(LIMIT):
        if seen != change.before:
            start(lab, way, *change.before)
        before = hook(lab, way)
        answer = change.act(lab, way, Fault(kind=kind, at=at, errno=number))
        assert "Traceback" not in str(answer["error"]), answer["message"]
        # An interrupt may come between opening and owning: then the process ends, and closes it.
        assert answer["leaked"] == [] or kind == "signal"
        seen = names(lab, way)
        if answer["error"] is None:
            assert seen == change.after
        else:
            failed += 1
            # A signal that came after the last step changes nothing any more.
            assert seen == change.before or (kind == "signal" and seen == change.after), answer
            if seen == change.before and kind != "signal":
                now = hook(lab, way)
                assert now is not None
                assert before is not None
                assert now.program.id == before.program.id or kind == "lost"
        if kind == "disk":
            # What could not be removed then is removed by the next command.
            api.detach("v0", member="nobody", missing_ok=True, netns=lab.namespace)
        lab.assert_consistent()
        # Where nothing has changed, the next step meets what this one has left.
        if seen != change.before:
            api.detach("v0", everything=True, netns=lab.namespace)
            lab.assert_nothing_left()
        answers.append(answer)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert failed
    lab.assert_nothing_left(*answers)


def test_failing_beside_links_of_others(lab: Lab) -> None:
    """A pin that cannot be looked at now keeps nothing else from being cleared away."""
    way, other, change = WAYS["clsact"], WAYS["tcx"], CHANGES["down-to-one"]
    lab.put(other.hook, "v2", other.source("more"), **other.options)
    before = {path.name for path in lab.pins()}
    failed = 0
    for at in range(LIMIT):
        if names(lab, way) != change.before:
            start(lab, way, *change.before)
        answer = change.act(lab, way, Fault(kind="kernel", at=at, errno=errno.ENOMEM))
        failed += bool(answer["error"])
        assert names(lab, way) == (change.before if answer["error"] else change.after)
        lab.assert_consistent()
        assert {path.name for path in lab.pins()} == before
        if names(lab, way) != change.before:
            api.detach("v0", everything=True, netns=lab.namespace)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert failed
    api.detach("v2", netns=lab.namespace)
    lab.assert_nothing_left()


@each_way
def test_sixteen_join_at_once(lab: Lab, way: Way) -> None:
    """All get in, in the order of their priorities."""

    def join(index: int) -> None:
        api.attach(
            way.hook, "v0", way.source("globals"), name=f"m{index}", priority=1000 - index,
            netns=lab.namespace, **way.options,
        ).close()  # fmt: skip

    assert at_once(16, join) == [(0, "")] * 16
    assert names(lab, way) == tuple(f"m{index}" for index in reversed(range(16)))
    lab.assert_consistent()

    def leave(index: int) -> None:
        api.detach("v0", member=f"m{index}", netns=lab.namespace)

    assert at_once(16, leave) == [(0, "")] * 16
    lab.assert_nothing_left()


@each_way
def test_records_are_lost(lab: Lab, way: Way) -> None:
    """The chain says itself what it runs; the objects can be had from where they came from."""
    start(lab, way, "count", "globals", "more")
    before = hook(lab, way)
    assert before is not None
    shutil.rmtree(lab.state / "hooks")
    shutil.rmtree(lab.state / "objects")
    after = hook(lab, way)
    assert after is not None
    assert (after.managed, after.members, after.counters) == (
        True,
        before.members,
        before.counters,
    )
    done = lab.cli("status")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("count", "globals", "more"):
        assert name in done.stdout
    # What was given by its name has not gone with /run/netbpf.
    done = lab.cli("detach", "v0", "count")
    assert done.returncode != 0
    assert "the object of member" in done.stderr
    assert names(lab, way) == ("count", "globals", "more")
    done = lab.cli("detach", "v0", "--all")
    assert done.returncode == 0, done.stderr
    assert hook(lab, way) is None


def test_the_object_has_changed_on_disk(lab: Lab) -> None:
    """Changes of the chain use what was attached, not what lies there now."""
    way = WAYS["xdp"]
    path = lab.state.parent / "mine.o"
    path.write_bytes(builtin("xdp_globals").read_bytes())
    start(lab, way, "count")
    api.attach(way.hook, "v0", path, name="mine", netns=lab.namespace).close()
    path.write_bytes(b"no object any more")
    api.set_member("v0", "mine", priority=1, netns=lab.namespace)
    path.unlink()
    api.detach("v0", member="count", netns=lab.namespace)
    assert names(lab, way) == ("mine",)
    assert api.get("v0", "packets", netns=lab.namespace) == 0
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()


def test_objects_are_had_from_their_files_where_the_copies_are_gone(lab: Lab) -> None:
    way = WAYS["xdp"]
    for name in ("globals", "count"):
        api.attach(
            way.hook, "v0", builtin(f"xdp_{name}"), name=name, netns=lab.namespace, **way.options
        ).close()
    shutil.rmtree(lab.state / "objects")
    api.set_member("v0", "globals", priority=99, netns=lab.namespace)
    assert names(lab, way) == ("count", "globals")


def test_the_interface_vanishes(lab: Lab) -> None:
    way = WAYS["xdp"]
    start(lab, way, "count", "globals")
    one = hook(lab, way)
    assert one is not None
    lab.ip("link del v0")
    (gone,) = api.detach("v0", netns=lab.namespace)
    assert gone.gone == "interface v0 is gone"
    assert gone.program == "count, globals"
    with pytest.raises(InterfaceNotFoundError):
        api.set_member("v0", "count", priority=1, netns=lab.namespace)
    lab.assert_nothing_left()


def test_two_change_the_same_member(lab: Lab) -> None:
    """One after the other: nothing is mixed."""
    way = WAYS["xdp"]
    start(lab, way, "count", "globals")

    def change(index: int) -> None:
        if index % 2:
            api.set_member("v0", "count", priority=index, netns=lab.namespace)
        else:
            api.set_member("v0", "count", proceed_on=["pass", "tx"], netns=lab.namespace)

    assert at_once(8, change) == [(0, "")] * 8
    one = hook(lab, way)
    assert one is not None
    member = next(each for each in one.members if each.name == "count")
    assert member.priority in (1, 3, 5, 7)
    assert member.proceed_on == ("pass", "tx")


def test_adding_against_taking_out(lab: Lab) -> None:
    way = WAYS["xdp"]
    start(lab, way, "count", "globals")

    def loop(index: int) -> None:
        for _ in range(6):
            if index % 2:
                api.attach(
                    way.hook, "v0", way.source("more"), name=f"d{index}", netns=lab.namespace
                ).close()
                api.detach("v0", member=f"d{index}", netns=lab.namespace)
            else:
                with pytest.raises(NotAttachedError):
                    api.detach("v0", member="nobody", netns=lab.namespace)

    assert at_once(4, loop) == [(0, "")] * 4
    assert names(lab, way) == ("count", "globals")
    lab.assert_consistent()
