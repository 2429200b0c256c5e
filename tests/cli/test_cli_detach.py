"""``netbpf detach``: exactly what is meant, nothing of others, and nothing left behind."""

import json
from pathlib import Path

import pytest

from tests.cli.lab import Lab, run_cli, udp

WAYS = {
    "xdp-native": ("xdp", ()),
    "xdp-skb": ("xdp", ("--mode", "skb")),
    "xdp-link": ("xdp", ("--link",)),
    "clsact": ("tc", ()),
    "clsact-egress": ("tc", ("--egress",)),
    "tcx": ("tc", ("--link",)),
    "tcx-egress": ("tc", ("--egress", "--link")),
}


def records(state: Path) -> list[str]:
    return [path.name for path in (state / "hooks").iterdir()]


@pytest.mark.parametrize("way", WAYS)
def test_without_argument_the_only_one(lab: Lab, private: Path, way: str) -> None:
    kind, options = WAYS[way]
    lab("attach", kind, "dut0", lab.object("filter"), *options)
    [hook] = lab.hooks()
    done = lab("detach")
    assert done.lines == [
        f"dut0 {hook['hook']}: {kind}_filter detached (program {hook['program']['id']})"
    ]
    assert lab.hooks() == []
    assert records(private) == []
    assert "xdp" not in lab.run("ip", "link", "show", "dut0")
    assert "clsact" not in lab.run("tc", "qdisc", "show", "dev", "dut0")
    with (lab.wire.peer if "--egress" in options else lab.wire.dut).capture("stack") as arrived:
        arrived.expect(udp(lab.wire.dut if "--egress" in options else lab.wire.peer))


def test_several_are_listed_for_a_choice(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0,dut1", "builtin:xdp_count")
    number = lab.hooks()[0]["program"]["id"]
    done = lab("detach", code=2)
    assert done.error == (
        f"2 attachments are meant: dut0 xdp: xdp_count (program {number}, native, managed by netbpf); "
        f"dut1 xdp: xdp_count (program {number}, native, managed by netbpf); name one, such as: "
        f"netbpf detach xdp dut0 --netns {lab.netns}; or take off all of them with --all"
    )
    assert len(lab.hooks()) == 2
    # The command it proposes does it.
    words = done.error.partition("such as: netbpf ")[2].partition(";")[0].split()
    assert run_cli(*words).code == 0
    assert lab.programs() == [("dut1", "xdp", "xdp_count")]


def test_all(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0,dut1", "builtin:xdp_count")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--egress")
    assert len(lab("detach", "--all").lines) == 3
    assert lab.hooks() == []


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (("xdp", "dut0"), ["tc/ingress", "tc/egress"]),
        (("tc", "dut0", "--egress"), ["xdp", "tc/ingress"]),
        (("dut0", "--ingress"), ["xdp", "tc/egress"]),
        (("tc", "--all"), ["xdp"]),
        (("xdp",), ["tc/ingress", "tc/egress"]),
        (("--all", "dut0"), []),
    ],
)
def test_one_hook_of_several(lab: Lab, words: tuple[str, ...], left: list[str]) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("attach", "tc", "dut0", "builtin:tc_count")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--egress")
    lab("detach", *words)
    assert [one["hook"] for one in lab.hooks()] == left


def test_nothing_is_attached(lab: Lab) -> None:
    assert lab("detach", code=8).error == (
        "no XDP or TC program is attached; netbpf status shows what runs where"
    )
    assert "no XDP program is attached on dut0" in lab("detach", "xdp", "dut0", code=8).error
    assert lab("detach", "--ignore-missing").out == "nothing is attached\n"
    assert lab("detach", "--ignore-missing", "xdp", "dut0").code == 0
    assert lab("detach", "--ignore-missing", "--json").json == {
        "schema": "netbpf.detach/1",
        "hooks": [],
        "pending": None,
    }
    assert "dut9" in lab("detach", "dut9", code=6).error
    assert lab("detach", "dut9", "--ignore-missing").code == 0


