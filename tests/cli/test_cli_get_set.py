"""``netbpf get`` and ``set``: variables and map entries of running programs, by name."""

import json
from typing import Any

import pytest

from netbpf.bpf.map import possible_cpus
from tests.cli.lab import Lab, frame, udp
from tests.cli.test_cli_stats import OUTER, flow
from tests.support.flood import flood


@pytest.fixture
def kinds(lab: Lab) -> Lab:
    """``kinds`` after two packets to port 53 and one to port 80."""
    lab("attach", "xdp", "dut0", lab.object("kinds"))
    udp(lab.wire.peer, 53, number=2)
    udp(lab.wire.peer, 80)
    return lab


# --- reading ---

VALUES: dict[str, Any] = {
    "packets": 3,
    "seen": True,
    "color": "RED",
    "negative": -8,
    "port": 53,
    "numbers": [0, 0, 6, 0],
    "numbers[2]": 6,
    "grid[1][0]": 3,
    "outer": OUTER,
    "outer.in": {"a": 1, "b": [2, 3]},
    "outer.in.b[1]": 3,
    "outer.both.word": 0x04030201,
    "outer.high": 17,
    "outer.below": -3,
    "kinds.packets": 3,
    "kinds.outer.name": "netbpf",
    "per_cpu[1]": {"packets": 3, "bytes": 300},
    "per_cpu[1].bytes": 300,
    "per_port[53]": 2,
    "prefixes[10.0.0.0/8]": "GREEN",
    "states[1].in.b[0]": 2,
    "flows[{saddr: 10.0.0.1, daddr: 10.0.0.2, sport: 1000, dport: 80}].packets": 1,
    "prefixes": [{"key": "10.0.0.0/8", "value": "GREEN"}],
}


@pytest.mark.parametrize("name", VALUES)
def test_a_name(kinds: Lab, name: str) -> None:
    assert kinds("get", "dut0", name, "--json").json == {
        "schema": "netbpf.get/1",
        "variables": {name: VALUES[name]},
    }


def test_one_value_is_printed_bare_and_several_with_their_names(kinds: Lab) -> None:
    assert kinds("get", "dut0", "packets").out == "3\n"
    assert kinds("get", "dut0", "outer.in").out == "{a: 1, b: [2, 3]}\n"
    assert kinds("get", "dut0", "packets", "color").lines == ["packets = 3", "color = RED"]


def test_a_whole_map_is_printed_an_entry_a_line_as_set_takes_it(kinds: Lab) -> None:
    done = kinds("get", "dut0", "flows")
    assert [line.partition("]")[0] for line in done.lines] == [
        "flows[{saddr: 10.0.0.1, daddr: 10.0.0.2, sport: 1000, dport: 53}",
        "flows[{saddr: 10.0.0.1, daddr: 10.0.0.2, sport: 1000, dport: 80}",
    ]
    kinds("set", "dut0", done.lines[0].replace(" = ", "=").replace("packets: 2", "packets: 20"))
    found = kinds.get("dut0", "flows")
    assert {"key": flow(53), "value": {"packets": 20, "bytes": 200}} in found
    # A thousand entries in order of their numbers, not of their digits.
    keys = [line.split("]")[0] for line in kinds("get", "dut0", "large").lines]
    assert keys == [f"large[{n}" for n in range(30)]


def test_names_that_are_not_there(kinds: Lab) -> None:
    assert "did you mean packets?" in kinds("get", "dut0", "packet", code=3).error
    assert "there are: color, flows" in kinds("get", "dut0", "zzzzzz", code=3).error
    assert "did you mean high?" in kinds("get", "dut0", "outer.hihg", code=3).error
    assert "0..3" in kinds("get", "dut0", "numbers[4]", code=3).error
    assert kinds("get", "dut0", "per_port[99]", code=1).error == "map per_port has no entry 99"
    assert "the key of large" in kinds("get", "dut0", "large[x]", code=2).error
    assert "queue" in kinds("get", "dut0", "waiting", code=5).error
    assert "bracket" in kinds("get", "dut0", "large[1", code=2).error
    # One that is wrong, and nothing is printed.
    assert kinds("get", "dut0", "packets", "zzzzzz", code=3).out == ""


def test_nothing_attached(lab: Lab) -> None:
    assert lab("get", "dut0", "x", code=8).error == "no XDP or TC program on dut0"
    assert lab("set", "dut0", "x=1", code=8).error == "no XDP or TC program on dut0"


# --- which program ---


@pytest.fixture
def two(lab: Lab) -> Lab:
    """Two programs with a variable of the same name."""
    path = lab.object("filter")
    lab("attach", "xdp", "dut0", path)
    lab("attach", "tc", "dut0", path, "--egress")
    return lab


