"""``netbpf upgrade`` and ``rollback``: another object in a member's place, with all it has gathered."""

from pathlib import Path

import pytest

from tests.cli.lab import Lab
from tests.cli.test_cli_chain_traffic import (
    WAYS,
    Way,
    attach,
    chain,
    each_way,
    send,
    traffic,
    verdicts,
)

WAY = WAYS["xdp-skb"]

BODY = """
#include "net.h"
{globals}
struct {{
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u16);
	__type(value, struct flow);
	__uint(max_entries, 64);
}} flows SEC(".maps");

#define look(ctx)                                                         \\
	({{                                                                   \\
		struct headers *h = headers_of(ctx);                              \\
		if (h) {{                                                         \\
			__u16 port = bpf_ntohs(h->udp.dest);                          \\
			struct flow *flow = bpf_map_lookup_elem(&flows, &port), new = {{}}; \\
			if (!flow) {{                                                 \\
				bpf_map_update_elem(&flows, &port, &new, BPF_NOEXIST);    \\
				flow = bpf_map_lookup_elem(&flows, &port);                \\
			}}                                                            \\
			if (flow)                                                     \\
				add(flow->packets, 1);                                    \\
		}}                                                                \\
		add(seen, 1);                                                     \\
		{more}                                                            \\
	}})

SEC("xdp") int xdp_flows(struct xdp_md *ctx) {{ look(ctx); return XDP_PASS; }}
SEC("tc") int tc_flows(struct __sk_buff *ctx) {{ look(ctx); return TC_ACT_PIPE; }}
"""

FLOW = "struct flow { __u64 packets; };"
VARIABLES = "__u32 seen; __u64 other = 7; const volatile __u32 limit = 5;"
# The first version, and successors of all kinds.
GLOBALS = {
    "one": f"{FLOW} {VARIABLES}",
    # Another order, a wider counter, a new neighbour in between.
    "two": f"{FLOW} __u64 fresh; __u64 other = 9; __u64 seen; const volatile __u32 limit = 6;",
    # A value that grew at its end.
    "grown": f"struct flow {{ __u64 packets; __u64 bytes; }}; {VARIABLES}",
    # A value that cannot be carried over.
    "other": f"struct flow {{ __u32 kind; __u32 packets; }}; {VARIABLES}",
    # A variable less.
    "less": f"{FLOW} __u32 seen; const volatile __u32 limit = 5;",
}
USES = {"two": "add(fresh, limit); add(fresh, other);", "less": "if (limit) add(seen, 0);"}


def version(lab: Lab, name: str) -> Path:
    """The object of a version."""
    more = USES.get(name, "if (limit) add(other, 0);")
    return lab.compiled(BODY.format(globals=GLOBALS[name], more=more), name)


def start(lab: Lab, way: Way = WAY, *options: object) -> None:
    lab(
        "attach",
        way.kind,
        "dut0",
        version(lab, "one"),
        "--name",
        "flows",
        *way.options,
        *way.direction,
        *options,
    )


def flows(lab: Lab) -> dict[int, int]:
    return {one["key"]: one["value"]["packets"] for one in lab.get("dut0", "flows")}


def test_what_is_the_same_goes_on(lab: Lab) -> None:
    """The map itself, not a copy."""
    start(lab)
    send(lab, WAY, 3, 1000)
    send(lab, WAY, 2, 2000)
    [before] = lab.hooks()
    lab("upgrade", "dut0", version(lab, "two"))
    [after] = lab.hooks()
    assert flows(lab) == {1000: 3, 2000: 2}
    assert set(before["program"]["map_ids"]) & set(after["program"]["map_ids"])
    [member] = after["members"]
    assert (member["name"], member["program"]["name"]) == ("flows", "xdp_flows")
    assert member["object"]["path"].endswith("/two.o")
    send(lab, WAY, 1, 1000)
    assert flows(lab) == {1000: 4, 2000: 2}


def test_variables_are_found_by_name(lab: Lab) -> None:
    start(lab)
    send(lab, WAY, 5)
    lab("set", "dut0", "other=70")
    done = lab("upgrade", "xdp", "dut0", "flows", version(lab, "two"))
    assert "seen" in done.out
    assert lab.get("dut0", "seen") == 5
    assert lab.get("dut0", "other") == 70
    assert lab.get("dut0", "fresh") == 0
    send(lab, WAY, 2)
    assert lab.get("dut0", "seen") == 7
    assert lab.get("dut0", "fresh") == 2 * (6 + 70)


