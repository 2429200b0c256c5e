"""Sending: XDP frames beside xdp-trafficgen, and a capture beside a loop in C over sendmmsg.

All go over one veth pair of the benchmark's own, whose other end drops what comes in its driver. Everybody is timed
from the first packet to the last, without start-up and loading; that all arrived is counted by the other end.
What xdp-trafficgen waits for at the begin and the end of its only call, for RCU, is in its time: of so many frames some
hundredths.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import replay
from benchmarks.bed import HERE
from benchmarks.measure import BenchmarkError, ratio

XDP_PACKETS = 10_000_000
CAPTURED = 300_000
ROUNDS = 7  # at most: a round takes some seconds
XDP_AIM, RAW_AIM = 1.2, 0.8
_SIZES = (64, 64, 64, 128, 576, 1514)  # bytes, of frames in the capture
_NEAR, _FAR = "bsend0", "bsend1"
_PACKET = "Ether(dst='02:00:00:00:77:02')/IP(dst='10.77.0.2')/UDP(sport=12345,dport=1)/('x'*22)"
_SPENT = re.compile(r"^spent (\d+)$", re.MULTILINE)
_PATIENCE = 20.0  # seconds
_SILENCE = 2.0  # seconds in which nothing arrives: nothing more will
# What may be lost where the machine is busy: the far end's softirq may have to wait on a processor that the sender has
# left, and its ring holds 256 frames. Only packets that arrived count.
_LOSS = 0.05
_Add = Callable[[str, str, bool], str]


@dataclass(slots=True)
class _Way:
    """One way to send: seconds for ``packets`` to arrive; ``beside`` is the peer it is compared with."""

    who: str
    packets: int
    run: Callable[[], float]
    beside: str = ""
    note: str = ""
    seconds: list[float] = field(default_factory=list)

    def each(self) -> list[float]:
        """Seconds for one packet, by round."""
        return [one / self.packets for one in self.seconds]


def measure(rounds: int, add: _Add) -> tuple[str, list[dict[str, Any]]]:
    """The line as text and for JSON; ``add`` notes an aim and says how it is shown. Needs root."""
    with tempfile.TemporaryDirectory(prefix="netbpf-send-") as name, _wire():
        directory = Path(name)
        capture = directory / "in.pcap"
        replay.write_capture(capture, CAPTURED, _SIZES)
        ways, absent = _ways(directory, capture)
        for number in range(min(rounds, ROUNDS) + 1):
            # Whoever is first in one round is last in the next.
            for way in ways if number % 2 else reversed(ways):
                before = _arrived()
                seconds = way.run()
                arrived = _arrived() - before
                if not way.packets * (1 - _LOSS) <= arrived <= way.packets:
                    raise BenchmarkError(
                        f"{way.who}: {arrived:,} of {way.packets:,} packets arrived"
                    )
                if number:  # the first round fills caches
                    way.seconds.append(seconds * way.packets / arrived)
    return _text(ways, absent, add), [_json(ways)]


@contextmanager
def _wire() -> Iterator[None]:
    _call("ip", "link", "add", _NEAR, "type", "veth", "peer", "name", _FAR)
    try:
        for one in (_NEAR, _FAR):
            Path(f"/proc/sys/net/ipv6/conf/{one}/disable_ipv6").write_text("1")
            _call("ip", "link", "set", one, "up")
        _call(
            _netbpf(),
            "attach",
            "xdp",
            _FAR,
            "builtin:xdp_count",
            "--set",
            "verdict=XDP_DROP",
            "--mode",
            "native",
        )
        yield
    finally:
        _call("ip", "link", "del", _NEAR)


def _netbpf() -> str:
    return str(Path(sys.executable).with_name("netbpf"))


def _call(
    *command: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise BenchmarkError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done


def _arrived() -> int:
    """Packets that the far end's driver has had."""
    with open("/proc/thread-self/net/dev") as file:
        for line in file:
            name, _, numbers = line.strip().partition(":")
            if name == _FAR:
                return int(numbers.split()[1])
    raise BenchmarkError(f"{_FAR} has gone")


