"""Every single step of an operation fails: what was done is undone, the hook is as it was, one error tells why."""

import errno
from collections.abc import Iterator

import pytest

from netbpf import Attachment
from tests.faults.driver import Answer, Fault
from tests.faults.lab import Lab
from tests.faults.ways import LIMIT, Way, detach_all, each_way

FAULTS = {
    "no-memory": Fault(kind="kernel", errno=errno.ENOMEM),
    "forbidden": Fault(kind="kernel", errno=errno.EPERM),
    "lost-answer": Fault(kind="lost"),
    "disk-full": Fault(kind="disk", errno=errno.ENOSPC),
    "ctrl-c": Fault(kind="signal"),
}
each_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)


def steps(fault: Fault) -> Iterator[Fault]:
    for at in range(LIMIT):
        yield {**fault, "at": at}
    pytest.fail("it never came to its end")


def assert_clear(answer: Answer) -> None:
    """No traceback, nothing open, and one line that says what went wrong."""
    assert answer["error"] != "Traceback", answer["message"]
    assert answer["signal"] == 0
    # Ctrl-C in the very moment between a system call and its result can cost a descriptor: while loading, and of the
    # lock. Once the lock is held, it waits.
    loading = ("anon_inode:btf", "anon_inode:bpf-map", "anon_inode:bpf-prog", "/state/lock")
    interrupted = answer["error"] == "KeyboardInterrupt"
    assert [one for one in answer["leaked"] if not (interrupted and one.endswith(loading))] == []
    if answer["error"] not in (None, "KeyboardInterrupt"):
        assert answer["message"]
        assert "\n" not in answer["message"]
        assert "not everything could be undone" not in answer["message"]


def programs(seen: list[Attachment]) -> list[int]:
    return [one.program.id for one in seen]


@each_fault
@each_way
def test_attach(lab: Lab, way: Way, fault: Fault) -> None:
    failed = 0
    for one in steps(fault):
        answer = way.attach(lab, way.first, fault=one)
        assert_clear(answer)
        seen = lab.status()
        if answer["error"] is None:
            # Not every failure matters: a question can be asked in another way, a file be removed later.
            assert set(way.objects(lab, seen)) == {way.first}
            detach_all(lab)
            lab.assert_nothing_left(answer)
        else:
            failed += 1
            assert set(way.objects(lab, seen)) == {None}
            lab.assert_nothing_left(answer, seen=seen)
        if not answer["hit"]:
            break
    assert failed or fault["kind"] == "lost"  # links are not made over netlink


@each_fault
@each_way
def test_replace(lab: Lab, way: Way, fault: Fault) -> None:
    failed = 0
    way.put(lab, way.first)
    before = programs(lab.status())
    for one in steps(fault):
        answer = way.attach(lab, way.second, replace=True, fault=one)
        assert_clear(answer)
        seen = lab.status()
        objects = set(way.objects(lab, seen))
        # Ctrl-C can come when all is done.
        late = answer["error"] == "KeyboardInterrupt" and objects == {way.second}
        if answer["error"] is None or late:
            assert objects == {way.second}
            if answer["hit"]:
                way.put(lab, way.first, replace=True)
                seen = lab.status()
                before = programs(seen)
        else:
            failed += 1
            assert programs(seen) == before
            assert objects == {way.first}
        lab.assert_consistent(seen)
        if not answer["hit"]:
            break
    assert failed or fault["kind"] == "lost"
    detach_all(lab)
    lab.assert_nothing_left()


@each_fault
@each_way
def test_detach(lab: Lab, way: Way, fault: Fault) -> None:
    seen: list[str | None] = [None]
    for one in steps(fault):
        if not all(seen):
            detach_all(lab)
            way.put(lab, way.first)
        answer = lab.detach(everything=True, fault=one)
        assert_clear(answer)
        seen = way.objects(lab)
        assert set(seen) <= {None, way.first}
        if answer["error"] is None:
            assert not any(seen)
        if not answer["hit"]:
            break
    detach_all(lab)
    lab.assert_nothing_left()
