"""The forms in which maps hold histograms, and the numbers that their slots stand for."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from netbpf.errors import NotSupportedError
from netbpf.listen.histogram import Scale, bar, histograms
from netbpf.live.reader import OpenMap


def holding(entries: dict[Any, Any], size: int = 8) -> OpenMap:
    """A map whose keys and values decode to these."""
    keys, values = list(entries), list(entries.values())
    raw = [(bytes([index]), bytes([index]).ljust(size, b"\0")) for index in range(len(keys))]
    made = SimpleNamespace(
        name="made", info=SimpleNamespace(id=7, max_entries=64),
        map=SimpleNamespace(entries=lambda: iter(raw)),
        key=lambda data: dict(keys[data[0]]) if isinstance(keys[data[0]], tuple) else keys[data[0]],
        total=lambda data: values[data[0]],
    )  # fmt: skip
    return cast("OpenMap", made)


@pytest.mark.parametrize(
    ("scale", "ranges"),
    [
        ("linear", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("log2", [(0, 1), (2, 3), (4, 7), (8, 15)]),
        # Slot 0 of bpf_log2l() is never used.
        ("bcc", [(0, 0), (0, 1), (2, 3), (4, 7)]),
        (None, [(0, 0), (0, 1), (2, 3), (4, 7)]),
    ],
)
def test_what_slots_stand_for(scale: Scale | None, ranges: list[tuple[int, int]]) -> None:
    [found] = histograms(holding({0: 1, 1: 0, 2: 0, 3: 5}), scale)
    assert [(one.low, one.high) for one in found.slots] == ranges
    assert [one.count for one in found.slots] == [1, 0, 0, 5]
    assert (found.total, found.key) == (6, None)


def test_many_slots_are_linear() -> None:
    [found] = histograms(holding({70: 2, 71: 1}))
    assert (found.scale, found.slots[0].low) == ("linear", 70)


def test_a_histogram_for_each_of_the_other_members() -> None:
    keys = {
        (("cpu", 0), ("slot", 3)): 1,
        (("cpu", 1), ("slot", 2)): 4,
        (("cpu", 0), ("slot", 4)): 2,
    }
    first, second = histograms(holding(keys))
    assert (first.key, [one.count for one in first.slots]) == ({"cpu": 0}, [1, 2])
    assert (second.key, [one.count for one in second.slots]) == ({"cpu": 1}, [4])


def test_arrays_in_values() -> None:
    entries = {10: {"sum": 9, "slots": [0, 3, 1]}, 11: {"sum": 0, "slots": [0, 0, 0]}}
    [found] = histograms(holding(entries))
    assert (found.key, found.scale) == (10, "log2")
    assert [(one.low, one.high, one.count) for one in found.slots] == [(2, 3, 3), (4, 7, 1)]


@pytest.mark.parametrize(
    "entries", [{"10.0.0.1": {"a": 1}}, {1 << 20: 1}, {1: {"a": [1], "b": [2]}}]
)
def test_what_is_no_histogram_is_not_drawn(entries: dict[Any, Any]) -> None:
    with pytest.raises(NotSupportedError, match=r"map made is no histogram"):
        histograms(holding(entries))


def test_a_bar_is_never_nothing_for_something() -> None:
    assert (bar(0, 10, 40), bar(1, 1000, 40), bar(10, 10, 40)) == ("", "*", "*" * 40)