def test_twice(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("detach", "dut0")
    lab("detach", "dut0", code=8)


def test_json(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    number = lab.hooks()[0]["program"]["id"]
    assert lab("detach", "--json").json == {
        "schema": "netbpf.detach/1",
        "hooks": [
            {
                "interface": "dut0", "hook": "xdp", "program": {"id": number, "name": "xdp_count"},
                "gone": None, "left": [],
            }
        ],
        "pending": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("xdp", "dut0", "member", "more"),
        ("xdp", "dut0", "--egress"),
        ("--force",),
        ("--id", "0"),
        ("--id", "x"),
    ],
)
def test_what_makes_no_sense(lab: Lab, words: tuple[str, ...]) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("detach", *words, code=2)
    assert len(lab.hooks()) == 1


# --- programs of others ---


def foreign(lab: Lab, way: str) -> None:
    path = lab.object("filter")
    if way == "netlink":
        lab.run("ip", "link", "set", "dut0", "xdp", "obj", path, "sec", "xdp")
    elif way == "filter":
        lab.run("tc", "qdisc", "add", "dev", "dut0", "clsact")
        lab.run(
            "tc", "filter", "add", "dev", "dut0", "ingress", "bpf", "da", "obj", path, "sec", "tc"
        )
    else:
        # Held by a pinned link, made by netbpf with another state directory: a stranger to this one.
        kind = "xdp" if way == "xdp-link" else "tc"
        lab("attach", kind, "dut0", path, "--link")
        for record in Path(lab.directory / "state" / "hooks").iterdir():
            record.unlink()


@pytest.mark.parametrize("way", ["netlink", "filter", "xdp-link", "tcx-link"])
def test_it_is_refused_and_stays(lab: Lab, way: str) -> None:
    foreign(lab, way)
    before = lab.hooks()
    [hook] = before
    assert hook["managed"] is False
    done = lab("detach", "dut0", code=9)
    assert hook["program"]["name"] in done.error
    assert "not managed by netbpf" in done.error
    assert "--force" in done.error
    assert lab("detach", code=9).error
    assert lab("detach", "--all", code=9).error
    assert lab.hooks() == before
    # To clean up after itself netbpf need not care.
    assert lab("detach", "--all", "--ignore-missing").out == "nothing is attached\n"
    lab("detach", "dut0", "--force")
    assert lab.hooks() == []


def test_force_finds_the_command_it_proposed(lab: Lab) -> None:
    foreign(lab, "filter")
    hint = lab("detach", "tc", "dut0", code=9).error.rpartition(": netbpf ")[2]
    assert run_cli(*hint.split()).code == 0
    assert lab.hooks() == []


def test_one_of_several_on_a_hook_by_its_id(lab: Lab) -> None:
    foreign(lab, "filter")
    path = lab.object("filter")
    lab.run("tc", "filter", "add", "dev", "dut0", "ingress", "bpf", "da", "obj", path, "sec", "tc")
    first, second = (one["program"]["id"] for one in lab.hooks())
    done = lab("detach", "tc", "dut0", "--force", code=2)
    assert f"netbpf detach tc dut0 --ingress --id {first} --force" in done.error
    lab("detach", "dut0", "--id", second, "--force")
    assert [one["program"]["id"] for one in lab.hooks()] == [first]
    assert (
        f"program {second} is not attached" in lab("detach", "dut0", "--id", second, code=8).error
    )


def test_a_foreign_filter_survives_its_neighbours_detach(lab: Lab) -> None:
    foreign(lab, "filter")
    [before] = lab.hooks()
    lab("attach", "tc", "dut0", "builtin:tc_count", "--pref", "1")
    assert [one["program"]["name"] for one in lab.hooks()] == ["tc_count", "tc_filter"]
    lab("detach", "tc", "dut0")
    assert lab.hooks() == [before]
    # Nor was its qdisc touched.
    assert "clsact" in lab.run("tc", "qdisc", "show", "dev", "dut0")


def test_the_same_priority_as_a_foreign_filter(lab: Lab) -> None:
    """Exactly its own filter goes, not all of a priority."""
    lab.run("tc", "qdisc", "add", "dev", "dut0", "clsact")
    lab.run(
        "tc", "filter", "add", "dev", "dut0", "ingress", "pref", "7", "protocol", "all", "bpf", "da", "obj",
        lab.object("filter"), "sec", "tc",
    )  # fmt: skip
    [before] = lab.hooks()
    lab("attach", "tc", "dut0", "builtin:tc_count", "--pref", "7")
    lab("detach", "tc", "dut0")
    assert lab.hooks() == [before]


# --- the clsact qdisc ---


def qdisc(lab: Lab) -> bool:
    return "clsact" in lab.run("tc", "qdisc", "show", "dev", "dut0")


def test_the_last_program_takes_netbpfs_qdisc_along(lab: Lab) -> None:
    lab("attach", "tc", "dut0", "builtin:tc_count")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--egress")
    lab("detach", "tc", "dut0", "--ingress")
    assert qdisc(lab)
    lab("detach")
    assert not qdisc(lab)


def test_a_qdisc_of_others_stays(lab: Lab) -> None:
    lab.run("tc", "qdisc", "add", "dev", "dut0", "clsact")
    lab("attach", "tc", "dut0", "builtin:tc_count")
    lab("detach")
    assert qdisc(lab)


def test_netbpfs_qdisc_stays_while_others_use_it(lab: Lab) -> None:
    lab("attach", "tc", "dut0", "builtin:tc_count")
    path = lab.object("filter")
    lab.run("tc", "filter", "add", "dev", "dut0", "egress", "bpf", "da", "obj", path, "sec", "tc")
    lab("detach")
    assert qdisc(lab)
    assert lab.programs() == [("dut0", "tc/egress", "tc_filter")]


def test_a_foreign_ingress_qdisc_is_not_replaced(lab: Lab) -> None:
    lab.run("tc", "qdisc", "add", "dev", "dut0", "ingress")
    done = lab("attach", "tc", "dut0", "builtin:tc_count", code=7)
    assert "ingress" in done.error
    assert "qdisc ingress" in lab.run("tc", "qdisc", "show", "dev", "dut0")
    assert lab.hooks() == []


# --- what is gone ---


def test_a_vanished_interface_counts_as_detached(lab: Lab) -> None:
    [second] = lab.wires(1)
    lab("attach", "xdp", "dut1", "builtin:xdp_count")
    lab.run("ip", "link", "delete", second.dut.ifname)
    done = lab("detach", "xdp", "dut1")
    assert "interface dut1 is gone" in done.out
    lab("detach", "xdp", "dut1", code=6)


def test_a_vanished_interface_in_json(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut1", "builtin:xdp_count")
    lab.run("ip", "link", "delete", "dut1")
    [hook] = json.loads(lab("detach", "--all", "--json").out)["hooks"]
    assert (hook["interface"], hook["gone"]) == ("dut1", "interface dut1 is gone")


def test_another_tool_took_it_off(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab.run("ip", "link", "set", "dut0", "xdp", "off")
    done = lab("detach")
    assert "nothing to detach: dut0 had lost it already" in done.out
    lab("detach", code=8)
