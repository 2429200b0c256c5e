"""``netbpf replay``: a capture through a program."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.utils import wrpcap

import netbpf
from netbpf.constants import Hook
from netbpf.errors import CaptureError, NetbpfError, ObjectError, UsageError
from netbpf.packets.replay_headers import fields_of, protocol_of, summary
from netbpf.packets.replay_model import Change
from tests.packets.captures import interface, packet, pcap, read, section
from tests.support.compiling import compile_c

NETBPF = Path(sys.executable).with_name("netbpf")
FILTER = """
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 64);
    __type(key, __u16);
    __type(value, __u64);
} ports SEC(".maps");
struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 4);
    __type(key, __u32);
    __type(value, __u32);
} out SEC(".maps");
const volatile __u16 blocked = 53;
__u64 packets, other = 7;
SEC("xdp") int filter(struct xdp_md *ctx)
{
    struct ethhdr *eth = (void *)(long)ctx->data;
    struct iphdr *ip = (void *)(eth + 1);
    struct udphdr *udp = (void *)(ip + 1);
    __u64 one = 1, *count;
    __u16 port;
    packets += other / 7;
    if ((void *)(udp + 1) > (void *)(long)ctx->data_end || ip->protocol != 17)
        return XDP_PASS;
    port = bpf_ntohs(udp->dest);
    count = bpf_map_lookup_elem(&ports, &port);
    if (count)
        ++*count;
    else
        bpf_map_update_elem(&ports, &port, &one, 0);
    if (port == blocked)
        return XDP_DROP;
    if (port == 99)
        return 99;
    if (port == 7)
        return bpf_redirect_map(&out, 2, XDP_TX);
    if (port == 8)
        return bpf_redirect_map(&out, 2, 0);
    ip->ttl--;
    return XDP_PASS;
}
SEC("tc") int classify(struct __sk_buff *skb)
{
    packets++;
    return skb->len > 100 ? 2 : -1;
}
char _license[] SEC("license") = "GPL";
"""
FRAMES = [
    bytes(Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01") / one)
    for one in (
        *(IP(src="10.0.0.1", dst="10.0.0.2", ttl=9) / UDP(sport=1000, dport=port) / bytes(10)
          for port in (53, 80, 53, 99, 7, 8, 80, 80)),
        IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=5, dport=53) / bytes(100),
        ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
    )
]  # fmt: skip
VERDICTS = ["drop", "pass", "drop", "99", "tx", "aborted", "pass", "pass", "pass", "pass"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "filter.o"
    path.write_bytes(compile_c(FILTER))
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES))
    return path


@pytest.fixture(params=["few packets, one by one", "many, in batches"])
def times(request: pytest.FixtureRequest) -> int:
    """How often the packets are in the capture: netbpf does it in two ways."""
    return 1 if request.param.startswith("few") else 1000


def run(*arguments: object, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [str(NETBPF), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == code, done.stderr
    return done


# --- the library ---


def test_verdicts_variables_maps_and_samples(program: Path, tmp_path: Path, times: int) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap(FRAMES * times))
    result = netbpf.replay(path.with_name("filter.o"), path, program="filter")
    assert result.program == "filter"
    assert result.hook is Hook.XDP
    assert result.packets == 10 * times
    assert result.verdicts == {
        "aborted": times, "drop": 2 * times, "pass": 5 * times, "tx": times, "99": times,
    }  # fmt: skip
    assert list(result.verdicts) == ["aborted", "drop", "pass", "tx", "99"]
    assert result.variables == {
        "packets": Change(0, 10 * times), "other": Change(7, 7),
    }  # fmt: skip
    assert result.maps["ports"].changed == 5
    assert dict(result.maps["ports"].entries)[80] == Change(None, 3 * times)
    assert result.packets_per_second > 1000
    first = result.samples["drop"]
    assert [one.number for one in first] == ([1, 3] if times == 1 else [1, 3, 11])
    assert first[1].data == FRAMES[2]
    assert first[1].time_ns == 1_002_000_002_000
    assert result.skipped == {}
    assert (result.cut, result.warnings) == (0, ())


def test_what_came_out_and_what_was_dropped(program: Path, tmp_path: Path, times: int) -> None:
    path, out, dropped = (tmp_path / name for name in ("in.pcap", "out.pcapng", "drop.pcapng"))
    path.write_bytes(pcap(FRAMES * times))
    netbpf.replay(program, path, program="filter", output=out, dropped=dropped)
    expected = []
    for data, verdict in zip(FRAMES, VERDICTS, strict=True):
        changed = verdict == "pass" and data[23:24] == b"\x11"
        expected.append(data[:22] + bytes([data[22] - 1]) + data[23:] if changed else data)
    found, warnings = read(out)
    assert warnings == []
    assert [one.data for one in found] == expected * times
    assert found[3].time_ns == 1_003_000_003_000
    command = [
        "tshark",
        "-r",
        str(out),
        "-c",
        "10",
        "-T",
        "fields",
        "-eframe.comment",
        "-eframe.verdict.ebpf_xdp",
    ]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    numbers = {"aborted": 0, "drop": 1, "pass": 2, "tx": 3, "99": 99}
    assert rows == [f"netbpf: {one}\t{numbers[one]}" for one in VERDICTS]
    # What is no verdict is dropped as aborted is.
    gone = [
        data for data, one in zip(FRAMES, VERDICTS, strict=True) if one in ("drop", "99", "aborted")
    ]
    assert [one.data for one in read(dropped)[0]] == gone * times


def test_settings_and_limit(program: Path, capture: Path) -> None:
    result = netbpf.replay(program, capture, program="filter", settings={"blocked": 80}, limit=7)
    assert result.packets == 7
    assert result.verdicts["drop"] == 2
    assert netbpf.replay(program, capture, program="filter", limit=0).packets == 0


def test_tc(program: Path, capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    result = netbpf.replay(program, capture, hook="tc", output=out)
    assert result.hook is Hook.TC_INGRESS
    assert result.verdicts == {"unspec": 9, "shot": 1}
    assert result.variables["packets"] == Change(0, 10)
    assert [one.data for one in read(out)[0]] == FRAMES


def test_packets_that_test_run_does_not_take(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    frames = [b"", bytes(13), bytes(14), bytes(1514), bytes(1515), bytes(9014), bytes(100_000)]
    path.write_bytes(pcap(frames * 3))
    result = netbpf.replay(program, path, program="filter")
    assert result.packets == 12
    long, short = sorted(result.skipped)
    assert (short, result.skipped[short]) == ("shorter than 14 bytes, an Ethernet header", 6)
    assert long.startswith("longer than ")
    assert result.skipped[long] == 3


def test_packets_captured_in_part(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap([*FRAMES, bytes(200)], wire=120))
    result = netbpf.replay(program, path, program="filter", output=tmp_path / "out.pcapng")
    assert result.cut == sum(len(data) < 120 for data in FRAMES) == 9
    assert {one.wire_length for one in read(tmp_path / "out.pcapng")[0]} == {154, 120, 200}


def test_interfaces_of_other_kinds_are_left_out(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.pcapng"
    path.write_bytes(
        section()
        + interface()
        + interface(link=113)
        + packet(FRAMES[0])
        + packet(FRAMES[1], where=1)
    )
    result = netbpf.replay(program, path, program="filter")
    assert result.packets == 1
    assert result.skipped == {"link type LINUX_SLL (113)": 1}


def test_errors(program: Path, capture: Path, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="No such file"):
        netbpf.replay(program, tmp_path / "none.pcap", program="filter")
    with pytest.raises(UsageError, match="is the capture that is read"):
        netbpf.replay(program, capture, program="filter", output=capture)
    with pytest.raises(UsageError, match="one file"):
        netbpf.replay(program, capture, program="filter", output="o", dropped="o")
    with pytest.raises(UsageError, match="-1 packets"):
        netbpf.replay(program, capture, program="filter", limit=-1)
    with pytest.raises(ObjectError, match="no variable"):
        netbpf.replay(program, capture, program="filter", settings=["blcoked=1"])
    with pytest.raises(NetbpfError, match="cannot write /dev/full"):
        netbpf.replay(program, capture, program="filter", output="/dev/full")
    assert capture.read_bytes() == pcap(FRAMES)


def test_nothing_stays_open(program: Path, capture: Path, tmp_path: Path) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    (tmp_path / "big.pcap").write_bytes(pcap(FRAMES * 1000))
    netbpf.replay(program, capture, program="filter")
    before = open_files()
    for _ in range(5):
        netbpf.replay(program, tmp_path / "big.pcap", program="filter", output=tmp_path / "o")
        with pytest.raises(CaptureError):
            netbpf.replay(program, program, program="filter")
    assert open_files() == before


# --- the command ---


def test_json_is_as_documented(program: Path, capture: Path) -> None:
    found = json.loads(run("replay", program, capture, "-n", "filter", "--json").stdout)
    assert found["schema"] == "netbpf.replay/1"
    assert found["packets"] == 10
    assert found["verdicts"] == {"aborted": 1, "drop": 2, "pass": 5, "tx": 1, "99": 1}
    assert isinstance(found["packets_per_second"], int)
    assert found["variables"]["packets"] == {"before": 0, "after": 10}
    assert found["maps"]["ports"]["changed"] == 5
    assert {"key": 80, "before": None, "after": 3} in found["maps"]["ports"]["entries"]
    assert found["samples"]["drop"][0] == {
        "number": 1, "time_ns": 1_000_000_000_000,
        "summary": "10.0.0.1:1000 > 10.0.0.2:53 ipv4/udp, 52 bytes", "hex": FRAMES[0].hex(),
    }  # fmt: skip


def test_text(program: Path, capture: Path) -> None:
    lines = run("replay", program, capture, "-n", "filter", "--samples", 1).stdout.splitlines()
    assert lines[0].startswith("filter: 10 packets in ")
    table = [line.split() for line in lines]
    assert ["pass", "5", "50.0", "%"] in table
    assert ["packets", "0", "10"] in table
    assert ["80", "-", "3"] in table
    assert "other" not in "".join(lines)
    assert sum("> 10.0.0.2:53 ipv4/udp" in line for line in lines) == 1


def test_standard_input_and_source(tmp_path: Path, capture: Path) -> None:
    source = tmp_path / "filter.bpf.c"
    source.write_text(FILTER)
    environment = os.environ | {"NETBPF_CACHE_DIR": str(tmp_path / "cache")}
    with capture.open("rb") as file:
        done = run("replay", source, "-", "-n", "filter", "--json", stdin=file, env=environment)
    assert json.loads(done.stdout)["packets"] == 10


def test_a_damaged_capture_is_warned_about_and_the_rest_counts(
    program: Path, capture: Path
) -> None:
    capture.write_bytes(pcap(FRAMES)[:-1])
    done = run("replay", program, capture, "-n", "filter", "--json")
    assert json.loads(done.stdout)["packets"] == 9
    assert json.loads(done.stdout)["warnings"][0] in done.stderr
    assert done.stderr.startswith("netbpf: warning: in.pcap: packet 10 at byte ")


def test_another_link_type(program: Path, capture: Path) -> None:
    capture.write_bytes(pcap(FRAMES, link=113))
    done = run("replay", program, capture, "-n", "filter", code=3)
    assert "link type LINUX_SLL (113)" in done.stderr
    assert "tcpdump -i any" in done.stderr
    assert done.stdout == ""


def test_progress_is_for_terminals_only(
    program: Path, tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pipe that is slower than a second, on a terminal and not."""
    assert "packets" not in run("replay", program, capture, "-n", "filter").stderr
    from netbpf.cli import progress

    monkeypatch.setattr(progress, "_DELAY", 0.0)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress.capture_bar("replay") as show:
            show(50, 100, 1234)
        monkeypatch.undo()
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "replay" in shown


