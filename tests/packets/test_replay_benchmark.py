"""``make bench``'s line of replays is made, with every contestant, on a small capture."""

import pytest

from benchmarks import replay


def test_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PACKETS", 3000)
    monkeypatch.setattr(replay, "READ_BY_SCAPY", 50)
    monkeypatch.setattr(replay, "RUN_BY_BPFTOOL", 1)
    aims = []

    def add(line: str, aim: str, met: bool) -> str:
        aims.append((line, aim, met))
        return f"aim {aim}"

    text, (found,) = replay.measure(1, add)
    who = [one["who"] for one in found["contestants"]]
    assert who == ["C loop", "netbpf", "netbpf, whole command", "netbpf -w", "scapy", "bpftool"]
    assert all(len(one["seconds"]) == 1 and one["seconds"][0] > 0 for one in found["contestants"])
    assert [aim for _, aim, _ in aims] == [">= 0.7 x the C loop"]
    assert all(one in text for one in who)
