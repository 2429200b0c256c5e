"""Captures on real hooks: what came, what became of it, and the hook afterwards."""

import time

import pytest

from netbpf import layout
from netbpf.errors import (
    HookBusyError,
    LockTimeoutError,
    NotAttachedError,
    NotSupportedError,
    UsageError,
)
from netbpf.state.lock import locked
from netbpf.tap import session
from tests.cli.lab import Lab, frame
from tests.cli.test_cli_attach_errors import foreign_link
from tests.cli.test_cli_chain_traffic import WAYS, Way, attach, each_way, send, verdicts
from tests.tap.capturing import capture, eventually, program, rest, signs, taken

SLACK = 1_000_000  # ns, by which clocks may be slewed meanwhile
PLACES = {name: WAYS[name] for name in ("xdp-native", "xdp-skb", "clsact", "egress")}


@each_way
def test_a_chain(lab: Lab, way: Way) -> None:
    """What the first drops and what goes through; the members count each packet once; the very program comes back."""
    attach(lab, way, "acl", *way.options, stop=1111)
    attach(lab, way, "count")
    before = program(lab)
    with capture(lab, "udp port 1111 or udp port 4000", way) as packets:
        assert program(lab) != before
        begin = time.time_ns()
        send(lab, way, 3, 1111)
        send(lab, way, 2, 2222)
        send(lab, way, 4)
        found = taken(packets, 7)
        end = time.time_ns()
        source = way.source(lab)
        expected = [(way.drop, "acl", frame(source, 1111, mark=index)) for index in range(3)]
        expected += [(way.go_on, "count", frame(source, 4000, mark=index)) for index in range(4)]
        assert [(one.verdict_name, one.member, one.data) for one in found] == expected
        assert {one.length for one in found} == {100}
        assert {(one.ifindex, one.queue) for one in found} == {(packets.at.interface.index, 0)}
        times = [one.time_ns for one in found]
        assert begin - SLACK < min(times) <= max(times) < end + SLACK
        counts = packets.summary()
    assert (counts.seen, counts.matched, counts.lost) == (9, 7, 0)
    assert counts.verdicts == {way.drop: 3, way.go_on: 4}
    assert program(lab) == before
    send(lab, way, 1, 1111)
    assert verdicts(lab) == {"acl": {way.go_on: 6, way.drop: 4}, "count": {way.go_on: 6}}


@each_way
def test_a_program_alone(lab: Lab, way: Way) -> None:
    """It keeps its maps, its place, and the time it is there since; no counts of a chain appear."""
    attach(lab, way, "acl", *way.options, stop=1111)
    before, since = program(lab), lab.hooks("dut0")[0]["attached_at"]
    with capture(lab, "", way, verdicts=[way.drop]) as packets:
        send(lab, way, 2, 1111)
        send(lab, way, 3)
        assert [one.member for one in taken(packets, 2)] == ["acl", "acl"]
        assert lab.get("dut0", "seen") == 5
        assert lab.hooks("dut0")[0]["attached_at"] == since
        assert rest(packets) == []
    assert program(lab) == before
    assert lab.hooks("dut0")[0]["attached_at"] == since
    send(lab, way, 1)
    assert lab.get("dut0", "seen") == 6
    assert packets.summary().verdicts == {way.drop: 2, way.go_on: 3}


@pytest.mark.parametrize("way", PLACES.values(), ids=PLACES)
def test_an_empty_hook(lab: Lab, way: Way) -> None:
    """Everything passes, and nothing is left afterwards."""
    mode = way.options[1] if way.options else None
    with way.arrived(lab) as arrived, capture(lab, "udp", way, mode=mode) as packets:
        send(lab, way, 2)
        arrived.expect([frame(way.source(lab), mark=index, port=4000) for index in range(2)])
        found = taken(packets, 2)
        assert {one.verdict_name for one in found} == {"pass" if way.kind == "xdp" else "unspec"}
        assert {one.member for one in found} == {""}
    assert lab.hooks("dut0") == []
    assert "clsact" not in lab.run("tc", "qdisc", "show", "dev", "dut0")


