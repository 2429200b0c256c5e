"""A user's own program with netbpf's headers: the example of docs/programs.md, and counters that show by name."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import netbpf
from netns_fixtures.rig import Rig
from tests.programs.filters import OnWire
from tests.programs.frames import tagged, tcp4, udp4, udp6

PAGE: Final = (Path(__file__).parents[2] / "docs" / "programs.md").read_text()
[EXAMPLE] = re.findall(r"```c\n(.*?)```", PAGE, re.DOTALL)
OWN: Final = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <netbpf/protocols.h>
#include <netbpf/stats.h>
SEC("xdp") int own_xdp(struct xdp_md *ctx)
{
	netbpf_count_proto(ctx);
	return netbpf_count(ctx, netbpf_frame_len(ctx) > 100 ? XDP_DROP : XDP_PASS);
}
SEC("tc") int own_tc(struct __sk_buff *ctx)
{
	netbpf_count_proto(ctx);
	return netbpf_count(ctx, netbpf_frame_len(ctx) > 100 ? TC_ACT_SHOT : TC_ACT_OK);
}
char _license[] SEC("license") = "GPL";
"""


def command(rig: Rig, *words: str) -> str:
    """Run netbpf where the program is, and return what it prints."""

    def run() -> "subprocess.CompletedProcess[str]":
        words_ = [sys.executable, "-m", "netbpf", *words]
        return subprocess.run(words_, capture_output=True, text=True, check=False)

    done = rig.wire.dut.run(run)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.attach_kinds("xdp-native", "tc-clsact")
def test_verdicts_and_protocols_of_an_own_program_show_in_stats(
    rig: Rig, private_state: None, tmp_path: Path
) -> None:
    source, made = tmp_path / "own.bpf.c", tmp_path / "own.bpf.o"
    source.write_text(OWN)
    subprocess.run(
        [sys.executable, "-m", "netbpf", "compile", str(source), "-o", str(made)],
        check=True,
        capture_output=True,
    )
    rig.attach(str(made))
    rig.send(tcp4(), udp6(), tcp4() + bytes(100))
    text = command(rig, "stats", rig.wire.dut.ifname)
    passed, dropped = ("PASS", "DROP") if rig.kind.family == "xdp" else ("OK", "SHOT")
    assert re.search(rf"(?i)\b{passed}\b.*\b2\b", text)
    assert re.search(rf"(?i)\b{dropped}\b.*\b1\b.*\b154\b", text)
    [hook] = json.loads(command(rig, "stats", rig.wire.dut.ifname, "--json"))["hooks"]
    verdicts: dict[str, Any] = hook["verdicts"]
    size = len(tcp4()) + len(udp6())
    moved = {name: one for name, one in verdicts.items() if one["packets"]}
    assert moved == {
        passed.lower(): {"packets": 2, "bytes": size},
        dropped.lower(): {"packets": 1, "bytes": 154},
    }
    protocols = {name: one["packets"] for name, one in hook["protocols"].items() if one["packets"]}
    assert protocols == {"ipv4": 2, "ipv4/tcp": 2, "ipv6": 1, "ipv6/udp": 1}


@pytest.mark.attach_kinds("xdp")
def test_the_example_of_the_documentation_drops_a_port(
    rig: Rig, private_state: None, tmp_path: Path
) -> None:
    source = tmp_path / "drop_udp_port.bpf.c"
    source.write_text(EXAMPLE)
    program = rig.attach(source, variables={"port": 53})
    with program.changes({
        "verdicts[drop].packets": 1, "verdicts[drop].bytes": len(udp4()),
        "verdicts[pass].packets": 5, "verdicts[pass].bytes": 3 * len(udp4()) + 4 + len(tcp4()) + len(udp6()),
    }):  # fmt: skip
        rig.send(udp4(), udp4(dport=54), udp4(frag=3), tcp4(), udp6(), tagged(udp4(), 0x8100))
    rig.expect(udp4(dport=54), udp4(frag=3), tcp4(), udp6(), tagged(udp4(), 0x8100))


@pytest.mark.attach_kinds("xdp")
def test_by_default_the_example_drops_nothing(
    rig: Rig, private_state: None, tmp_path: Path
) -> None:
    source = tmp_path / "drop_udp_port.bpf.c"
    source.write_text(EXAMPLE)
    rig.attach(source)
    rig.send(udp4(), udp4(dport=0))
    rig.expect(udp4(), udp4(dport=0))


@pytest.mark.attach_kinds("xdp-skb")
def test_every_set_command_of_the_documentation_is_accepted(packet_filter: OnWire) -> None:
    lines = re.findall(r"^netbpf set eth0 (\S+=.*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)
    texts = [line.strip().strip("'") for line in lines if "min_bytes" not in line]
    assert len(texts) >= 10
    packet_filter.rules(*texts)
    assert packet_filter.attached.get("policy") == "DROP"
    assert netbpf.get(packet_filter.rig.wire.dut.ifname, "src4[192.0.2.0/24]",
                      netns=packet_filter.rig.wire.dut.namespace) == {"action": "DROP", "rule": 10}  # fmt: skip
