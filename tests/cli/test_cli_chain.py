"""``netbpf chain``: what it shows, what it changes, and what it refuses."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.lab import Lab, udp
from tests.cli.test_cli_chain_traffic import WAYS, chain, member, send

WAY = WAYS["xdp-skb"]


def three(lab: Lab) -> None:
    """acl (10) drops port 1111, then count and nat."""
    lab(
        "attach",
        "xdp",
        "dut0",
        member(lab, "acl", 1111),
        "--name",
        "acl",
        "--priority",
        10,
        "--mode",
        "skb",
    )
    lab("attach", "xdp", "dut0", member(lab, "count"), "--name", "count", "--proceed-on", "pass,tx")
    lab("attach", "xdp", "dut0", member(lab, "nat"), "--name", "nat")


def test_the_contract(lab: Lab) -> None:
    three(lab)
    send(lab, WAY, 3)
    send(lab, WAY, 1, 1111)
    done = lab("chain", "dut0", "--json")
    found = done.json
    assert found["schema"] == "netbpf.chain/1"
    [hook] = found["hooks"]
    assert (hook["interface"], hook["hook"], hook["mode"]) == ("dut0", "xdp", "skb")
    assert hook["program"]["name"] == "netbpf_chain"
    rest = {"added_at", "program", "object"}
    assert [{k: v for k, v in one.items() if k not in rest} for one in hook["members"]] == [
        {
            "name": "acl", "priority": 10, "position": 0, "proceed_on": ["pass"],
            "packets": 4, "verdicts": {"pass": 3, "drop": 1},
        },
        {
            "name": "count", "priority": 50, "position": 1, "proceed_on": ["pass", "tx"],
            "packets": 3, "verdicts": {"pass": 3},
        },
        {
            "name": "nat", "priority": 50, "position": 2, "proceed_on": ["pass"],
            "packets": 3, "verdicts": {"pass": 3},
        },
    ]  # fmt: skip
    for one in hook["members"]:
        assert one["program"]["id"] == hook["program"]["id"]
        assert one["program"]["name"] == "xdp_member"
        assert re.fullmatch(r"[0-9a-f]{16}", one["program"]["tag"])
        assert set(one["program"]["map_ids"]) < set(hook["program"]["map_ids"])
        assert one["object"]["path"].endswith(f"/{one['name']}.o")
        assert re.fullmatch(r"[0-9a-f]{64}", one["object"]["sha256"])


def test_the_tree(lab: Lab) -> None:
    three(lab)
    send(lab, WAY, 3)
    send(lab, WAY, 1, 1111)
    [hook] = lab.hooks()
    assert lab("chain").lines == [
        f"dut0 xdp (skb): 3 members, program {hook['program']['id']}",
        "   MEMBER  PRIORITY  PROCEEDS ON  PACKETS  DROPPED  VERDICTS        OBJECT",
        "|- acl           10  pass               4    25.0%  drop 1, pass 3  acl.o",
        "|- count         50  pass,tx            3     0.0%  pass 3          count.o",
        "`- nat           50  pass               3     0.0%  pass 3          nat.o",
    ]
    one = lab("chain", "dut0", "count").lines
    assert one[2] == "|- count         50  pass,tx            3     0.0%  pass 3    count.o"
    assert len(one) == 3


def test_one_program_is_a_chain_of_one_that_is_not_counted(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    udp(lab.wire.peer)
    assert chain(lab)["xdp_count"]["packets"] is None
    assert chain(lab)["xdp_count"]["verdicts"] == {}
    assert "not counted" in lab("chain", "dut0").out


def test_nothing_there(lab: Lab) -> None:
    assert lab("chain", code=8).error.startswith("no program of netbpf's;")
    assert lab("chain", "dut0", code=8).error.startswith("no program of netbpf's on dut0;")
    lab("chain", "nowhere", code=6)
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    assert lab("chain", "dut0", "xdp_cont", code=8).error.startswith("no member xdp_cont on dut0;")
    lab("chain", "tc", "dut0", code=8)


def test_watching(lab: Lab) -> None:
    three(lab)
    running = lab.spawn("chain", "dut0", "--watch", "0.05", "--count", "3", "--json")
    out, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (0, "")
    rounds = [json.loads(line) for line in out.splitlines()]
    assert len(rounds) == 3
    rates = [[m["packets_per_second"] for m in one["hooks"][0]["members"]] for one in rounds]
    assert rates[0] == [None] * 3
    assert rates[1:] == [[0.0] * 3] * 2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("set", "dut0", "acl"), "nothing to change"),
        (("set", "dut0"), "name the interface and the member"),
        (("set", "dut0", "acl", "--priority", "-1"), "-1"),
        (("set", "dut0", "acl", "--priority", "65536"), "65536"),
        (("set", "dut0", "acl", "--proceed-on", "fall"), "'fall' is no XDP verdict"),
        (("set", "dut0", "acl", "--proceed-on", "shot"), "'shot' is no XDP verdict"),
        (("set", "dut0", "acl", "--priority", "1", "--watch"), "--watch is for"),
        (("dut0", "--priority", "1"), "--priority is for"),
        (("dut0", "--count", "1"), "--count is for --watch"),
        (("xdp", "dut0", "acl", "more"), "too many arguments: more"),
    ],
)
def test_what_makes_no_sense(lab: Lab, words: tuple[str, ...], reason: str) -> None:
    three(lab)
    before = lab.hooks()
    assert reason in lab("chain", *words, code=2).error
    assert lab.hooks() == before


def test_setting_a_member_that_is_not_there(lab: Lab) -> None:
    three(lab)
    done = lab("chain", "set", "dut0", "cont", "--priority", "1", code=8)
    assert done.error == "dut0 has no member cont; did you mean count or nat?"


def test_setting_says_what_it_is_now(lab: Lab) -> None:
    three(lab)
    done = lab("chain", "set", "dut0", "nat", "--priority", "1", "--proceed-on", "XDP_TX,xdp_pass")
    assert done.lines == ["dut0 xdp: nat is 1 of 3, priority 1, proceeds on pass,tx"]
    assert list(chain(lab)) == ["nat", "acl", "count"]
    found = lab("chain", "set", "dut0", "nat", "--proceed-on", "none", "--json").json
    assert found["hooks"][0]["members"][0]["proceed_on"] == []
    before = lab.hooks()
    lab("chain", "set", "dut0", "nat", "--priority", "1")
    assert lab.hooks() == before, "nothing changed, and yet the program did"


def test_a_member_alone_can_be_set(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    [before] = lab.hooks()
    lab("chain", "set", "dut0", "xdp_count", "--priority", "7")
    [after] = lab.hooks()
    assert after["program"]["map_ids"] == before["program"]["map_ids"]
    assert after["members"][0]["priority"] == 7
    lab("attach", "xdp", "dut0", "builtin:xdp_globals", "--priority", "6")
    assert list(chain(lab)) == ["xdp_globals", "xdp_count"]


def test_the_same_name_on_two_hooks(lab: Lab) -> None:
    """The hook has to be said."""
    for kind in ("xdp", "tc"):
        lab("attach", kind, "dut0", member(lab, "acl"), "--name", "acl")
    done = lab("chain", "set", "dut0", "acl", "--priority", "1", code=2)
    assert done.error.startswith("2 members are meant: acl (dut0 xdp), acl (dut0 tc/ingress)")
    lab("chain", "set", "tc", "dut0", "acl", "--priority", "1")
    priorities = {one["hook"]: one["members"][0]["priority"] for one in lab.hooks()}
    assert priorities == {"xdp": 50, "tc/ingress": 1}


def test_several_objects_at_once(lab: Lab) -> None:
    done = lab(
        "attach", "xdp", "dut0", "builtin:xdp_count", "builtin:xdp_globals", "builtin:xdp_drop",
        "--set", "min_bytes=20", "--set", "xdp_count.verdict=XDP_PASS", "--priority", "30",
    )  # fmt: skip
    [hook] = lab.hooks()
    names = "xdp_count 1st, xdp_globals 2nd, xdp_drop 3rd"
    number = hook["program"]["id"]
    assert done.lines == [f"dut0 xdp: {names} of 3 members (native, program {number})"]
    assert [(one["name"], one["priority"]) for one in hook["members"]] == [
        ("xdp_count", 30),
        ("xdp_globals", 30),
        ("xdp_drop", 30),
    ]
    assert lab.get("dut0", "min_bytes") == 20


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("--set", "verdict=XDP_DROP"), 2, "verdict is a variable of xdp_count and xdp_globals"),
        (("--set", "nothing=1"), 3, "none of the objects has a variable nothing"),
        (("--name", "x"), 2, "--name is about one object"),
        (("-n", "x"), 2, "-n is about one object"),
        (("--replace",), 2, "--replace swaps one program"),
    ],
)
def test_options_of_several_objects(
    lab: Lab, words: tuple[str, ...], code: int, reason: str
) -> None:
    done = lab(
        "attach", "xdp", "dut0", "builtin:xdp_count", "builtin:xdp_globals", *words, code=code
    )
    assert reason in done.error
    assert lab.hooks() == []


def test_one_of_several_objects_fails(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "missing.o", code=3)
    lab("attach", "xdp", "dut0", "builtin:xdp_count", lab.object("several"), code=3)
    assert lab.hooks() == []


def test_the_same_program_twice(lab: Lab) -> None:
    three(lab)
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", lab.directory / "count.o", code=7)
    assert "as member count" in done.error
    assert "netbpf upgrade xdp dut0 count OBJECT" in done.error
    assert lab.hooks() == before
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "builtin:xdp_count", code=7)
    assert "named twice" in done.error
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--name", "count", code=7)
    assert done.error == (
        "dut0 xdp has a member count already; give this one another name with --name"
    )
    assert lab.hooks() == before
    lab("attach", "xdp", "dut0", lab.directory / "count.o", "--name", "again")
    assert list(chain(lab)) == ["acl", "count", "nat", "again"]


def test_another_program_of_the_same_name_gets_a_number(lab: Lab) -> None:
    for name in ("acl", "count"):
        lab("attach", "xdp", "dut0", member(lab, name))
    assert list(chain(lab)) == ["xdp_member", "xdp_member-2"]


def test_replace_would_drop_them_all(lab: Lab) -> None:
    three(lab)
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", "builtin:xdp_globals", "--replace", code=7)
    assert "a chain of 3 members; --replace would drop all of them" in done.error
    assert "netbpf upgrade xdp dut0 MEMBER OBJECT" in done.error
    assert lab.hooks() == before


def test_a_chain_goes_as_a_whole_only_if_that_is_said(lab: Lab) -> None:
    three(lab)
    before = lab.hooks()
    for words in (("detach",), ("detach", "dut0"), ("detach", "xdp", "dut0")):
        done = lab(*words, code=2)
        assert "dut0 xdp runs a chain of 3 members: acl, count, nat; name one: " in done.error
    assert lab.hooks() == before
    done = lab("detach", "xdp", "dut0", "cont", code=8)
    assert done.error == "dut0 xdp has no member cont; did you mean count or nat?"
    done = lab("detach", "xdp", "dut0", "--all")
    number = before[0]["program"]["id"]
    assert done.lines == [f"dut0 xdp: acl, count, nat detached (program {number})"]


def test_taking_out_says_who_runs_on(lab: Lab) -> None:
    three(lab)
    done = lab("detach", "xdp", "dut0", "count")
    assert done.lines == ["dut0 xdp: count taken out; acl, nat run on"]
    done = lab("detach", "dut0", "nat", "--json")
    [one] = done.json["hooks"]
    assert (one["program"]["name"], one["left"]) == ("nat", ["acl"])
    lab("detach", "dut0", "nobody", "--ignore-missing")


def test_variables_of_members(lab: Lab) -> None:
    three(lab)
    send(lab, WAY, 2)
    done = lab("get", "dut0", "seen", code=2)
    for name in ("acl", "count", "nat"):
        assert f"{name} (xdp, program " in done.error
    assert "say which: acl.seen" in done.error
    assert lab.get("dut0", "nat.seen") == 2000
    lab("set", "dut0", "nat.seen=5")
    assert [lab.get("dut0", f"{name}.seen") for name in ("acl", "nat", "count")] == [
        2,
        5,
        2_000_000,
    ]
    lab("attach", "xdp", "dut0", "builtin:xdp_globals")
    assert lab.get("dut0", "min_bytes") == 14


def test_stats_of_members(lab: Lab) -> None:
    three(lab)
    send(lab, WAY, 2)
    send(lab, WAY, 1, 1111)
    [hook] = lab("stats", "dut0", "--json").json["hooks"]
    assert [one["name"] for one in hook["members"]] == ["acl", "count", "nat"]
    acl, count, _ = hook["members"]
    assert set(acl) == {"name", "program", "variables", "maps", "verdicts"}
    assert acl["variables"] == {"seen": 3}
    assert acl["verdicts"] == {"pass": {"packets": 2}, "drop": {"packets": 1}}
    assert count["variables"] == {"seen": 2_000_000}
    assert count["program"]["name"] == "xdp_member"
    assert (hook["variables"], hook["maps"], hook["verdicts"]) == ({}, [], {})
    lines = lab("stats", "dut0").lines
    assert " acl: 3 packets (drop 1, pass 2)" in lines
    assert " count: 2 packets (pass 2)" in lines
    # One program alone keeps its fields where they were.
    lab("detach", "dut0", "acl")
    lab("detach", "dut0", "count")
    [hook] = lab("stats", "dut0", "--json").json["hooks"]
    assert "members" not in hook
    assert hook["variables"] == {"seen": 2000}


def test_a_foreign_program_stays_alone(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "builtin:xdp_globals", code=7)
    assert "dut0 xdp already runs xdp_filter" in done.error
    assert "not managed by netbpf" in done.error
    assert lab.hooks() == before


def test_the_way_onto_the_hook_stays(lab: Lab) -> None:
    three(lab)
    before = lab.hooks()
    for words in (("--mode", "native"), ("--link",)):
        done = lab("attach", "xdp", "dut0", "builtin:xdp_count", *words, code=2)
        assert "without a gap" in done.error
    assert lab.hooks() == before
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--mode", "auto")
    assert len(chain(lab)) == 4


def test_several_interfaces(lab: Lab) -> None:
    """Each hook has its own chain; the new member is one program with one set of maps."""
    lab.wires(1)
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("attach", "xdp", "dut0,dut1", member(lab, "acl"), "--name", "acl")
    assert lab.programs() == [("dut0", "xdp", "netbpf_chain"), ("dut1", "xdp", "xdp_member")]
    udp(lab.wire.peer, number=3)
    assert [lab.get(one, "seen") for one in ("dut0", "dut1")] == [3, 3]


FRAGS = """
#include "net.h"
SEC("xdp.frags") int xdp_able(struct xdp_md *ctx) { return XDP_PASS; }
SEC("xdp") int xdp_unable(struct xdp_md *ctx) { return XDP_PASS; }
"""


def test_frames_in_several_buffers(lab: Lab) -> None:
    """All take them, or the chain does not, and that is said."""
    path = lab.compiled(FRAGS, "frags")
    done = lab("attach", "xdp", "dut0", path, "-n", "xdp_able")
    assert done.err == ""
    done = lab("attach", "xdp", "dut0", path, "-n", "xdp_unable")
    assert done.err == (
        "netbpf: note: the chain takes no frames in several buffers (xdp.frags), because xdp_unable does not; "
        "xdp_able alone would\n"
    )
    lab("detach", "dut0", "xdp_unable")
    done = lab("attach", "xdp", "dut0", path, "-n", "xdp_able", "--name", "second")
    assert done.err == ""


GPL_ONLY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int xdp_prints(struct xdp_md *ctx) { bpf_printk("x"); return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""
PROPRIETARY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int xdp_closed(struct xdp_md *ctx) { return XDP_PASS; }
char _license[] SEC("license") = "Proprietary";
"""


