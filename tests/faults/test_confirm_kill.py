"""kill -9 at every step of a change that has to be confirmed, of the confirmation and of going back.

The hook then has what was there before or what came, never a mixture; either the change waits, or it has gone back.
"""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netbpf.model import Occupant
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from tests.faults.confirming import LONG, forget_words, settled, watchers
from tests.faults.driver import Answer, Fault
from tests.faults.lab import Lab
from tests.faults.ways import LIMIT, WAYS, Way, detach_all

Change = Callable[[Lab, Way, Fault | None], Answer]


@pytest.fixture(autouse=True)
def no_watcher_outlives_its_test(state: Path) -> Iterator[None]:
    """Also of a test that fails."""
    yield
    for pid in watchers(state):
        os.kill(pid, signal.SIGKILL)


def killed(at: int) -> Fault:
    return Fault(kind="kill", at=at)


def attach(lab: Lab, way: Way, fault: Fault | None = None) -> Answer:
    return way.attach(lab, way.first, confirm=LONG, fault=fault)


def add(lab: Lab, way: Way, fault: Fault | None = None) -> Answer:
    return way.attach(lab, way.second, confirm=LONG, fault=fault)


def swap(lab: Lab, way: Way, fault: Fault | None = None) -> Answer:
    return way.attach(lab, way.second, replace=True, confirm=LONG, fault=fault)


def detach(lab: Lab, way: Way, fault: Fault | None = None) -> Answer:
    return lab.detach(everything=True, confirm=LONG, fault=fault)


CASES = [
    *((attach, name, False) for name in ("xdp-link", "several", "egress")),
    *((detach, name, True) for name in ("several", "clsact", "tcx")),
    *((add, name, True) for name in ("xdp-native", "clsact")),
    *((swap, name, True) for name in ("xdp-link",)),
]
each_change = pytest.mark.parametrize(
    ("change", "way", "before"),
    [(change, WAYS[name], before) for change, name, before in CASES],
    ids=[f"{change.__name__}-{name}" for change, name, _ in CASES],
)


def there(lab: Lab) -> list[tuple[Occupant, int]]:
    """What is on every hook, without what the kernel numbers anew for a new link; its program."""
    with Session(lab.namespace) as session:
        return [(replace(one, link_id=0), bool(one.link_id)) for one in occupants(session)]


@each_change
def test_the_change(lab: Lab, change: Change, way: Way, before: bool) -> None:
    ends = set()
    for at in range(LIMIT):
        answers = [way.attach(lab, way.first)] if before else []
        old = there(lab)
        answers.append(change(lab, way, killed(at)))
        waiting = settled(lab.state)
        if waiting:
            assert there(lab) != old
            undone = lab.ask("confirm", undo=True)
            assert undone["error"] is None, undone
        ends.add(bool(waiting))
        assert there(lab) == old, at
        assert not watchers(lab.state)
        # The next operation works.
        if not before:
            assert way.attach(lab, way.first)["error"] is None
            lab.assert_consistent()
        detach_all(lab)
        forget_words(lab)
        lab.assert_nothing_left(*answers)
        if not answers[-1]["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert ends == {True, False}


@pytest.mark.parametrize("undo", [False, True], ids=["keep", "undo"])
@pytest.mark.parametrize("way", [WAYS["several"], WAYS["clsact"]], ids=["several", "clsact"])
def test_the_confirmation(lab: Lab, way: Way, undo: bool) -> None:
    kept = set()
    for at in range(LIMIT):
        first = attach(lab, way)
        new = there(lab)
        answer = lab.ask("confirm", undo=undo, fault=killed(at))
        left = settled(lab.state)
        assert there(lab) in ((new, []) if undo else (new,))
        # Once more: it is as it was asked for, or it says that it is.
        again = lab.ask("confirm", undo=undo)
        assert again["error"] in ((None,) if left else ("NotAttachedError", "HookBusyError")), again
        assert there(lab) == ([] if undo else new)
        assert not watchers(lab.state)
        kept.add(bool(left))
        detach_all(lab)
        forget_words(lab)
        lab.assert_nothing_left(first)
        if not answer["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert kept == {True, False}


@pytest.mark.parametrize("name", ["xdp-native", "several", "tcx"])
def test_no_room_at_any_step(lab: Lab, name: str) -> None:
    """Where anything cannot be written, nothing is changed, and nobody waits for a confirmation."""
    way = WAYS[name]
    for at in range(LIMIT):
        answer = way.attach(lab, way.first, confirm=LONG, fault=Fault(kind="disk", at=at, errno=28))
        if not answer["hit"]:
            break
        waiting = settled(lab.state)
        if answer["error"] is None:  # what cannot be removed is swept later
            assert waiting
            assert lab.ask("confirm", undo=True)["error"] is None
        else:
            assert waiting == []
        assert there(lab) == []
        detach_all(lab)
        forget_words(lab)
        lab.assert_nothing_left(answer)
    else:
        pytest.fail("it never came to its end")
    assert lab.ask("confirm", undo=True)["error"] is None
    assert there(lab) == []
