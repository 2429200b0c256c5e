"""Several interfaces in one call, and what all of them or one of them may share."""

import pytest

from tests.cli.lab import Lab, udp


def test_a_list_shares_one_program(lab: Lab) -> None:
    [second] = lab.wires(1)
    done = lab("attach", "xdp", "dut0,dut1", "builtin:xdp_count")
    assert [line.split(":")[0] for line in done.lines] == ["dut0 xdp", "dut1 xdp"]
    assert len({one["program"]["id"] for one in lab.hooks()}) == 1
    udp(lab.wire.peer, number=2)
    udp(second.peer, number=3)
    for interface in ("dut0", "dut1"):
        [hook] = lab("stats", interface, "--json").json["hooks"]
        assert hook["verdicts"]["pass"]["packets"] == 5


def test_a_glob(lab: Lab) -> None:
    lab.wires(2)
    lab("attach", "tc", "dut*", "builtin:tc_count", "--egress")
    assert [one["interface"] for one in lab.hooks()] == ["dut0", "dut1", "dut2"]


def test_a_glob_that_matches_nothing(lab: Lab) -> None:
    done = lab("attach", "xdp", "nope*", "builtin:xdp_count", code=6)
    assert "nope*" in done.error


def test_an_interface_named_twice_is_attached_once(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0,dut0,dut*", "builtin:xdp_count")
    assert len(done.lines) == 1


def test_one_that_is_busy_does_not_stop_the_others(lab: Lab) -> None:
    lab.wires(2)
    lab("attach", "xdp", "dut1", "builtin:xdp_drop")
    done = lab("attach", "xdp", "dut*", "builtin:xdp_count", code=7)
    assert done.error.startswith("dut1 xdp already runs xdp_drop ")
    assert [line.split()[0] for line in done.lines] == ["dut0", "dut2"]
    assert [name for _, _, name in lab.programs()] == ["xdp_count", "xdp_drop", "xdp_count"]


def test_one_that_is_busy_in_json(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0", "builtin:xdp_drop")
    done = lab("attach", "xdp", "dut0,dut1", "builtin:xdp_count", "--json", code=7)
    found = done.json
    assert [one["interface"] for one in found["hooks"]] == ["dut1"]
    [error] = found["errors"]
    assert (error["interface"], error["code"], error["type"]) == ("dut0", 7, "HookBusyError")


@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_atomic_is_all_or_nothing(lab: Lab, kind: str) -> None:
    lab.wires(2)
    lab("attach", kind, "dut2", f"builtin:{kind}_drop")
    before = lab.hooks()
    done = lab("attach", kind, "dut*", f"builtin:{kind}_count", "--atomic", code=7)
    assert done.error.startswith("dut2 ")
    assert done.out == ""
    assert lab.hooks() == before
    # Nor did it leave its qdiscs on the others.
    assert "clsact" not in lab.run("tc", "qdisc", "show", "dev", "dut0")


def test_atomic_replacement_brings_back_what_was_there(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0", "builtin:xdp_drop")
    lab("attach", "xdp", "dut1", "builtin:xdp_drop", "--mode", "skb")
    before = lab.hooks()
    done = lab(
        "attach",
        "xdp",
        "dut*",
        "builtin:xdp_count",
        "--replace",
        "--atomic",
        "-m",
        "native",
        code=2,
    )
    assert "runs in skb mode" in done.error
    assert lab.hooks() == before
    lab("attach", "xdp", "dut*", "builtin:xdp_count", "--replace", "--atomic")
    assert [name for _, _, name in lab.programs()] == ["xdp_count", "xdp_count"]


# --- maps that ask to be pinned by name ---


def shared(lab: Lab, *interfaces: str) -> list[int]:
    return [lab.get(one, "shared[0]") for one in interfaces]


def test_maps_that_ask_to_be_pinned_stay_private(lab: Lab) -> None:
    [second] = lab.wires(1)
    path = lab.object("shared")
    for interface in ("dut0", "dut1"):
        lab("attach", "xdp", interface, path)
    udp(lab.wire.peer, number=2)
    udp(second.peer, number=3)
    assert shared(lab, "dut0", "dut1") == [2, 3]