def test_a_name_that_several_have_lists_its_owners(two: Lab) -> None:
    xdp, tc = (one["program"]["id"] for one in two.hooks())
    done = two("get", "dut0", "dropped", code=2)
    assert done.error == (
        f"dropped is in several programs on dut0: xdp_filter (xdp, program {xdp}), "
        f"tc_filter (tc/egress, program {tc}); say which: xdp_filter.dropped, or --hook xdp"
    )
    assert two("set", "dut0", "dropped=1", code=2).error.startswith(
        "dropped is in several programs"
    )


def test_chosen_by_program_or_hook(two: Lab) -> None:
    udp(two.wire.peer, number=2)
    assert two.get("dut0", "xdp_filter.dropped") == 2
    assert two.get("dut0", "tc_filter.dropped") == 0
    assert two.get("dut0", "dropped", "--hook", "xdp") == 2
    assert two.get("dut0", "dropped", "--hook", "tc/egress") == 0
    two("set", "dut0", "dropped=9", "--hook", "tc/egress")
    two("set", "dut0", "xdp_filter.dropped=8")
    assert two.get("dut0", "tc_filter.dropped") == 9
    assert two.get("dut0", "xdp_filter.dropped") == 8
    assert two("get", "dut0", "dropped", "--hook", "tc/ingress", code=8).error
    assert two("get", "dut0", "dropped", "--hook", "sideways", code=2).error


def test_one_program_on_several_hooks_is_no_conflict(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut*", "builtin:xdp_globals")
    assert lab.get("dut1", "packets") == 0
    lab("set", "dut0", "min_bytes=20")
    assert lab.get("dut1", "min_bytes") == 20


# --- writing ---


def test_written_values_are_read_back_and_printed(kinds: Lab) -> None:
    changes = {
        "packets": "1_000", "negative": "-1", "seen": "off", "color": "blue", "numbers[3]": "0x10", "outer.high": "31",
        "outer.name": "abc", "grid": "[[9, 8], [7, 6]]", "per_port[5]": "[1, 2]", "prefixes[192.168.0.0/16]": "BLUE",
        "large[77]": "78", "states[2].color": "GREEN",
    }  # fmt: skip
    cpus = ", ".join(["1", "2", *["0"] * 62][: possible_cpus()])
    changes["per_port[5]"] = f"[{cpus}]"
    done = kinds("set", "dut0", *(f"{name}={value}" for name, value in changes.items()))
    assert done.lines[:4] == ["packets = 1000", "negative = -1", "seen = false", "color = BLUE"]
    found = kinds("get", "dut0", *changes, "--json").json["variables"]
    assert found == {
        "packets": 1000, "negative": -1, "seen": False, "color": "BLUE", "numbers[3]": 16, "outer.high": 31,
        "outer.name": "abc", "grid": [[9, 8], [7, 6]], "per_port[5]": 3 if possible_cpus() > 1 else 1,
        "prefixes[192.168.0.0/16]": "BLUE", "large[77]": 78, "states[2].color": "GREEN",
    }  # fmt: skip
    # Neighbours kept what they had.
    assert kinds.get("dut0", "outer") == OUTER | {"high": 31, "name": "abc"}
    assert kinds.get("dut0", "numbers") == [0, 0, 6, 16]


def test_json_of_set(kinds: Lab) -> None:
    found = kinds("set", "dut0", "packets=5", "--json").json
    assert found == {"schema": "netbpf.set/1", "variables": {"packets": 5}}


def test_two_parts_of_one_entry_in_one_call(kinds: Lab) -> None:
    kinds("set", "dut0", "states[3].color=GREEN", "states[3].name=xy", "states[3].in.b[1]=7")
    found = kinds.get("dut0", "states[3]")
    assert (found["color"], found["name"], found["in"]["b"]) == ("GREEN", "xy", [0, 7])


def test_all_or_nothing(kinds: Lab) -> None:
    kinds("set", "dut0", "packets=77", "outer.high=32", code=2)
    assert kinds.get("dut0", "packets") == 3


MISFITS = {
    "outer.high=32": "outer.high is u5: 32 is out of range 0..31",
    "outer.below=-9": "-8..7",
    "packets=-1": "packets is u64: -1 is out of range 0..18446744073709551615",
    "seen=maybe": "maybe",
    "color=PINK": "PINK",
    "numbers=[1,2,3,4,5]": "5 elements",
    "outer=5": "outer",
    "large[1]=x": "large is u32",
    "prefixes[10.0.0.0/33]=RED": "0..32",
    "flows=3": "flows is a map; name an entry: flows[KEY]=VALUE",
    "packets": "write NAME=VALUE",
}


@pytest.mark.parametrize("change", MISFITS)
def test_what_does_not_fit(kinds: Lab, change: str) -> None:
    before = kinds("stats", "dut0", "--json").json["hooks"][0]["variables"]
    assert MISFITS[change] in kinds("set", "dut0", change, code=2).error
    assert kinds("stats", "dut0", "--json").json["hooks"][0]["variables"] == before


def test_frozen_settings_are_refused_with_the_reason_and_the_way(kinds: Lab) -> None:
    done = kinds("set", "dut0", "port=54", code=5)
    assert done.error == (
        "port is in .rodata, which is frozen since the program was loaded: the verifier relied on its value; "
        "load it anew: netbpf attach ... --replace --set port=VALUE"
    )
    assert kinds.get("dut0", "port") == 53


def test_a_queue_takes_nothing(kinds: Lab) -> None:
    assert "waiting" in kinds("set", "dut0", "waiting[0]=1", code=5).error


def test_behind_the_end_of_an_array(kinds: Lab) -> None:
    assert "states" in kinds("set", "dut0", "states[4].on=1", code=3).error


def test_a_full_map(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("kinds"))
    for port in range(16):
        lab("set", "dut0", f"prefixes[10.{port}.0.0/16]=RED")
    done = lab("set", "dut0", "prefixes[11.0.0.0/8]=RED", code=1)
    assert "prefixes" in done.error
    assert "16 of 16" in done.error


def test_per_cpu_values(kinds: Lab) -> None:
    cpus = possible_cpus()
    done = kinds("set", "dut0", "per_cpu[1]=5", code=2)
    assert done.error.endswith(f"give a list of {cpus} values, or 0 to clear them all")
    assert "keeps a value per CPU" in kinds("set", "dut0", "per_cpu[1].bytes=5", code=2).error
    kinds("set", "dut0", "per_cpu[1]=0")
    assert kinds.get("dut0", "per_cpu[1]") == {"packets": 0, "bytes": 0}


def test_without_types_only_whole_values(lab: Lab) -> None:
    from tests.cli.test_cli_stats import LEGACY

    lab("attach", "xdp", "dut0", lab.compiled(LEGACY, debug=False))
    lab("set", "dut0", "table[0]=5", "pairs[7]=06 05 04 03 02 01")
    assert lab.get("dut0", "table[0]") == "0x00000005"
    assert lab.get("dut0", "pairs[7]") == "06 05 04 03 02 01"
    assert "table" in lab("set", "dut0", "table[0].x=5", code=5).error
    assert "range" in lab("set", "dut0", "table[0]=0x100000000", code=2).error


STATIC = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int counts(struct xdp_md *ctx)
{
	static __u64 calls;
	static const volatile char greeting[] = "hello";

	calls++;
	return greeting[0] ? XDP_PASS : XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""


def test_static_variables_of_a_function(lab: Lab) -> None:
    # The program is called as the function, so the name in front could be either.
    lab("attach", "xdp", "dut0", lab.compiled(STATIC))
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "counts.calls") == 2
    lab("set", "dut0", "counts.calls=40")
    assert lab.get("dut0", "counts.counts.calls") == 40
    assert "is frozen" in lab("set", "dut0", "counts.greeting=bye", code=5).error
    assert "did you mean counts.calls" in lab("get", "dut0", "counts.cals", code=3).error


# --- live ---


def test_the_running_program_obeys(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("settings"), "--set", "cfg.port=53")
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "dropped") == 2
    lab("set", "dut0", "live=100")
    udp(lab.wire.peer, number=2)
    assert lab.get("dut0", "dropped") == 202