def _ways(directory: Path, capture: Path) -> tuple[list[_Way], list[str]]:
    own = [_netbpf(), "send", _NEAR, "--rate", "max", "--json"]
    xdp = [*own, "--xdp", "--packet", _PACKET, "--count", str(XDP_PACKETS)]
    raw = [*own, str(capture)]
    repeated = [*own, "--packet", _PACKET, "--count", str(CAPTURED)]
    ways, absent = [], []
    shim = _compile(directory, "trafficgen_shim.c", "-shared", "-fPIC", "-ldl", "-lbpf")
    if shim and shutil.which("xdp-trafficgen"):
        ways.append(_Way("xdp-trafficgen udp", XDP_PACKETS, lambda: _trafficgen(shim)))
    else:
        absent.append("xdp-trafficgen: needs xdp-tools, a C compiler and libbpf's headers")
    ways.append(_Way("netbpf send --xdp", XDP_PACKETS, lambda: _own(xdp), "xdp-trafficgen udp"))
    numbered = [*xdp, "--sequence"]
    ways.append(
        _Way("netbpf send --xdp --sequence", XDP_PACKETS, lambda: _own(numbered), note="numbered")
    )
    loop = _compile(directory, "send_loop.c")
    if loop:
        ways.append(
            _Way("C loop, capture", CAPTURED, lambda: int(_call(loop, _NEAR, str(capture)).stdout) / 1e9)
        )  # fmt: skip
    else:
        absent.append("C loop: needs a C compiler")
    ways.append(_Way("netbpf send, capture", CAPTURED, lambda: _own(raw), "C loop, capture"))
    ways.append(
        _Way("netbpf send, one packet", CAPTURED, lambda: _own(repeated), note="again and again")
    )
    return ways, absent


def _compile(directory: Path, source: str, *options: str) -> str | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    target = str(directory / source.removesuffix(".c"))
    command = [compiler, "-O2", str(HERE / source), "-o", target, *options]
    done = subprocess.run(command, capture_output=True, check=False)
    return None if done.returncode else target


def _trafficgen(shim: str) -> float:
    command = ("xdp-trafficgen", "udp", "-n", str(XDP_PACKETS), "-m", "02:00:00:00:77:02", _NEAR)
    running = subprocess.Popen(
        command, env={**os.environ, "LD_PRELOAD": shim}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    # It goes on counting after its last packet until it is interrupted.
    first = arrived = _arrived()
    end = time.monotonic() + _PATIENCE
    while running.poll() is None and arrived < first + XDP_PACKETS and time.monotonic() < end:
        time.sleep(0.01)
        if (now := _arrived()) > arrived:
            arrived, end = now, time.monotonic() + _SILENCE
    running.send_signal(signal.SIGINT)
    try:
        _, told = running.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        running.kill()
        _, told = running.communicate()
    found = _SPENT.search(told)
    if not found or int(found[1]) == 0:
        raise BenchmarkError(f"xdp-trafficgen: {told.strip()[-300:]}")
    return int(found[1]) / 1e9


def _own(command: list[str]) -> float:
    found = json.loads(_call(*command).stdout)
    return float(found["seconds"])


def _text(ways: list[_Way], absent: list[str], add: _Add) -> str:
    form = "  {:<30} {:>10} {:>14}  {:<24} {}"
    rows = [
        f"send: {XDP_PACKETS:,} XDP frames of 64 bytes, a capture of {CAPTURED:,} packets, over veth",
        form.format("", "a packet", "packets/s", "rate, x its peer", "").rstrip(),
    ]
    by_name = {way.who: way for way in ways}
    for way in ways:
        each = sorted(way.each())
        middle = each[len(each) // 2]
        beside, remark = "", way.note
        if peer := by_name.get(way.beside):
            found = ratio(peer.each(), way.each())
            beside = f"{found.middle:.3f} ({found.low:.3f}-{found.high:.3f})"
            least = 1 / XDP_AIM if "xdp" in way.who else RAW_AIM
            remark = add("send", f"{way.who} >= {least:.2f} x {peer.who}", found.middle >= least)
        rows.append(
            form.format(way.who, f"{middle * 1e9:,.0f} ns", f"{1 / middle:,.0f}", beside, remark).rstrip()
        )  # fmt: skip
    return "\n".join(rows + [f"  {one}" for one in absent])


def _json(ways: list[_Way]) -> dict[str, Any]:
    return {
        "name": "send",
        "what": f"{XDP_PACKETS} XDP frames, a capture of {CAPTURED} packets, over veth",
        "contestants": [
            {"who": way.who, "note": way.note, "packets": way.packets, "seconds": way.seconds} for way in ways
        ],
    }  # fmt: skip
