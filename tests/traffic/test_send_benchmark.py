"""``make bench``'s line of sending is made, with every contestant, on few packets."""

import pytest

from benchmarks import send
from tests.cli.lab import Lab


def test_a_round(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "XDP_PACKETS", 20_000)
    monkeypatch.setattr(send, "CAPTURED", 2000)
    aims = []

    def add(line: str, aim: str, met: bool) -> str:
        aims.append((line, aim, met))
        return f"aim {aim}"

    text, (found,) = lab.namespace.run(send.measure, 1, add)
    who = [one["who"] for one in found["contestants"]]
    assert who == [
        "xdp-trafficgen udp", "netbpf send --xdp", "netbpf send --xdp --sequence", "C loop, capture",
        "netbpf send, capture", "netbpf send, one packet",
    ]  # fmt: skip
    assert all(len(one["seconds"]) == 1 and one["seconds"][0] > 0 for one in found["contestants"])
    assert len(aims) == 2
    assert all(one in text for one in who)