def test_a_map_entry_decides_about_packets(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_drop")
    with lab.wire.dut.capture() as arrived:
        arrived.expect(udp(lab.wire.peer))
        lab("set", "dut0", "src4[10.0.0.0/8]={action: drop, rule: 7}")
        udp(lab.wire.peer, number=3)
        arrived.expect_none()


@pytest.mark.parametrize("variable", ["live", "written"], ids=[".data", ".bss"])
def test_writing_disturbs_no_counter_beside_it(lab: Lab, variable: str) -> None:
    source = (
        '#include "net.h"\n__u64 packets; __u64 written; __u64 counted SEC(".data") = 0; __u32 live = 1;\n'
        'SEC("xdp") int count(struct xdp_md *ctx)\n{\n\tadd(packets, 1);\n\tadd(counted, 1);\n'
        "\treturn live || written ? XDP_DROP : XDP_PASS;\n}\n"
    )
    lab("attach", "xdp", "dut0", lab.compiled(source))
    with flood(lab.wire.peer, frame(lab.wire.peer)) as traffic:
        for number in range(1, 41):
            lab("set", "dut0", f"{variable}={number}")
    found = json.loads(lab("get", "dut0", "packets", "counted", variable, "--json").out)[
        "variables"
    ]
    assert traffic.sent > 1000
    assert found == {"packets": traffic.sent, "counted": traffic.sent, variable: 40}
