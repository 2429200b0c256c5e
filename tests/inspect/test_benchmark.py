"""``make bench``'s lines of looking inside are made, small."""

import pytest

from benchmarks import inspect


@pytest.mark.serial
def test_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "ENTRIES", 2000)
    monkeypatch.setattr(inspect, "FLOWS", 300)
    monkeypatch.setattr(inspect, "PROGRAMS", 5)
    monkeypatch.setattr(inspect, "LARGE", (2, 3))
    aims = []

    def add(line: str, aim: str, met: bool) -> str:
        aims.append((line, aim))
        return f"aim {aim}"

    names = ["map dump", "map dump of structs", "prog list", "inspect", "vmlinux.h"]
    text, found = inspect.measure(1, add)
    assert [one["name"] for one in found] == names
    assert all(who["seconds"][0] > 0 for one in found for who in one["contestants"])
    assert [line for line, _ in aims] == names
    assert "aim >= 5 x bpftool" in text