def test_settings_stay_set(lab: Lab) -> None:
    """What was set at attach is still set; what was not has the new object's default."""
    start(lab, WAY, "--set", "limit=50")
    lab("upgrade", "dut0", version(lab, "two"))
    assert lab.get("dut0", "limit") == 50
    lab("upgrade", "dut0", version(lab, "one"), "--set", "limit=51")
    assert lab.get("dut0", "limit") == 51
    lab("detach", "dut0")
    start(lab)
    lab("upgrade", "dut0", version(lab, "two"))
    assert lab.get("dut0", "limit") == 6


def test_a_value_that_grew(lab: Lab) -> None:
    start(lab)
    send(lab, WAY, 3, 1000)
    lab("upgrade", "dut0", version(lab, "grown"))
    assert lab.get("dut0", "flows") == [{"key": 1000, "value": {"packets": 3, "bytes": 0}}]
    send(lab, WAY, 1, 1000)
    assert flows(lab) == {1000: 4}


def test_what_cannot_be_carried_over(lab: Lab) -> None:
    start(lab)
    send(lab, WAY, 3, 1000)
    before = lab.hooks()
    done = lab("upgrade", "dut0", version(lab, "other"), code=3)
    assert "flows" in done.error
    assert "--reset flows" in done.error
    assert lab.hooks() == before
    assert flows(lab) == {1000: 3}
    lab("upgrade", "dut0", version(lab, "other"), "--reset", "flows")
    assert lab.get("dut0", "flows") == []
    assert lab.get("dut0", "seen") == 3


def test_a_variable_that_vanished_is_reported(lab: Lab) -> None:
    start(lab)
    lab("set", "dut0", "other=70")
    done = lab("upgrade", "dut0", version(lab, "less"))
    assert "other" in done.out
    assert "70" in done.out


def test_dry_run(lab: Lab) -> None:
    start(lab)
    send(lab, WAY, 3)
    before = lab.hooks()
    done = lab("upgrade", "dut0", version(lab, "two"), "--dry-run")
    assert "would" in done.out
    assert "seen" in done.out
    found = lab("upgrade", "dut0", version(lab, "two"), "--dry-run", "--json").json
    assert found["schema"] == "netbpf.upgrade/1"
    assert found["dry_run"] is True
    assert {one["name"]: one["action"] for one in found["maps"]}["flows"] == "carried"
    assert lab.hooks() == before
    lab("upgrade", "dut0", version(lab, "other"), "--dry-run", code=3)
    assert lab.hooks() == before


def test_rollback(lab: Lab) -> None:
    start(lab)
    [first] = lab.hooks()
    done = lab("rollback", "dut0", code=8)
    assert "nothing to go back to" in done.error
    send(lab, WAY, 3, 1000)
    lab("upgrade", "dut0", version(lab, "two"))
    (lab.directory / "one.o").write_bytes(b"another object by now")
    send(lab, WAY, 2, 1000)
    lab("rollback", "dut0")
    [back] = lab.hooks()
    assert back["program"]["tag"] == first["program"]["tag"]
    assert back["object"] == first["object"]
    # What was counted meanwhile is not lost.
    assert lab.get("dut0", "seen") == 5
    assert flows(lab) == {1000: 5}
    lab("rollback", "dut0", "flows")
    [again] = lab.hooks()
    assert again["object"]["path"].endswith("/two.o")
    assert lab.get("dut0", "seen") == 5


def test_the_same_object(lab: Lab) -> None:
    start(lab)
    before = lab.hooks()
    done = lab("upgrade", "dut0", version(lab, "one"), code=2)
    assert "of this very object already" in done.error
    assert lab.hooks() == before


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("dut0",), 2, "name the interface and the object"),
        (("dut0", "flows", "nothing.o"), 3, "nothing.o"),
        (("dut0", "flow", "builtin:xdp_count"), 8, "did you mean flows?"),
        (("dut0", "builtin:xdp_count", "--reset", "nothing"), 2, "nothing"),
        (("tc", "dut0", "builtin:tc_count"), 8, "no TC program is attached on dut0"),
        (("nowhere", "builtin:xdp_count"), 6, "nowhere"),
    ],
)
def test_what_makes_no_sense(lab: Lab, words: tuple[str, ...], code: int, reason: str) -> None:
    start(lab)
    before = lab.hooks()
    assert reason in lab("upgrade", *words, code=code).error
    assert lab.hooks() == before


