"""Strict counter checks: what was expected moves, and nothing else does."""

from collections.abc import Callable
from typing import Any

import pytest

from netns_fixtures.counters import Changes, flatten
from netns_fixtures.errors import ExpectationError


class Machine:
    """Something that counts."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {
            "packets": 5, "drops": [1, 2], "by": {"tcp": {"packets": 7}}, "last": "none", "on": False,
        }  # fmt: skip
        self.reads = 0

    def read(self) -> dict[str, Any]:
        self.reads += 1
        state: dict[str, Any] = {}
        flatten("", self.state, state)
        return state


@pytest.fixture
def machine() -> Machine:
    return Machine()


def check(machine: Machine, act: Callable[[], object], **expected: object) -> None:
    with Changes(machine.read, expected, within=0.0):
        act()


def test_nothing_moves(machine: Machine) -> None:
    check(machine, lambda: None)


def test_what_moves_as_expected_passes(machine: Machine) -> None:
    def act() -> None:
        machine.state |= {"packets": 8, "drops": [1, 1], "last": "tcp", "on": True, "new": 2}
        machine.state["by"]["tcp"]["packets"] += 1

    check(
        machine,
        act,
        packets=3,
        drops=[0, -1],
        by={"tcp": {"packets": 1}},
        last="tcp",
        on=True,
        new=2,
    )


@pytest.mark.parametrize(
    ("change", "expected", "line"),
    [
        ({"packets": 6}, {}, r"packets  5 -> 6 \(\+1\), expected \+0"),
        ({"packets": 6}, {"packets": 2}, r"packets  5 -> 6 \(\+1\), expected \+2"),
        ({}, {"packets": 1}, r"packets  5 -> 5 \(\+0\), expected \+1"),
        ({"drops": [1, 3]}, {}, r"drops\[1\]  2 -> 3"),
        ({"drops": [1]}, {}, r"drops\[1\]  2 -> 0 \(-2\)"),
        ({"new": 1}, {}, r"new  0 -> 1 \(\+1\), expected \+0"),
        ({"last": "udp"}, {}, "last  'none' -> 'udp', expected no change"),
        ({}, {"last": "udp"}, "last  'none' -> 'none', expected 'udp'"),
        ({"on": True}, {}, "on  False -> True"),
        ({"packets": "many"}, {}, "packets  5 -> 'many'"),
        ({}, {"packest": 1}, "(?s)packest .*there is no such counter; there are packets"),
    ],
)
def test_every_deviation_is_reported(
    machine: Machine, change: dict[str, object], expected: dict[str, object], line: str
) -> None:
    with pytest.raises(ExpectationError, match=line):
        check(machine, lambda: machine.state.update(change), **expected)


def test_ignored_counters_do_as_they_like(machine: Machine) -> None:
    with Changes(machine.read, {}, ignore=["packets"], within=0.0):
        machine.state["packets"] = 99


def test_counters_may_come_a_little_later(machine: Machine) -> None:
    def read() -> dict[str, Any]:
        if machine.reads == 3:
            machine.state["packets"] = 6
        return machine.read()

    with Changes(read, {"packets": 1}, within=30.0):
        pass
    assert machine.reads == 4


def test_an_exception_inside_is_not_hidden(machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), Changes(machine.read, {"packets": 1}):
        raise ZeroDivisionError


def test_both_snapshots_are_there_afterwards(machine: Machine) -> None:
    with Changes(machine.read, {"packets": 1}) as changes:
        machine.state["packets"] += 1
    assert (changes.before["packets"], changes.after["packets"]) == (5, 6)
