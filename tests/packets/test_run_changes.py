"""What one packet moved in variables and maps: everything, and nothing else."""

from netbpf.constants import Hook
from netbpf.packets.changes import Changes, EntryChange, Snapshot, VariableChange, parts
from netbpf.packets.testrun import Bench
from tests.packets.run_sources import MAPS, XDP, built

FRAME = bytes(12) + b"\x88\xb5" + bytes(46)


def after_one(bench: Bench) -> Changes:
    before = Snapshot(bench.maps(), bench.hook)
    bench.run(FRAME)
    return before.changes()


def test_the_first_packet_adds_and_the_second_changes() -> None:
    with Bench.open(built(MAPS)) as bench:
        first, second = after_one(bench), after_one(bench)
    assert {
        (one.name, one.before, one.after) for one in first.variables if one.name == "total"
    } == {("total", 0, 1)}
    assert [one for one in first.variables if one.name == "table"] == [
        VariableChange("table", ".data", "s32[3]", [1, 2, 3], [1, 20, 3])
    ]
    assert [one.name for one in second.variables] == ["total"]
    assert {one.map: (one.kind, one.key, one.before, one.after) for one in first.entries} == {
        "flows": ("added", 3, None, {"packets": 1, "bytes": 60}),
        "ports": ("added", 53, None, 1),
        "hits": ("changed", 1, 0, 1),
        "slots": ("changed", 999, 0, 3),
    }
    assert {one.map: (one.kind, one.key, one.before, one.after) for one in second.entries} == {
        "flows": ("changed", 3, {"packets": 1, "bytes": 60}, {"packets": 2, "bytes": 120}),
        "ports": ("removed", 53, 1, None),
        "hits": ("changed", 1, 1, 2),
    }


def test_what_cannot_be_looked_into_is_named() -> None:
    with Bench.open(built(MAPS)) as bench:
        assert after_one(bench).unseen == ("events",)


def test_nothing_moved_is_nothing() -> None:
    with Bench.open(built(MAPS)) as bench:
        before = Snapshot(bench.maps(), bench.hook)
        changes = before.changes()
    assert not changes
    assert (changes.variables, changes.entries) == ((), ())


def test_without_types_bytes_are_compared() -> None:
    with Bench.open(built(XDP, debug=False)) as bench:
        [change] = after_one(bench).variables
    assert (change.name, change.type) == ("object.bss", "u8[28]")
    assert change.before != change.after


def test_verdicts_and_protocols_have_names() -> None:
    with Bench.open("builtin:xdp_count") as bench:
        labels = {(one.map, one.label) for one in after_one(bench).entries}
    assert labels == {("netbpf_verdicts", "pass"), ("netbpf_protos", "other")}
    with Bench.open("builtin:tc_count", hook=Hook.TC_EGRESS) as bench:
        assert ("netbpf_verdicts", "unspec") in {
            (one.map, one.label) for one in after_one(bench).entries
        }


def test_parts_go_to_the_innermost_difference() -> None:
    assert list(parts({"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]})) == [("b[1]", 2, 3)]
    assert list(parts({"a": {"b": 1}}, {"a": {"b": 2}})) == [("a.b", 1, 2)]
    assert list(parts(1, 1)) == []
    assert list(parts(1, "x")) == [("", 1, "x")]
    assert list(parts([1], [1, 2])) == [("", [1], [1, 2])]


def test_kinds() -> None:
    assert EntryChange("m", "hash", 1, None, 2, "1").kind == "added"
    assert EntryChange("m", "hash", 1, 2, None, "1").kind == "removed"
    assert EntryChange("m", "hash", 1, 2, 3, "1").kind == "changed"