def test_a_successor_that_does_not_load(lab: Lab) -> None:
    start(lab)
    send(lab, WAY, 3, 1000)
    before = lab.hooks()
    lab("upgrade", "dut0", lab.object("several"), "-n", "rejected", code=4)
    assert lab.hooks() == before
    assert flows(lab) == {1000: 3}


@each_way
def test_in_a_chain(lab: Lab, way: Way) -> None:
    """The member keeps its place and its counts, the others do not notice."""
    start(lab, way, "--priority", "20")
    attach(lab, way, "count", "--priority", "90")
    send(lab, way, 3, 1000)
    lab("upgrade", "dut0", "flows", version(lab, "two"))
    send(lab, way, 2, 1000)
    found = chain(lab)
    assert list(found) == ["flows", "count"]
    assert found["flows"]["priority"] == 20
    assert [one["packets"] for one in found.values()] == [5, 5]
    assert lab.get("dut0", "flows.seen") == 5
    assert lab.get("dut0", "count.seen") == 5_000_000
    assert flows(lab) == {1000: 5}
    lab("rollback", "dut0", "flows")
    send(lab, way, 1, 1000)
    assert lab.get("dut0", "flows.seen") == 6
    assert [one["packets"] for one in chain(lab).values()] == [6, 6]


@each_way
def test_no_count_is_lost_under_traffic(lab: Lab, way: Way) -> None:
    """Back and forth between layouts while packets flow: every packet is in the variables and in the map."""
    start(lab, way)
    attach(lab, way, "last", "--priority", "90", stop=4000)
    with traffic(lab, way) as sent:
        for name in ("two", "one"):
            lab("upgrade", "dut0", "flows", version(lab, name))
        lab("rollback", "dut0", "flows")
        lab("upgrade", "dut0", "flows", version(lab, "grown"))
    total = sum(sent)
    assert total > 100
    assert verdicts(lab) == {"flows": {way.go_on: total}, "last": {way.drop: total}}
    assert lab.get("dut0", "flows.seen") == total
    assert flows(lab) == {4000: total}


def test_an_upgrade_that_is_not_confirmed_goes_back(lab: Lab) -> None:
    """To the very program that ran before, with its maps; what the new one counted in shared maps stays."""
    start(lab)
    send(lab, WAY, 3, 1000)
    [before] = lab.hooks()
    done = lab("upgrade", "dut0", version(lab, "two"), "--confirm", "1h")
    assert "netbpf confirm" in done.out
    send(lab, WAY, 2, 1000)
    assert lab.get("dut0", "seen") == 5
    done = lab("upgrade", "dut0", version(lab, "less"), code=7)
    assert "confirm" in done.error
    lab("confirm", "dut0", "--undo")
    [after] = lab.hooks()
    assert after["program"] == before["program"]
    assert lab.get("dut0", "seen") == 3
    assert flows(lab) == {1000: 5}
    lab("rollback", "dut0", code=8)


def test_an_upgrade_that_is_confirmed(lab: Lab) -> None:
    start(lab)
    lab("upgrade", "dut0", version(lab, "two"), "--confirm", "1h")
    lab("confirm", "dut0")
    [hook] = lab.hooks()
    assert hook["object"]["path"].endswith("/two.o")
    lab("rollback", "dut0", "--try")
    lab("confirm")
    [hook] = lab.hooks()
    assert hook["object"]["path"].endswith("/one.o")


@pytest.mark.parametrize("how", ["member", "namesake", "pin"])
def test_a_map_that_others_see_is_not_moved_away_from_them(lab: Lab, bpffs: Path, how: str) -> None:
    """The successor that wants another layout is refused, and says why."""
    start(lab)
    if how == "member":
        lab(
            "attach", "xdp", "dut0", version(lab, "two"), "--name", "second",
            "--share", "flows=dut0/xdp/flows",
        )  # fmt: skip
    elif how == "namesake":
        lab.wires(1)
        lab(
            "attach", "xdp", "dut1", version(lab, "two"), "--name", "flows",
            "--share", "flows=dut0/xdp/flows",
        )  # fmt: skip
    else:
        [hook] = lab.hooks()
        number = next(one["id"] for one in lab("stats", "dut0", "--json").json["hooks"][0]["maps"])
        assert number in hook["program"]["map_ids"]
        lab.run("bpftool", "map", "pin", "id", number, bpffs / "mine")
    before = lab.hooks()
    done = lab("upgrade", "dut0", "flows", version(lab, "grown"), code=3)
    assert "flows" in done.error
    assert lab.hooks() == before
    # What stays as it is may stay shared.
    lab("upgrade", "dut0", "flows", version(lab, "less"))