# --- headers ---


def test_summaries() -> None:
    ether = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    for one, text in (
        (ether / IP(src="1.2.3.4", dst="5.6.7.8") / TCP(sport=1, dport=2), "1.2.3.4:1 > 5.6.7.8:2 ipv4/tcp, 54 bytes"),
        (ether / IPv6(src="::1", dst="::2") / UDP(sport=1, dport=2), "[::1]:1 > [::2]:2 ipv6/udp, 62 bytes"),
        (ether / Dot1Q(vlan=5) / IP(src="1.2.3.4", dst="5.6.7.8") / ICMP(),
         "1.2.3.4 > 5.6.7.8 vlan 5 ipv4/icmp type 8, 46 bytes"),
        (ether / IP(src="1.2.3.4", dst="5.6.7.8", frag=100) / b"x",
         "1.2.3.4 > 5.6.7.8 ipv4/0 fragment at 800, 35 bytes"),
        (ether / ARP(psrc="1.2.3.4", pdst="5.6.7.8"), "1.2.3.4 > 5.6.7.8 arp, 42 bytes"),
        (ether / b"hello", "02:00:00:00:00:02 > 02:00:00:00:00:01 EtherType 0x9000, 19 bytes"),
    ):  # fmt: skip
        assert summary(bytes(one)) == text
    assert summary(b"abc") == "? > ? no Ethernet header, 3 bytes"


