"""Captures on a hook: what they cost a packet, and whether they keep up, beside tcpdump.

The cost is measured by BPF_PROG_TEST_RUN in this process: the program or chain as it is, and with a capture in it whose
filter matches nothing, in turn. Keeping up is measured over a veth pair: packets come at a steady rate, and each tool
alone writes them to a file.
"""

import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bed import ROOT
from benchmarks.measure import BenchmarkError, nanoseconds

RATE, PACKETS = 100_000, 300_000  # a second; in all
ROUNDS = 3  # at most: a round takes some ten seconds
REPEAT = 1_000_000
COST = 30.0  # nanoseconds a packet that a capture may add
FILTER = "host 192.0.2.99 and tcp port 4444"  # nothing of it comes
_NEAR, _FAR = "capture-a", "capture-b"
_PACKET = (
    "Ether(src='02:00:00:00:77:01',dst='02:00:00:00:77:02')/IP(src='10.7.0.1',dst='10.7.0.2')"
    "/UDP(dport=9)/('x'*58)"
)
_COUNTED = re.compile(r"(\d+) captured, (\d+) lost")
_TCPDUMP = re.compile(r"(\d+) packets captured.*?(\d+) packets dropped by kernel", re.DOTALL)
_PATIENCE = 30.0  # seconds
_UDP = bytes.fromhex(
    "020000000002020000000001 0800 45000032000000004011 0000 0a0000010a000002 0035003500 1e0000"
).ljust(64, b"\0")
_Add = Callable[[str, str, bool], str]


@dataclass(slots=True)
class _Way:
    """A tool at work: packets it has, and those it says it lost, by round."""

    who: str
    command: list[str]
    said: re.Pattern[str]
    got: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


def measure(rounds: int, add: _Add) -> tuple[str, list[dict[str, Any]]]:
    """The lines as text and for JSON; ``add`` notes an aim and says how it is shown. Needs root."""
    costs = _costs(rounds)
    ways, absent = _kept_up(min(rounds, ROUNDS))
    rows = ["capture: a packet's way through a hook with a capture whose filter matches nothing"]
    for name, (plain, tapped) in costs.items():
        more = statistics.median(b - a for a, b in zip(plain, tapped, strict=True))
        aim = add("capture", f"{name}: at most {COST:.0f} ns more", more <= COST)
        times = f"{statistics.median(plain):.0f} ns, captured {statistics.median(tapped):.0f} ns"
        rows.append(f"  {name:<24} {times:<28} {more:+.0f} ns  {aim}".rstrip())
    rows += [
        "",
        f"capture: {PACKETS:,} packets of 100 bytes over veth, {RATE:,} a second, to a file",
    ]
    theirs = max((statistics.median(way.lost) for way in ways[1:]), default=0)
    for way in ways:
        lost = statistics.median(way.lost)
        remark = ""
        if way is ways[0]:
            remark = add("capture", "nothing lost where tcpdump loses nothing", lost <= theirs)
        got = f"{statistics.median(way.got):,.0f} written, {lost:,.0f} lost"
        rows.append(f"  {way.who:<24} {got:<36} {remark}".rstrip())
    return "\n".join([*rows, *(f"  {one}" for one in absent)]), [_json(costs, ways)]


def _json(costs: dict[str, tuple[list[float], list[float]]], ways: list[_Way]) -> dict[str, Any]:
    return {
        "name": "capture",
        "what": f"a filter that matches nothing, in ns; {PACKETS} packets at {RATE} a second",
        "contestants": [
            *({"who": name, "plain_ns": plain, "captured_ns": tapped} for name, (plain, tapped) in costs.items()),
            *({"who": way.who, "packets": PACKETS, "written": way.got, "lost": way.lost} for way in ways),
        ],
    }  # fmt: skip


# --- what it costs ---


