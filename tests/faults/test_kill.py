"""kill -9 directly after every single change that an operation makes.

The hook then has the old program or the new one, status says which, the next operation works, and once detached
nothing remains.
"""

import pytest

from tests.faults.driver import Fault
from tests.faults.lab import Lab
from tests.faults.ways import LIMIT, Way, detach_all, each_way


def killed(at: int) -> Fault:
    return Fault(kind="kill", at=at)


@each_way
def test_attach(lab: Lab, way: Way) -> None:
    ends = []
    for at in range(LIMIT):
        first = way.attach(lab, way.first, fault=killed(at))
        there = lab.status()
        seen = way.objects(lab, there)
        assert set(seen) <= {None, way.first}
        if not first["hit"]:
            assert first["error"] is None
            assert set(seen) == {way.first}
            lab.assert_consistent(there)
            detach_all(lab)
            lab.assert_nothing_left(first)
            break
        assert first["signal"] == 9, first
        ends.append(seen[0])
        # The next attach works where nothing is, and says who is there otherwise.
        again = way.attach(lab, way.first)
        if way.first in seen:
            assert again["exit_code"] == 7, again
            assert "managed by netbpf" in again["message"]
            assert way.objects(lab) == seen
            again = way.attach(lab, way.second, replace=True)
            assert again["error"] is None, again
            there = lab.status()
            assert set(way.objects(lab, there)) == {way.second}
        else:
            assert again["error"] is None, again
            there = lab.status()
            assert way.objects(lab, there) == [way.first] * len(seen)
        lab.assert_consistent(there)
        detach_all(lab)
        lab.assert_nothing_left(first, again)
    else:
        pytest.fail("it never came to its end")
    assert {None, way.first} == set(ends), "no step was killed before, or none after the attach"


@each_way
def test_attach_then_detach(lab: Lab, way: Way) -> None:
    """The same, but the next thing is the detach."""
    for at in range(LIMIT):
        first = way.attach(lab, way.first, fault=killed(at))
        detach_all(lab)
        lab.assert_nothing_left(first)
        if not first["hit"]:
            return
    pytest.fail("it never came to its end")


@each_way
def test_replace(lab: Lab, way: Way) -> None:
    ends = []
    for at in range(LIMIT):
        way.put(lab, way.first)
        second = way.attach(lab, way.second, replace=True, fault=killed(at))
        seen = way.objects(lab)
        assert set(seen) <= {way.first, way.second}, "there was a gap"
        if not second["hit"]:
            assert set(seen) == {way.second}
        ends.append(seen[0])
        if at % 2:
            third = way.attach(lab, way.second, replace=True)
            assert third["error"] is None, third
            there = lab.status()
            assert set(way.objects(lab, there)) == {way.second}
            lab.assert_consistent(there)
        detach_all(lab)
        lab.assert_nothing_left(second)
        if not second["hit"]:
            break
    else:
        pytest.fail("it never came to its end")
    assert set(ends) == {way.first, way.second}


@each_way
def test_detach(lab: Lab, way: Way) -> None:
    ends = []
    for at in range(LIMIT):
        way.put(lab, way.first)
        second = lab.detach(everything=True, fault=killed(at))
        seen = way.objects(lab)
        assert set(seen) <= {None, way.first}
        ends.append(seen[0])
        if at % 2 and not any(seen):
            third = way.attach(lab, way.second)
            assert third["error"] is None, third
            lab.assert_consistent()
        detach_all(lab)
        lab.assert_nothing_left()
        if not second["hit"]:
            assert not any(seen)
            break
    else:
        pytest.fail("it never came to its end")
    assert set(ends) == {None, way.first}
