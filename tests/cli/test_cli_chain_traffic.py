"""Chains on real interfaces: order, verdicts, and counts that stay exact whatever is done to the chain."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures.capture import Capture
from netns_fixtures.topology import End
from tests.cli.lab import Lab, frame

WEIGHTS = {"acl": 1, "nat": 1_000, "count": 1_000_000}
PORT = 4000
PACE = 0.002  # seconds between the bursts of one sender


@dataclass(frozen=True)
class Way:
    """A way onto a hook: what its commands need, and where packets come from."""

    kind: str
    options: tuple[str, ...] = ()
    direction: tuple[str, ...] = ()

    @property
    def egress(self) -> bool:
        return bool(self.direction)

    @property
    def drop(self) -> str:
        return "drop" if self.kind == "xdp" else "shot"

    @property
    def go_on(self) -> str:
        return "pass" if self.kind == "xdp" else "pipe"

    def source(self, lab: Lab) -> End:
        return lab.wire.dut if self.egress else lab.wire.peer

    def arrived(self, lab: Lab) -> Capture:
        """What gets through the hook."""
        if self.egress:
            return lab.wire.peer.capture("wire")
        return lab.wire.dut.capture("wire" if self.kind == "xdp" else "stack")


WAYS = {
    "xdp-native": Way("xdp"),
    "xdp-skb": Way("xdp", ("--mode", "skb")),
    "xdp-link": Way("xdp", ("--link",)),
    "clsact": Way("tc"),
    "egress": Way("tc", direction=("--egress",)),
    "tcx": Way("tc", ("--link",)),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def member(lab: Lab, name: str, stop: int = 1, **defines: object) -> Path:
    """The object of a member that stops packets to one port, with a weight of its own."""
    values = {"WEIGHT": WEIGHTS.get(name, 7), "STOP": stop, **defines}
    head = "".join(f"#define {key} {value}\n" for key, value in values.items())
    source = (Path(__file__).parent / "objects" / "member.bpf.c").read_text()
    return lab.compiled(head + source, name)


def attach(lab: Lab, way: Way, name: str, *options: object, stop: int = 1) -> None:
    lab(
        "attach",
        way.kind,
        "dut0",
        member(lab, name, stop),
        "--name",
        name,
        *way.direction,
        *options,
    )


def send(lab: Lab, way: Way, number: int, port: int = PORT) -> None:
    end = way.source(lab)
    end.send([frame(end, port, mark=index) for index in range(number)], may_drop=way.egress)


def chain(lab: Lab) -> dict[str, dict[str, Any]]:
    """The members of the one hook there is, by name."""
    [hook] = lab("chain", "dut0", "--json").json["hooks"]
    return {one["name"]: one for one in hook["members"]}


def verdicts(lab: Lab) -> dict[str, dict[str, int]]:
    return {name: one["verdicts"] for name, one in chain(lab).items()}


@each_way
def test_members_run_in_order_and_are_counted(lab: Lab, way: Way) -> None:
    """Each stops one port; what comes after it never sees those packets."""
    attach(lab, way, "count", "--priority", "90", *way.options)
    attach(lab, way, "acl", "--priority", "10", stop=1111)
    attach(lab, way, "nat", stop=2222)
    assert list(chain(lab)) == ["acl", "nat", "count"]
    with way.arrived(lab) as arrived:
        send(lab, way, 3, 1111)
        send(lab, way, 5, 2222)
        send(lab, way, 7)
        arrived.expect([frame(way.source(lab), PORT, mark=index) for index in range(7)])
        assert verdicts(lab) == {
            "acl": {way.go_on: 12, way.drop: 3},
            "nat": {way.go_on: 7, way.drop: 5},
            "count": {way.go_on: 7},
        }
        assert [one["packets"] for one in chain(lab).values()] == [15, 12, 7]
        # Each by its own weight: no member counts in another's variable.
        weighed = [lab.get("dut0", f"{name}.seen") for name in ("acl", "nat", "count")]
        assert weighed == [15, 12_000, 7_000_000]
        arrived.expect_none()


@each_way
def test_proceed_on(lab: Lab, way: Way) -> None:
    """A verdict that is in the set hands the packet on; the last member's is its fate."""
    attach(lab, way, "acl", "--proceed-on", f"{way.go_on},{way.drop}", *way.options, stop=1111)
    attach(lab, way, "count")
    with way.arrived(lab) as arrived:
        send(lab, way, 4, 1111)
        arrived.expect([frame(way.source(lab), 1111, mark=index) for index in range(4)])
        assert verdicts(lab) == {"acl": {way.drop: 4}, "count": {way.go_on: 4}}
        # Taken from the set while it runs: they end there from now on.
        lab("chain", "set", way.kind, "dut0", "acl", "--proceed-on", way.go_on, *way.direction)
        send(lab, way, 2, 1111)
        assert verdicts(lab) == {"acl": {way.drop: 6}, "count": {way.go_on: 4}}
        arrived.expect_none()


