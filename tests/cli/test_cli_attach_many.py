"""Several interfaces in one call, and what all of them or one of them may share."""

from pathlib import Path

import pytest

from tests.cli.lab import OBJECTS, Lab, udp


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
    lab("attach", "xdp", "dut1", "builtin:xdp_count")
    before = lab.hooks()
    done = lab("attach", "xdp", "dut*", "builtin:xdp_count", code=7)
    assert done.error.startswith("dut1 xdp already runs xdp_count ")
    assert [line.split()[0] for line in done.lines] == ["dut0", "dut2"]
    assert [name for _, _, name in lab.programs()] == ["xdp_count"] * 3
    assert [one for one in lab.hooks() if one["interface"] == "dut1"] == before


def test_one_that_is_busy_in_json(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    done = lab("attach", "xdp", "dut0,dut1", "builtin:xdp_count", "--json", code=7)
    found = done.json
    assert [one["interface"] for one in found["hooks"]] == ["dut1"]
    [error] = found["errors"]
    assert (error["interface"], error["code"], error["type"]) == ("dut0", 7, "HookBusyError")


@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_atomic_is_all_or_nothing(lab: Lab, kind: str) -> None:
    lab.wires(2)
    lab("attach", kind, "dut2", f"builtin:{kind}_count")
    before = lab.hooks()
    done = lab("attach", kind, "dut*", f"builtin:{kind}_count", "--atomic", code=7)
    assert done.error.startswith("dut2 ")
    assert done.out == ""
    assert lab.hooks() == before
    # Nor did it leave its qdiscs on the others.
    assert "clsact" not in lab.run("tc", "qdisc", "show", "dev", "dut0")


def test_atomic_replacement_brings_back_what_was_there(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0", "builtin:xdp_globals")
    lab("attach", "xdp", "dut1", "builtin:xdp_globals", "--mode", "skb")
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


def test_pinned_maps_are_shared_on_request(lab: Lab, bpffs: Path) -> None:
    [second] = lab.wires(1)
    path = lab.object("shared")
    for interface in ("dut0", "dut1"):
        lab("attach", "xdp", interface, path, "--pin-maps", bpffs / "mine" / "maps")
    udp(lab.wire.peer, number=2)
    udp(second.peer, number=3)
    assert shared(lab, "dut0", "dut1") == [5, 5]
    assert [lab.get(one, "own[0]") for one in ("dut0", "dut1")] == [2, 3]
    assert [one.name for one in (bpffs / "mine" / "maps").iterdir()] == ["shared"]
    # It outlives the programs.
    lab("detach", "--all")
    lab("attach", "xdp", "dut0", path, "--pin-maps", bpffs / "mine" / "maps")
    assert shared(lab, "dut0") == [5]


def test_a_pinned_map_of_another_shape_is_refused(lab: Lab, bpffs: Path) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0", lab.object("shared"), "--pin-maps", bpffs / "maps")
    larger = lab.compiled("#define ENTRIES 8\n" + (OBJECTS / "shared.bpf.c").read_text())
    done = lab("attach", "xdp", "dut1", larger, "--pin-maps", bpffs / "maps", code=3)
    assert f"{bpffs}/maps/shared" in done.error
    assert "max_entries 4 instead of 8" in done.error
    assert [one["interface"] for one in lab.hooks()] == ["dut0"]


def test_a_failed_attach_pins_nothing(lab: Lab, bpffs: Path) -> None:
    lab("attach", "xdp", "dut0", lab.object("shared"))
    lab("attach", "xdp", "dut0", lab.object("shared"), "--pin-maps", bpffs / "maps", code=7)
    assert not list((bpffs / "maps").iterdir())


def test_a_pin_that_is_no_map(lab: Lab, bpffs: Path) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_globals")
    [hook] = lab.hooks()
    (bpffs / "maps").mkdir(mode=0o700)
    lab.run("bpftool", "prog", "pin", "id", hook["program"]["id"], bpffs / "maps" / "shared")
    done = lab("attach", "xdp", "dut0", lab.object("shared"), "--pin-maps", bpffs / "maps", code=3)
    assert "is no map but a bpf-prog" in done.error


def test_pins_outside_a_bpf_file_system(lab: Lab, tmp_path: Path) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("shared"), "--pin-maps", tmp_path, code=2)
    assert "mount -t bpf" in done.error


def test_no_pin_names_with_dots(lab: Lab, bpffs: Path) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("shared"), "--pin-maps", bpffs / "a.b", code=2)
    assert "a.b" in done.error
    assert "dot" in done.error


def test_nothing_to_share_is_said(lab: Lab, bpffs: Path) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--pin-maps", bpffs / "maps")
    assert done.err == (
        "netbpf: note: --pin-maps shares nothing: xdp_count uses no map with LIBBPF_PIN_BY_NAME\n"
    )