def test_what_cannot_be_linked(lab: Lab) -> None:
    """It says which member, why, and what would help; the chain goes on as it was."""
    three(lab)
    lab("attach", "xdp", "dut0", lab.compiled(GPL_ONLY, "prints"))
    before = lab.hooks()
    done = lab("attach", "xdp", "dut0", lab.compiled(PROPRIETARY, "closed"), code=4)
    assert "xdp_prints" in done.err
    assert "Proprietary" in done.err
    assert lab.hooks() == before
    send(lab, WAY, 2)
    assert chain(lab)["xdp_prints"]["packets"] == 2


def test_a_map_whose_pin_is_removed_goes_on(lab: Lab, bpffs: Path) -> None:
    """The member holds its map."""
    path = lab.object("shared")
    lab("attach", "xdp", "dut0", path, "--pin-maps", bpffs / "maps", "--mode", "skb")
    udp(lab.wire.peer, number=2)
    (bpffs / "maps" / "shared").unlink()
    lab("attach", "xdp", "dut0", member(lab, "acl"), "--name", "acl")
    udp(lab.wire.peer, number=3)
    assert lab.get("dut0", "shared[0]") == 5


def test_a_record_that_names_a_map_which_is_gone(lab: Lab, private: Path) -> None:
    """The member that cannot be linked anew is named; the chain goes on, and can be taken off."""
    three(lab)
    before = lab.hooks()
    [record] = (private / "hooks").iterdir()
    data = json.loads(record.read_text())
    for one in data["generations"][0]["members"]:
        if one["name"] == "nat":
            one["maps"] = [[name, 4_000_000_000] for name, _ in one["maps"]]
    record.write_text(json.dumps(data))
    done = lab("chain", "set", "dut0", "acl", "--priority", "60", code=1)
    assert re.match(r"map \S+ \(id 4000000000\) of member nat is gone;", done.error)
    assert lab.hooks()[0]["program"] == before[0]["program"]
    lab("detach", "dut0", "--all")