@each_way
def test_one_of_five_members(lab: Lab, way: Way) -> None:
    """What came to it, as it came, and what it alone said."""
    for number in range(1, 6):
        attach(lab, way, f"m{number}", *(way.options if number == 1 else ()), stop=number * 1111)
    before = program(lab)
    with capture(lab, "", way, member="m3") as packets:
        for port in (1111, 3333, 5555, 4000):
            send(lab, way, 1, port)
        found = taken(packets, 3)
        assert rest(packets) == []
    assert [(one.verdict_name, one.member) for one in found] == [
        (way.drop, "m3"), (way.go_on, "m3"), (way.go_on, "m3"),
    ]  # fmt: skip
    assert packets.summary().seen == 3
    assert program(lab) == before
    assert list(verdicts(lab).values())[4] == {way.drop: 1, way.go_on: 1}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first first", "last first"])
@pytest.mark.parametrize("members", [0, 1, 2])
def test_two_at_once(lab: Lab, members: int, order: tuple[int, int]) -> None:
    """Each has its own filter, neither notices when the other ends, and the hook is as it was after both."""
    way = WAYS["xdp-native"]
    for name in ("acl", "count")[:members]:
        attach(lab, way, name, stop=1111)
    before = program(lab)
    with capture(lab, "udp port 1111") as first, capture(lab, "udp port 4000") as second:
        send(lab, way, 2, 1111)
        send(lab, way, 3)
        assert {one.verdict_name for one in taken(first, 2)} == {"drop" if members else "pass"}
        assert {one.verdict_name for one in taken(second, 3)} == {"pass"}
        lines = lab("status", "dut0").out
        assert "udp port 1111" in lines
        assert "udp port 4000" in lines
        both = ((first, 1111), (second, 4000))
        early, late = both[order[0]], both[order[1]]
        early[0].close()
        send(lab, way, 1, late[1])
        taken(late[0], 1)
        assert program(lab) != before
        assert len(signs()) == 1
        late[0].close()
        assert program(lab) == before
    assert not signs()


