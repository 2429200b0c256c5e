"""``netbpf diff``: two programs over the same packets."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

import netbpf
from netbpf.errors import UsageError
from netbpf.packets.diff import overlaps
from netbpf.packets.diff_groups import MOST_GROUPS, Groups
from netbpf.packets.replay_model import Sample
from netbpf.packets.replay_runner import Piece
from tests.packets.captures import pcap, read
from tests.support.compiling import compile_c

NETBPF = Path(sys.executable).with_name("netbpf")
SOURCE = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#ifndef PORT
#define PORT 53
#endif
#ifndef STEP
#define STEP 1
#endif
SEC("xdp") int filter(struct xdp_md *ctx)
{
    struct ethhdr *eth = (void *)(long)ctx->data;
    struct iphdr *ip = (void *)(eth + 1);
    struct udphdr *udp = (void *)(ip + 1);
    if ((void *)(udp + 1) > (void *)(long)ctx->data_end || ip->protocol != 17)
        return XDP_PASS;
    if (udp->dest == bpf_htons(PORT))
        return XDP_DROP;
    if (udp->dest == bpf_htons(80))
        ip->ttl -= STEP;
    return XDP_PASS;
}
SEC("tc") int other(struct __sk_buff *skb) { return 0; }
"""


def frame(port: int, number: int) -> bytes:
    ether = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    ip = IP(src=f"10.0.0.{number % 200}", dst="10.0.0.250", ttl=20)
    return bytes(ether / ip / UDP(sport=1000 + number, dport=port) / bytes(number % 50))


FRAMES = [
    *(frame((53, 80, 81, 7)[number % 4], number) for number in range(40)),
    bytes(Ether() / IP() / TCP()),
    bytes(10),
]
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(name: str, *defines: str) -> Path:
        path = tmp_path / f"{name}.o"
        path.write_bytes(compile_c(SOURCE, flags=tuple(f"-D{one}" for one in defines)))
        return path

    return make


@pytest.fixture(params=["few packets, one by one", "many, in batches"])
def times(request: pytest.FixtureRequest) -> int:
    return 1 if request.param.startswith("few") else 200


@pytest.fixture
def capture(tmp_path: Path, times: int) -> Path:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES * times))
    return path