@pytest.mark.parametrize("frame", FRAMES)
def test_fields_agree_with_scapy(frame: bytes) -> None:
    found, known = fields_of(frame), Ether(frame)
    assert found["eth.src"] == known.src
    if IP in known:
        assert (found["ip.src"], found["ip.ttl"], found["ip.checksum"]) == (
            known[IP].src,
            known[IP].ttl,
            known[IP].chksum,
        )
        kind = UDP if UDP in known else TCP
        name = kind.__name__.lower()
        assert found[f"{name}.dstport"] == known[kind].dport
        assert found[f"{name}.checksum"] == known[kind].chksum
        assert found["payload"] == bytes(known[kind].payload)
        assert protocol_of(found) == f"ipv4/{name}"


def test_headers_cut_short_anywhere() -> None:
    for frame in (*FRAMES, bytes(Ether() / IPv6() / TCP(options=[("MSS", 1)]) / b"x")):
        for length in range(len(frame)):
            assert fields_of(frame[:length])["length"] == length
            assert summary(frame[:length]).endswith(f"{length} bytes")


def test_what_scapy_wrote(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "scapy.pcap"
    wrpcap(str(path), [Ether(one) for one in FRAMES])
    assert netbpf.replay(program, path, program="filter").verdicts["drop"] == 2
