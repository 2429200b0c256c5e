"""``make bench``'s lines of captures are made, with every contestant, on few packets."""

import pytest

from benchmarks import capture
from tests.cli.lab import Lab


def test_a_round(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it arrives, and the aims are judged."""
    monkeypatch.setattr(capture, "PACKETS", 500)
    monkeypatch.setattr(capture, "REPEAT", 100)
    aims = []

    def add(line: str, aim: str, met: bool) -> str:
        aims.append((line, aim, met))
        return f"aim {aim}"

    text, (found,) = lab.namespace.run(capture.measure, 1, add)
    who = [one["who"] for one in found["contestants"]]
    assert who == ["xdp_count", "a chain of five", "netbpf capture -w", "tcpdump -w"]
    assert found["contestants"][2]["written"] == [500]
    assert len(aims) == 3
    assert all(one in text for one in who)
