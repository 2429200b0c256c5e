"""``netbpf stats``: what was counted, for any program, exactly as many packets as were sent."""

import json
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from tests.cli.lab import OBJECTS, Done, Lab, arp, frame, udp

PROGRAM_KEYS = {"id", "name", "tag", "type", "map_ids"}


def check_contract(done: Done) -> list[dict[str, Any]]:
    """The JSON that scripts rely on; its hooks."""
    found = done.json
    assert set(found) == {"schema", "hooks"}
    assert found["schema"] == "netbpf.stats/1"
    for hook in found["hooks"]:
        assert {"interface", "hook", "program", "run", "variables", "maps"} <= set(hook)
        assert set(hook["program"]) == PROGRAM_KEYS
        assert hook["run"] is None or set(hook["run"]) == {"count", "time_ns"}
        assert isinstance(hook["variables"], dict)
        for table in hook["maps"]:
            assert {"name", "id", "type", "total", "entries"} <= set(table)
            assert isinstance(table["entries"], list)
            for entry in table["entries"]:
                assert {"key", "value"} <= set(entry)
    return list(found["hooks"])


def stats(lab: Lab, *args: object) -> dict[str, Any]:
    [hook] = check_contract(lab("stats", "dut0", "--json", *args))
    return hook


def tables(hook: dict[str, Any]) -> dict[str, list[tuple[Any, Any]]]:
    return {one["name"]: [(e["key"], e["value"]) for e in one["entries"]] for one in hook["maps"]}