def test_another_verdict(build: Build, capture: Path, times: int, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    result = netbpf.diff(build("a"), build("b", "PORT=81"), capture, program="filter", output=out)
    assert (result.packets, result.different) == (41 * times, 20 * times)
    assert result.skipped == {"shorter than 14 bytes, an Ethernet header": times}
    one, other = result.groups
    assert (one.old, one.new, one.protocol, one.changed) == ("drop", "pass", "ipv4/udp", ())
    assert (other.old, other.new, other.changed) == ("pass", "drop", ())
    assert one.packets == other.packets == 10 * times
    assert one.common["udp.dstport"] == 53
    assert one.common["ip.dst"] == "10.0.0.250"
    assert "ip.src" not in one.common
    assert other.common["udp.dstport"] == 81
    assert one.ranges["udp.srcport"] == (1000, 1036)
    assert one.ranges["length"] == (42, 42 + 36)
    assert [sample.number for sample in one.samples] == [1, 5, 9]
    expected = [data for data in FRAMES[:40] if data[36:38] in (b"\0\x35", b"\0\x51")]
    assert [sample.data for sample in read(out)[0]] == expected * times
    command = ["tshark", "-r", str(out), "-c", "2", "-T", "fields", "-e", "frame.comment"]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert rows == ["netbpf: drop -> pass", "netbpf: pass -> drop"]


def test_another_output(build: Build, capture: Path, times: int) -> None:
    old, new = build("a"), build("b", "STEP=2")
    result = netbpf.diff(old, new, capture, program="filter")
    assert result.different == 10 * times
    (group,) = result.groups
    assert (group.old, group.new, group.changed) == ("pass", "pass", ("ip.ttl",))
    assert group.common["udp.dstport"] == 80
    ignored = netbpf.diff(old, new, capture, program="filter", ignore=["ip.ttl"])
    assert (ignored.packets, ignored.different, ignored.groups) == (41 * times, 0, ())


def test_what_comes_out_of_a_drop_does_not_count(tmp_path: Path) -> None:
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("xdp") int gone(struct xdp_md *ctx)
        {
            unsigned char *data = (void *)(long)ctx->data;
            if ((void *)(data + 14) <= (void *)(long)ctx->data_end)
                data[0] = VALUE;
            return VALUE & 1;
        }
    """
    for value in (1, 3, 2):
        made = compile_c(source, flags=(f"-DVALUE={value}",))
        (tmp_path / f"{value}.o").write_bytes(made)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES[:5]))
    assert netbpf.diff(tmp_path / "1.o", tmp_path / "3.o", path).different == 0
    (group,) = netbpf.diff(tmp_path / "1.o", tmp_path / "2.o", path).groups
    assert (group.old, group.new, group.changed) == ("drop", "aborted", ())


def test_the_same_program_does_not_differ(build: Build, capture: Path, times: int) -> None:
    result = netbpf.diff(build("a"), build("b"), capture, program="filter")
    assert (result.packets, result.different, result.groups) == (41 * times, 0, ())


def test_it_finds_what_a_comparison_packet_by_packet_finds(tmp_path: Path) -> None:
    """Random packets, two programs that change lengths: in batches the same packets differ."""
    source = (Path(__file__).parent / "messing.bpf.c").read_text()
    other = source.replace("sum * 41", "sum * 43").replace("begin < 256", "begin < 32")
    assert other != source
    (tmp_path / "a.o").write_bytes(compile_c(source))
    (tmp_path / "b.o").write_bytes(compile_c(other))
    chance = random.Random(9)
    frames = [chance.randbytes(chance.choice([14, 30, 60, 300, 9000])) for _ in range(3000)]
    path, sides = tmp_path / "in.pcap", []
    path.write_bytes(pcap(frames))
    for name in ("a", "b"):
        out = tmp_path / f"{name}.pcapng"
        netbpf.replay(tmp_path / f"{name}.o", path, program="messing", output=out)
        command = ["tshark", "-r", str(out), "-T", "fields", "-e", "frame.comment"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        verdicts = [row.removeprefix("netbpf: ") for row in shown.splitlines()]
        sides.append(list(zip(verdicts, (one.data for one in read(out)[0]), strict=True)))
    kept = {"pass", "tx", "redirect"}
    expected = [
        data
        for data, one, new in zip(frames, *sides, strict=True)
        if one[0] != new[0] or (one[0] in kept and one[1] != new[1])
    ]
    out = tmp_path / "diff.pcapng"
    result = netbpf.diff(tmp_path / "a.o", tmp_path / "b.o", path, program="messing", output=out)
    assert result.different == len(expected) > 100
    assert [one.data for one in read(out)[0]] == expected


def test_pieces_that_begin_and_end_elsewhere() -> None:
    ones = [Piece(0, [1, 1, 1]), Piece(3, [], refused="no"), Piece(4, [1])]
    others = [Piece(0, [1]), Piece(1, [1, 1]), Piece(3, [1, 1])]
    found = [
        (one.begin, other.begin, *bounds)
        for one, other, *bounds in overlaps(iter(ones), iter(others))
    ]
    assert found == [(0, 0, 0, 1), (0, 1, 1, 3), (3, 3, 3, 4), (4, 3, 4, 5)]


def test_a_hostile_capture_makes_no_end_of_groups() -> None:
    groups = Groups(frozenset(), 1)
    for number in range(MOST_GROUPS * 2):
        data = bytes(12) + number.to_bytes(2, "big") + bytes(20)
        groups.add("pass", "drop", (), Sample(number + 1, None, data))
    found = groups.result()
    assert len(found) == MOST_GROUPS + 1
    assert sum(one.packets for one in found) == MOST_GROUPS * 2
    assert found[0].old == "several"


def test_errors(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES))
    old = build("a")
    with pytest.raises(UsageError, match=r"no field 'ip\.tll'") as caught:
        netbpf.diff(old, old, path, program="filter", ignore=["ip.tll"])
    assert "ip.ttl" in str(caught.value.hint)
    with pytest.raises(UsageError, match=r"for xdp and .* one for tc"):
        netbpf.diff(old, old, path, program="filter", new_program="other")


# --- the command ---


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(NETBPF), "diff", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_exit_codes_json_and_text(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES))
    old, new = build("a"), build("b", "STEP=2", "PORT=81")
    same = run(old, old, path, "-n", "filter", "--json")
    assert same.returncode == 0
    assert json.loads(same.stdout)["groups"] == []
    differs = run(old, new, path, "-n", "filter", "--json")
    assert differs.returncode == 1
    found = json.loads(differs.stdout)
    assert found["schema"] == "netbpf.diff/1"
    assert (found["packets"], found["different"]) == (41, 30)
    assert [one["packets"] for one in found["groups"]] == [10, 10, 10]
    ttl = next(one for one in found["groups"] if one["changed"])
    assert ttl["changed"] == ["ip.ttl"]
    assert (ttl["old"], ttl["new"]) == ("pass", "pass")
    assert ttl["ranges"]["udp.srcport"] == {"least": 1001, "most": 1037}
    assert ttl["samples"][0]["number"] == 2
    text = run(old, new, path, "-n", "filter", "--ignore", "ip.ttl,ip.checksum").stdout.splitlines()
    assert text[0] == "41 packets, 20 differ"
    assert text[1] == "  10 packets: drop -> pass, ipv4/udp"
    assert text[2].startswith("    all have udp.dstport 53, ip.dst 10.0.0.250")
    assert run(old, old, path, "-n", "filter").stdout.splitlines()[0] == "41 packets, no difference"


def test_trouble_is_not_taken_for_a_difference(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES))
    old, new = build("a"), build("b", "PORT=81")
    assert run(old, new, tmp_path / "none", "-n", "filter").returncode == 3
    assert run(old, tmp_path / "none.o", path, "-n", "filter").returncode == 3
    assert run(old, new, path, "-n", "filter", "-w", "/dev/full").returncode == 2
