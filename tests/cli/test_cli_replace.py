"""``--replace``: another program, or other settings, without a packet in between."""

import pytest

from tests.cli.lab import Lab, frame, udp
from tests.support.flood import flood

ROUNDS = 10


WAYS = {
    "xdp-native": ("xdp", "wire", ()),
    "xdp-skb": ("xdp", "wire", ("--mode", "skb")),
    "xdp-link": ("xdp", "wire", ("--link",)),
    "clsact": ("tc", "stack", ()),
    "tcx": ("tc", "stack", ("--link",)),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_packet_goes_by_unfiltered(lab: Lab, way: str) -> None:
    kind, point, options = WAYS[way]
    path = lab.object("filter")
    lab("attach", kind, "dut0", path, *options)
    with lab.wire.dut.capture(point) as arrived:  # type: ignore[arg-type]
        with flood(lab.wire.peer, frame(lab.wire.peer), pause=0.0001) as traffic:
            for number in range(1, ROUNDS):
                lab("attach", kind, "dut0", path, "--replace", "--set", f"generation={number}")
                with traffic.held():
                    assert arrived.packets() == []
        arrived.expect_none()
        assert traffic.sent > ROUNDS
        # The same eyes see what a program that passes lets through.
        lab("attach", kind, "dut0", path, "--replace", "--set", "generation=1000")
        arrived.expect(udp(lab.wire.peer))
    [hook] = lab.hooks()
    assert hook["managed"]


def test_it_says_what_it_replaced(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    [before] = lab.hooks()
    done = lab("attach", "xdp", "dut0", "builtin:xdp_globals", "--replace")
    [after] = lab.hooks()
    old, new = before["program"]["id"], after["program"]["id"]
    assert done.lines == [
        f"dut0 xdp: xdp_globals attached (native, program {new}, replaces program {old})"
    ]
    found = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--replace", "--json").json
    assert found["hooks"][0]["replaced"] == new


def test_replace_where_nothing_is_attaches(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--replace")
    assert "replaces" not in done.out
    assert lab.programs() == [("dut0", "xdp", "xdp_count")]


def test_mode_and_place_stay(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--mode", "skb")
    lab("attach", "xdp", "dut0", "builtin:xdp_globals", "--replace", "--mode", "auto")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--egress")
    lab("attach", "tc", "dut0", "builtin:tc_globals", "--egress", "--replace")
    assert [(one["hook"], one["mode"], one["program"]["name"]) for one in lab.hooks()] == [
        ("xdp", "skb", "xdp_globals"),
        ("tc/egress", "clsact", "tc_globals"),
    ]


def test_what_cannot_be_done_without_a_gap_is_refused(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--replace", "--mode", "skb", code=2)
    assert "without a gap" in done.error
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--replace", "--link", code=2)
    assert "without a gap" in done.error
    assert lab.hooks() == before


@pytest.mark.parametrize("source", ["bad", "missing"])
def test_a_replacement_that_fails_leaves_the_old_one(lab: Lab, source: str) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    before = lab.hooks()
    if source == "bad":
        lab("attach", "xdp", "dut0", lab.object("several"), "-n", "rejected", "--replace", code=4)
    else:
        lab("attach", "xdp", "dut0", "missing.o", "--replace", code=3)
    assert lab.hooks() == before


def test_a_foreign_program_is_not_replaced(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--replace", code=7)
    assert "not managed by netbpf" in done.error
    assert f"netbpf detach xdp dut0 --force --netns {lab.netns}" in done.error
    assert lab.hooks() == before