def entries(hook: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {one["name"]: one["entries"] for one in hook["maps"]}


# --- netbpf's own counters ---


@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_verdicts_and_protocols_are_what_was_sent(lab: Lab, kind: str) -> None:
    lab("attach", kind, "dut0", f"builtin:{kind}_count")
    ip4, ip6 = IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")
    eth = Ether(src=lab.wire.peer.mac, dst=lab.wire.dut.mac)
    flows = {
        "ipv4/udp": (3, bytes(eth / ip4 / UDP(dport=1) / (b"x" * 30))),
        "ipv4/tcp": (2, bytes(eth / ip4 / TCP(dport=2))),
        "ipv4/icmp": (4, bytes(eth / ip4 / ICMP())),
        "ipv4/other": (1, bytes(eth / IP(src="10.0.0.1", dst="10.0.0.2", proto=99))),
        "ipv6/udp": (5, bytes(eth / ip6 / UDP(dport=3))),
        "ipv6/icmpv6": (2, bytes(eth / ip6 / ICMPv6EchoRequest())),
        "arp": (6, bytes(eth / ARP(psrc="10.0.0.1", hwsrc=lab.wire.peer.mac))),
    }
    for number, packet in flows.values():
        lab.wire.peer.send([packet] * number)
    hook = stats(lab)
    verdict = hook["variables"]["verdict"].removeprefix("XDP_").removeprefix("TC_ACT_").lower()
    total = sum(number for number, _ in flows.values())
    size = sum(number * len(packet) for number, packet in flows.values())
    moved = {name: c for name, c in hook["verdicts"].items() if c["packets"]}
    assert moved == {verdict: {"packets": total, "bytes": size}}
    protocols = {name: c for name, c in hook["protocols"].items() if c["packets"] and "/" in name}
    assert protocols == {
        name: {"packets": number, "bytes": number * len(packet)}
        for name, (number, packet) in flows.items()
        if "/" in name
    }
    assert hook["protocols"]["arp"]["packets"] == 6
    assert hook["protocols"]["ipv4"]["packets"] == 10
    assert hook["protocols"]["ipv6"]["packets"] == 7
    # The same for people.
    text = lab("stats", "dut0").lines
    assert [line.split() for line in text if line.strip().startswith(f"{verdict} ")] == [
        [verdict, f"{total:,}", f"{size:,}"]
    ]
    assert [line.split() for line in text if line.strip().startswith("ipv4/udp ")] == [
        ["ipv4/udp", "3", str(3 * len(flows["ipv4/udp"][1]))]
    ]
    assert not any("netbpf_verdicts" in line for line in text)


def test_vlan_tags_do_not_hide_the_protocol(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    packet = (
        Ether(dst=lab.wire.dut.mac) / Dot1Q(vlan=5) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP()
    )
    lab.wire.peer.send([packet] * 3)
    protocols = stats(lab)["protocols"]
    assert (protocols["vlan"]["packets"], protocols["ipv4/udp"]["packets"]) == (3, 3)


def test_nothing_counted_yet(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    assert any("(none yet)" in line for line in lab("stats", "dut0").lines)


# --- variables and maps of any program ---

OUTER = {
    "in": {"a": 1, "b": [2, 3]}, "both": {"word": 0x04030201, "bytes": [1, 2, 3, 4]}, "low": 5, "high": 17,
    "rest": 70000, "below": -3, "color": "BLUE", "on": True, "name": "netbpf",
}  # fmt: skip


@pytest.fixture
def counted(lab: Lab) -> Lab:
    """``kinds`` after three packets of 100 bytes to port 53, and one of 200 to port 80."""
    lab("attach", "xdp", "dut0", lab.object("kinds"))
    udp(lab.wire.peer, 53, number=3)
    udp(lab.wire.peer, 80, size=200)
    arp(lab.wire.peer)
    return lab


def test_variables_of_every_type(counted: Lab) -> None:
    assert stats(counted)["variables"] == {
        "packets": 4, "seen": True, "numbers": [0, 0, 8, 0], "negative": -9, "color": "RED",
        "grid": [[1, 2], [3, 4]], "outer": OUTER, "port": 53,
    }  # fmt: skip


def test_variables_for_people(counted: Lab) -> None:
    rows = [line.split(maxsplit=3) for line in counted("stats", "dut0").lines]
    for row in (
        ["packets", "u64", ".bss", "4"],
        ["seen", "bool", ".bss", "true"],
        ["numbers", "u32[4]", ".bss", "[0, 0, 8, 0]"],
        ["negative", "s32", ".data", "-9"],
    ):
        assert row in rows
    text = counted("stats", "dut0").out
    assert "below: -3, color: BLUE, on: true, name: netbpf}" in text
    assert [
        line
        for line in text.splitlines()
        if line.split()[:4] == ["port", "u16", ".rodata", "(fixed)"]
    ]


def flow(port: int) -> dict[str, Any]:
    return {"saddr": "10.0.0.1", "daddr": "10.0.0.2", "sport": 1000, "dport": port}


def test_maps_are_decoded(counted: Lab) -> None:
    hook = stats(counted)
    found = tables(hook)
    assert sorted(found["flows"], key=str) == [
        (flow(53), {"packets": 3, "bytes": 300}),
        (flow(80), {"packets": 1, "bytes": 200}),
    ]
    assert found["per_cpu"] == [(0, {"packets": 0, "bytes": 0}), (1, {"packets": 4, "bytes": 500})]
    assert sorted(found["per_port"]) == [(53, 3), (80, 1)]
    assert found["prefixes"] == [("10.0.0.0/8", "GREEN")]
    assert found["states"][1] == (1, OUTER)
    assert sorted(found["large"]) == [(n, n) for n in range(30)]
    kinds = {one["name"]: (one["type"], one["total"]) for one in hook["maps"]}
    assert kinds["flows"] == ("hash", 2)
    assert kinds["per_port"] == ("percpu_hash", 2)
    assert kinds["waiting"] == ("queue", 0)
    # Ids are the kernel's own.
    for one in hook["maps"]:
        assert (
            json.loads(counted.run("bpftool", "-j", "map", "show", "id", one["id"]))["type"]
            == one["type"]
        )


def test_maps_for_people(counted: Lab) -> None:
    lines = [line.strip() for line in counted("stats", "dut0").lines]
    at = next(i for i, line in enumerate(lines) if line.startswith("flows (hash, map "))
    assert [line.split("}")[0] + "}" for line in lines[at + 1 : at + 3]] == [
        "{saddr: 10.0.0.1, daddr: 10.0.0.2, sport: 1000, dport: 53}",
        "{saddr: 10.0.0.1, daddr: 10.0.0.2, sport: 1000, dport: 80}",
    ]
    at = next(i for i, line in enumerate(lines) if line.startswith("per_cpu "))
    assert lines[at + 1].split(maxsplit=1) == ["1", "{packets: 4, bytes: 500}"]
    assert lines[at + 2] == "(1 zero entries not shown)"
    at = next(i for i, line in enumerate(lines) if line.startswith("per_port "))
    assert [line.split() for line in lines[at + 1 : at + 3]] == [["53", "3"], ["80", "1"]]
    assert any(line.startswith("waiting (queue") and "cannot be listed" in line for line in lines)


def test_a_large_map_is_cut_with_a_count(counted: Lab) -> None:
    lines = [line.strip() for line in counted("stats", "dut0").lines]
    at = next(i for i, line in enumerate(lines) if line.startswith("large "))
    assert [line.split()[0] for line in lines[at + 1 : at + 21]] == [str(n) for n in range(20)]
    assert lines[at + 21] == "(10 more of 30; --all shows them)"
    lines = [line.strip() for line in counted("stats", "dut0", "--all").lines]
    at = next(i for i, line in enumerate(lines) if line.startswith("large "))
    assert [line.split()[0] for line in lines[at + 1 : at + 31]] == [str(n) for n in range(30)]


def test_json_is_cut_at_a_thousand_and_counts_all(lab: Lab) -> None:
    source = (OBJECTS / "shared.bpf.c").read_text()
    path = lab.compiled("#define ENTRIES 3000\n" + source)
    lab("attach", "xdp", "dut0", path)
    [shared] = [one for one in stats(lab)["maps"] if one["name"] == "shared"]
    assert (shared["total"], len(shared["entries"])) == (3000, 1000)
    [shared] = [one for one in stats(lab, "--all")["maps"] if one["name"] == "shared"]
    assert (shared["total"], len(shared["entries"])) == (3000, 3000)


def test_the_parts_of_per_cpu_values(counted: Lab) -> None:
    sums = entries(stats(counted))
    assert not any("per_cpu" in one for found in sums.values() for one in found)
    parts = entries(stats(counted, "--all"))
    assert not any("per_cpu" in one for one in parts["flows"])
    [entry] = [one for one in parts["per_port"] if one["key"] == 53]
    assert sum(entry["per_cpu"]) == entry["value"] == 3
    assert sum(one["packets"] for one in parts["per_cpu"][1]["per_cpu"]) == 4
    lines = [line.split() for line in counted("stats", "dut0", "--all").lines]
    assert sum(line[:1] == ["cpu"] for line in lines) == (2 + 2) * len(entry["per_cpu"])


LEGACY = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct bpf_map_def { unsigned int type, key_size, value_size, max_entries, map_flags; };
struct bpf_map_def SEC("maps") table = { BPF_MAP_TYPE_ARRAY, 4, 4, 2, 0 };
struct bpf_map_def SEC("maps") pairs = { BPF_MAP_TYPE_HASH, 4, 6, 8, 0 };
struct bpf_map_def SEC("maps") sums = { BPF_MAP_TYPE_PERCPU_ARRAY, 4, 8, 1, 0 };
int number = 0x11223344;
SEC("xdp") int plain(struct xdp_md *ctx)
{
	__u32 zero = 0, one = 1, *value = bpf_map_lookup_elem(&table, &one);
	__u64 *sum = bpf_map_lookup_elem(&sums, &zero);
	__u8 six[6] = { 1, 2, 3, 4, 5, 6 };

	if (value)
		*value += number;
	if (sum)
		*sum += 1;
	bpf_map_update_elem(&pairs, &one, six, BPF_ANY);
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""


def test_hex_where_nothing_names_the_types(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.compiled(LEGACY, debug=False))
    udp(lab.wire.peer, number=3)
    hook = stats(lab)
    assert hook["variables"] == {".data": "0x11223344"} or list(hook["variables"].values()) == [
        "0x11223344"
    ]
    found = tables(hook)
    assert found["table"] == [
        (0, "0x00000000"),
        (1, f"{3 * 0x11223344:#010x}"),
    ]
    assert found["pairs"] == [("0x00000001", "01 02 03 04 05 06")]
    assert found["sums"] == [(0, "0x0000000000000003")]
    text = lab("stats", "dut0").out
    assert "01 02 03 04 05 06" in text
    assert "0x11223344" in text


def test_a_program_of_another_tool(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    udp(lab.wire.peer, number=7)
    hook = stats(lab)
    assert hook["variables"] == {"dropped": 7, "generation": 0}
    assert "dropped" in lab("stats", "dut0").out


def test_every_hook_of_an_interface_in_order(lab: Lab) -> None:
    for kind, option in (("tc", "--egress"), ("tc", "--ingress")):
        lab("attach", kind, "dut0", "builtin:tc_count", option)
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    hooks = check_contract(lab("stats", "dut0", "--json"))
    assert [one["hook"] for one in hooks] == ["xdp", "tc/ingress", "tc/egress"]
    heads = [line for line in lab("stats", "dut0").lines if line.startswith("dut0 ")]
    assert [head.split(":")[0] for head in heads] == [
        "dut0 xdp (native)", "dut0 tc/ingress (clsact)", "dut0 tc/egress (clsact)",
    ]  # fmt: skip


# --- runs ---


def test_runs_are_null_where_the_kernel_has_counted_none(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("filter"))
    udp(lab.wire.peer, number=3)
    hook = stats(lab)
    # Another test's --watch makes the kernel count the runs of all programs, so bpftool has to say.
    seen = json.loads(lab.run("bpftool", "-j", "prog", "show", "id", hook["program"]["id"]))
    counted = Path("/proc/sys/kernel/bpf_stats_enabled").read_text().strip() == "1"
    known = {"count": seen.get("run_cnt", 0), "time_ns": seen.get("run_time_ns", 0)}
    assert hook["run"] == (known if counted or any(known.values()) else None)
    assert ("runs" in lab("stats", "dut0").lines[0]) == bool(known["count"])


def test_runs_counted_by_someone_are_shown(lab: Lab) -> None:
    from netbpf.live.reader import RunStatistics

    lab("attach", "xdp", "dut0", lab.object("filter"))
    with RunStatistics() as statistics:
        assert statistics.counting
        udp(lab.wire.peer, number=5)
    run = stats(lab)["run"]
    assert run["count"] == 5
    assert run["time_ns"] > 0
    assert ", 5 runs, " in lab("stats", "dut0").lines[0]


def test_a_sender_is_as_good_as_its_frames(lab: Lab) -> None:
    """The frames these tests count are what they claim to be."""
    packet = Ether(frame(lab.wire.peer, 53, size=100))
    assert (packet[IP].dst, packet[UDP].dport, len(packet)) == ("10.0.0.2", 53, 100)