def _costs(rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    with ExitStack() as held:
        pairs = _pairs(held)
        found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
        for number in range(rounds + 1):
            for name, fds in pairs.items():
                for times, fd in zip(found[name], fds, strict=True):
                    spent = nanoseconds(fd, _UDP, REPEAT, room=256)
                    if number:  # the first round fills caches
                        times.append(float(spent))
    return found


def _pairs(held: ExitStack) -> dict[str, tuple[int, int]]:
    """Programs without and with a capture."""
    from netbpf._sys.pcap import compile_filter
    from netbpf.bpf.chain import Counters, Part, build
    from netbpf.bpf.loader import load
    from netbpf.bpf.map import possible_cpus
    from netbpf.bpf.object import ObjectSpec
    from netbpf.bpf.tap import Functions, Place
    from netbpf.constants import Hook

    place = held.enter_context(Place.create(65_535, 1 << 20))
    tap = Functions(
        "", compile_filter(FILTER), place.state.fd.fileno(), place.ring.fd.fileno(), possible_cpus(), 65_535,
    )  # fmt: skip
    counters = held.enter_context(Counters.create(Hook.XDP))
    spec = ObjectSpec((ROOT / "netbpf" / "_objects" / "xdp_count.bpf.o").read_bytes(), "xdp_count")
    parts, alone = [], 0
    for number in range(5):
        program = spec.select(Hook.XDP)
        loaded = held.enter_context(load(spec, program, Hook.XDP))
        alone = alone or loaded.program.fd.fileno()
        parts.append(Part(f"m{number}", spec, program, loaded.image, (2,), number))

    def built(count: int, *taps: Functions) -> int:
        counting = counters if count > 1 else None
        chain = build(parts[:count], Hook.XDP, counting, taps=taps)
        return held.enter_context(chain).fd.fileno()

    return {
        "xdp_count": (alone, built(1, tap)),
        "a chain of five": (built(5), built(5, tap)),
    }


# --- whether it keeps up ---


def _kept_up(rounds: int) -> tuple[list[_Way], list[str]]:
    netbpf = str(Path(sys.executable).with_name("netbpf"))
    with _wire(netbpf), tempfile.TemporaryDirectory(prefix="netbpf-bench-") as name:
        file = f"{name}/found"
        ways = [_Way("netbpf capture -w", [netbpf, "capture", "xdp", _FAR, "-w", file], _COUNTED)]
        absent = []
        if shutil.which("tcpdump"):
            command = ["tcpdump", "-i", _FAR, "-w", file, "-B", str(16 * 1024), "-Z", "root"]
            ways.append(_Way("tcpdump -w", command, _TCPDUMP))
        else:
            absent.append("tcpdump: not installed")
        for number in range(rounds):
            for way in ways if number % 2 else reversed(ways):
                _round(netbpf, way)
    return ways, absent


@contextmanager
def _wire(netbpf: str) -> Iterator[None]:
    _call("ip", "link", "add", _NEAR, "type", "veth", "peer", "name", _FAR)
    try:
        for one in (_NEAR, _FAR):
            Path(f"/proc/sys/net/ipv6/conf/{one}/disable_ipv6").write_text("1")
            _call("ip", "link", "set", one, "up")
        _call(netbpf, "attach", "xdp", _FAR, "builtin:xdp_count")
        yield
    finally:
        _call("ip", "link", "del", _NEAR)


def _round(netbpf: str, way: _Way) -> None:
    running = subprocess.Popen(
        way.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )  # fmt: skip
    assert running.stderr is not None
    try:
        first = running.stderr.readline()  # it says that it listens
        if not first:
            raise BenchmarkError(f"{way.who}: {running.wait()}")
        _call(
            netbpf, "send", _NEAR, "--packet", _PACKET, "--count", str(PACKETS), "--rate", str(RATE)
        )
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=_PATIENCE)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()
    found = way.said.search(told)
    if not found:
        raise BenchmarkError(f"{way.who}: {told.strip()[-300:]}")
    way.got.append(int(found[1]))
    way.lost.append(int(found[2]))


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{command[0]}: {(done.stderr or done.stdout).strip()[-300:]}")
