"""``netbpf send``: what people and scripts see, and how it ends."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.lab import ROOT, Lab, run_cli
from tests.packets.captures import pcap
from tests.traffic.test_send import frames

UDP = "Ether(dst='02:00:00:00:00:02')/IP()/UDP()"


def test_one_packet(lab: Lab) -> None:
    done = lab("send", "dut0", "--packet", UDP)
    assert (done.out, done.err) == ("dut0: 1 packet sent\n", "")


def test_packets_in_hex_and_expressions_in_the_order_of_their_kind(lab: Lab) -> None:
    text = frames(1)[0].hex(" ")
    with lab.wire.peer.capture("wire", strict=False) as capture:
        lab("send", "dut0", "--packet", UDP, "--hex", text, "--rate", "max")
        capture.await_packets(2)
        assert [len(one) for one in capture.packets()] == [42, 70]


def test_json(lab: Lab, far: str) -> None:
    done = lab(
        "send", "dut0", "--packet", UDP, "--count", 500, "--rate", "20k", "--expect", "peer0", "--expect-netns", far,
        "--json",
    ).json  # fmt: skip
    assert 0.02 <= done.pop("seconds") < 30
    assert done.pop("packets_per_second") > 0
    assert isinstance(done.pop("behind"), bool)
    assert done == {
        "schema": "netbpf.send/1", "interface": "dut0", "way": "raw", "sent": 500, "bytes": 30_000, "dropped": 0,
        "rate": 20_000.0, "waits": 0, "skipped": {}, "interface_dropped": 0, "stopped": False,
        "arrivals": {
            "interface": "peer0", "received": 500, "bytes": 30_000, "lost": 0, "loss_percent": 0.0, "duplicates": 0,
            "reordered": 0, "damaged": 0, "merged": 0,
        },
        "warnings": [],
    }  # fmt: skip


def test_text_of_what_arrived(lab: Lab, far: str) -> None:
    done = lab(
        "send", "dut0", "--packet", UDP, "--count", 200, "--expect", "peer0", "--expect-netns", far
    )
    assert done.lines[0].startswith("dut0: 200 packets sent in 0.")
    assert done.lines[-3:] == [
        "  at peer0  packets  share", "  received      200  100 %", "  lost            0    0 %",
    ]  # fmt: skip


def test_what_was_not_sent_is_shown(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "in.pcap").write_bytes(pcap([*frames(1), bytes(9)])[:-1])
    done = lab("send", "dut0", "in.pcap", "--rate", "5M")
    assert done.lines[0] == "dut0: 1 packet sent"
    assert "netbpf: warning: in.pcap: packet 2 at byte 110 is not whole" in done.err
    (tmp_path / "in.pcap").write_bytes(pcap([*frames(1), bytes(9)]))
    done = lab("send", "dut0", "in.pcap", "--rate", "5M")
    assert done.lines[1] == "  1 packet not sent: shorter than an Ethernet header (14 bytes)"


def test_a_default_route_gets_a_word(lab: Lab) -> None:
    lab.run("ip", "address", "add", "192.0.2.9/24", "dev", "dut0")
    lab.run("ip", "route", "add", "default", "via", "192.0.2.1", "dev", "dut0")
    assert lab("send", "dut0", "--packet", UDP).err == ""
    done = lab("send", "dut0", "--packet", UDP, "--rate", "max")
    assert done.err.startswith("netbpf: warning: dut0 has this machine's default route")


@pytest.mark.parametrize(
    ("rate", "a_second"),
    [
        ("500", 500),
        ("2k", 2000),
        ("2K", 2000),
        ("1.5M", 1.5e6),
        ("2m", 2e6),
        ("1G", 1e9),
        ("max", 0),
    ],
)
def test_rates_have_units(lab: Lab, rate: str, a_second: float) -> None:
    assert lab("send", "dut0", "--packet", UDP, "--rate", rate, "--json").json["rate"] == a_second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "expected a CAPTURE, or packets"),
        (("x.pcap", "--packet", UDP), "expected a CAPTURE, or packets"),
        (("--packet", UDP, "--loop", "2"), "are for a CAPTURE"),
        (("x.pcap", "--speed", "2", "--rate", "5"), "without --rate"),
        (("x.pcap", "--loop", "2", "--count", "5"), "either --loop or --count"),
        (("--packet", UDP, "--expect-netns", "x"), "is for --expect"),
        (("--packet", UDP, "--rate", "0"), "no rate such as"),
        (("--packet", UDP, "--rate", "5x"), "no rate such as"),
        (("--packet", UDP, "--rate", "nan"), "no rate such as"),
        (("--packet", "IP(", "--rate", "5"), "was never closed"),
    ],
)
def test_requests_that_make_no_sense(arguments: tuple[str, ...], words: str) -> None:
    done = run_cli("send", "lo", *arguments)
    assert done.code == 2
    assert words in done.err


@pytest.mark.parametrize("way", [(), ("--xdp",)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_sent(
    lab: Lab, far: str, way: tuple[str, ...], number: signal.Signals
) -> None:
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    with (
        lab.wire.peer.capture("wire", strict=False) as capture,
        lab.spawn("send", "dut0", "--packet", UDP, "--count", 0, "--rate", 2000, *way) as running,
    ):
        capture.await_packets(20)
        running.send_signal(number)
        out, err = running.communicate()
        assert running.returncode == 128 + number, err
        sent = int(out.split()[1].replace(",", ""))
        assert out.splitlines()[0].endswith(", then stopped")
        capture.await_packets(sent)
        assert len(capture.packets()) == sent


def test_a_signal_ends_it_while_nothing_comes_down_the_pipe(lab: Lab) -> None:
    with (
        lab.wire.peer.capture("wire", strict=False) as capture,
        lab.spawn("send", "dut0", "-", "--rate", "max", stdin=subprocess.PIPE) as running,
    ):
        assert running.stdin
        # More than fits into the pipe: when all is written, much of it was read.
        running.stdin.buffer.write(pcap(frames(400, 500)))  # type: ignore[attr-defined]
        running.stdin.flush()
        capture.await_packets(100)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 143  # the pipe is open still
        out, _ = running.communicate()
        assert out.endswith(", then stopped\n")


def test_without_the_capability(lab: Lab) -> None:
    for capability, way, words in (
        ("net_raw", (), "CAP_NET_RAW is missing"),
        ("net_raw", ("--expect", "dut0"), "CAP_NET_RAW is missing"),
        ("net_admin,-sys_admin", ("--xdp",), "CAP_NET_ADMIN is missing"),
    ):
        command = [
            "setpriv", "--bounding-set", f"-{capability}", "--inh-caps", f"-{capability}",
            sys.executable, "-m", "netbpf", "send", "dut0", "--packet", UDP, *way,
        ]  # fmt: skip
        done = lab.wire.dut.run(
            subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 10, (way, done.stderr)
        assert words in done.stderr