@contextmanager
def traffic(lab: Lab, way: Way) -> Iterator[list[int]]:
    """Some thousand frames a second, from two sockets at once; at the end the list holds how many there were."""
    counts: list[int] = []
    stop = threading.Event()
    started = threading.Barrier(3)

    def run() -> None:
        number = 0
        while not stop.wait(PACE):
            send(lab, way, 10)
            number += 10
            if number == 10:
                started.wait(10)
        counts.append(number)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for one in threads:
        one.start()
    try:
        started.wait(10)
        yield counts
    finally:
        stop.set()
        for one in threads:
            one.join()


@each_way
def test_every_change_is_one_step(lab: Lab, way: Way) -> None:
    """Under traffic no packet gets by, and a member that stays counts each packet once."""
    attach(lab, way, "acl", "--priority", "10", *way.options)
    attach(lab, way, "last", "--priority", "90", stop=PORT)
    with way.arrived(lab) as arrived:
        with traffic(lab, way) as sent:
            for _ in range(3):
                attach(lab, way, "nat", "--priority", "50")
                assert arrived.packets() == []
                attach(lab, way, "count", "--priority", "95")
                assert arrived.packets() == []
                lab("chain", "set", "dut0", "nat", "--priority", "60")
                lab("chain", "set", "dut0", "count", "--priority", "20")
                assert arrived.packets() == []
                lab("detach", way.kind, "dut0", "count", *way.direction)
                lab("detach", "dut0", "nat")
                assert arrived.packets() == []
        total = sum(sent)
        assert total > 100
        assert verdicts(lab) == {"acl": {way.go_on: total}, "last": {way.drop: total}}
        assert lab.get("dut0", "acl.seen") == total
        assert lab.get("dut0", "last.seen") == 7 * total
        arrived.expect_none()


@each_way
def test_down_to_one_and_to_none(lab: Lab, way: Way) -> None:
    """The last one is the plain program again, and goes on counting in its own maps."""
    attach(lab, way, "acl", *way.options)
    [alone] = lab.hooks()
    send(lab, way, 3)
    attach(lab, way, "count")
    send(lab, way, 3)
    lab("detach", "dut0", "count")
    [left] = lab.hooks()
    for key in ("name", "tag", "type", "map_ids"):
        assert left["program"][key] == alone["program"][key]
    assert left["mode"] == alone["mode"]
    assert left["link_id"] == alone["link_id"]
    send(lab, way, 3)
    assert lab.get("dut0", "seen") == 9
    lab("detach", "dut0", "acl")
    assert lab.hooks() == []


@pytest.mark.parametrize("way", [WAYS["xdp-native"], WAYS["clsact"]], ids=["xdp", "tc"])
def test_sixty_four_members(lab: Lab, way: Way) -> None:
    """Each in its place, each counted, whatever the order they came in."""
    number = 64
    order = [(index * 37) % number for index in range(number)]
    objects = [str(member(lab, f"m{index}", STOP=5000 + index)) for index in range(number)]
    for index in order:
        lab(
            "attach", way.kind, "dut0", objects[index], "--name", f"m{index}", "--priority", 100 + index,
        )  # fmt: skip
    assert list(chain(lab)) == [f"m{index}" for index in range(number)]
    send(lab, way, 2)
    send(lab, way, 3, 5000 + 40)
    found = chain(lab)
    assert [one["packets"] for one in found.values()] == [5] * 41 + [2] * 23
    assert found["m40"]["verdicts"] == {way.go_on: 2, way.drop: 3}
    lab("detach", way.kind, "dut0", "--all")


def test_a_counter_that_another_member_used_starts_at_zero(lab: Lab) -> None:
    way = WAYS["xdp-skb"]
    attach(lab, way, "acl", *way.options)
    attach(lab, way, "nat")
    send(lab, way, 5)
    lab("detach", "dut0", "nat")
    attach(lab, way, "count")
    assert [one["packets"] for one in chain(lab).values()] == [0, 0]
    send(lab, way, 2)
    assert [one["packets"] for one in chain(lab).values()] == [2, 2]