def test_the_hook_comes_first(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end the hook is as it was before what waits is read: under a flood that would never be all.

    Between the two comes a grace period, so that packets that are in the program by then are read too.
    """
    way = WAYS["xdp-native"]
    attach(lab, way, "acl")
    before = program(lab)
    with capture(lab) as packets:
        send(lab, way, 5)
        packets.stop()
        waited: list[tuple[int, bool]] = []
        monkeypatch.setattr(
            session, "grace_period", lambda: waited.append((program(lab), packets.ring.pending > 0))
        )
        batches = packets.batches()
        assert len(next(batches)) == 5
        assert program(lab) == before
        assert waited == [(before, True)]
        send(lab, way, 5)
        assert list(batches) == []


def test_somebody_holds_the_lock_at_the_end(lab: Lab) -> None:
    """It says so, and who watches over it waits: the very program comes back."""
    way = WAYS["xdp-native"]
    attach(lab, way, "acl")
    before = program(lab)
    with capture(lab, lock_timeout=0.05) as packets:
        with locked():
            with pytest.raises(LockTimeoutError):
                rest(packets)
            packets.close()
            assert program(lab) != before
        eventually(lab, before)
    with locked():  # by then the watching process is done with it
        assert not signs()


@pytest.mark.parametrize("member", ["acl", ""], ids=["a-program", "nothing"])
def test_the_records_are_lost(lab: Lab, member: str) -> None:
    """What was there before comes back all the same."""
    way = WAYS["xdp-native"]
    if member:
        attach(lab, way, member)
    before = program(lab)
    with capture(lab) as packets:
        send(lab, way, 1)
        taken(packets, 1)
        for path in layout.records_dir().iterdir():
            path.unlink()
    assert program(lab) == before
    assert not signs()


def test_changes_while_it_runs(lab: Lab) -> None:
    """Members come, go, are upgraded and moved: the capture sees all of it, and what is left runs plainly after it."""
    way = WAYS["xdp-native"]
    with capture(lab, "") as packets:
        send(lab, way, 1)
        attach(lab, way, "acl", stop=1111)
        send(lab, way, 1, 1111)
        attach(lab, way, "count", "--priority", "10")
        send(lab, way, 1)
        lab("chain", "set", "dut0", "count", "--priority", "90")
        lab("detach", "xdp", "dut0", "acl")
        send(lab, way, 1, 1111)
        attach(lab, way, "count", "--replace", stop=1111)
        send(lab, way, 1, 1111)
        lab("detach", "xdp", "dut0")
        send(lab, way, 1, 1111)
        attach(lab, way, "nat", stop=1111)
        send(lab, way, 1, 1111)
        found = taken(packets, 7)
    assert [(one.verdict_name, one.member) for one in found] == [
        ("pass", ""), ("drop", "acl"), ("pass", "acl"), ("pass", "count"), ("drop", "count"),
        ("pass", ""), ("drop", "nat"),
    ]  # fmt: skip
    [hook] = lab.hooks("dut0")
    assert "captures" not in hook
    assert hook["program"]["name"] == "xdp_member"
    assert lab.get("dut0", "seen") == 1000


@pytest.mark.parametrize("decision", [(), ("--undo",)], ids=["confirmed", "undone"])
def test_a_change_is_decided_while_it_runs(lab: Lab, decision: tuple[str, ...]) -> None:
    """It sees what the change did, and what the decision does; then the hook has nothing of it."""
    way = WAYS["xdp-native"]
    attach(lab, way, "acl", stop=1111)
    before = program(lab)
    with capture(lab) as packets:
        attach(lab, way, "count", "--confirm", "1h")
        send(lab, way, 1)
        lab("confirm", *decision)
        send(lab, way, 1)
        assert [one.member for one in taken(packets, 2)] == [
            "count",
            "acl" if decision else "count",
        ]
    [hook] = lab.hooks("dut0")
    assert "captures" not in hook
    assert (program(lab) == before) == bool(decision)
    assert not signs()


def test_its_member_is_taken_out(lab: Lab) -> None:
    """It ends, and says why."""
    way = WAYS["xdp-native"]
    attach(lab, way, "acl", stop=1111)
    attach(lab, way, "count")
    with capture(lab, member="acl") as packets:
        send(lab, way, 2)
        taken(packets, 2)
        lab("detach", "xdp", "dut0", "acl")
        assert list(packets) == []
        assert packets.summary().ended == "dut0 xdp: member acl was taken out"


def test_large_filters(lab: Lab) -> None:
    """Hundreds of hosts are looked for; thousands are refused at once, and the hook stays as it is."""
    way = WAYS["clsact"]
    attach(lab, way, "acl", stop=1111)
    before = program(lab)
    hosts = [f"src host 10.9.{number >> 8}.{number & 255}" for number in range(5000)]
    for number, words in (
        (5000, "[0-9]* characters"),
        (1200, "libpcap makes 1[0-9]* instructions"),
    ):
        with pytest.raises(NotSupportedError, match=f"the filter is too large: {words}"):
            capture(lab, " or ".join(hosts[:number]), way)
    assert program(lab) == before
    with capture(
        lab, " or ".join([*hosts[:200], "src host 10.0.0.1 and udp port 1111"]), way
    ) as packets:
        send(lab, way, 1)
        send(lab, way, 2, 1111)
        assert [one.verdict_name for one in rest(packets)] == ["shot"] * 2
    assert program(lab) == before


def test_refusals(lab: Lab) -> None:
    """What cannot be is said before anything is changed."""
    with pytest.raises(UsageError, match="libpcap cannot compile the filter: "):
        capture(lab, "nonsense")
    with pytest.raises(NotAttachedError, match="none is called acl"):
        capture(lab, member="acl")
    attach(lab, WAYS["xdp-native"], "acl")
    with pytest.raises(NotAttachedError, match="no member alc"):
        capture(lab, member="alc")
    with pytest.raises(UsageError, match="no XDP verdict"):
        capture(lab, verdicts=["shot"])
    lab("attach", "tc", "dut0", "builtin:tc_count")
    with pytest.raises(UsageError, match="several hooks: xdp, tc/ingress"):
        capture(lab)
    lab("detach", "--all")
    with (
        foreign_link(lab),
        pytest.raises(HookBusyError, match=r"dut0 xdp runs .* looks into its own programs only"),
    ):
        capture(lab)
    assert not signs()
