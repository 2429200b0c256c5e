"""Replaying a capture of a million packets: netbpf beside a loop in C, scapy, and bpftool packet by packet.

The C loop (``replay_loop.c``) and netbpf run the whole capture and time it themselves, from its beginning to the last
verdict, without start-up and loading, which for netbpf is shown as well. scapy, which would take minutes, reads a
part, and bpftool, which takes one packet per process, runs some: both numbers are per packet, too.
"""

import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bed import HERE, ROOT
from benchmarks.measure import BenchmarkError, ratio

PACKETS = 1_000_000
READ_BY_SCAPY, RUN_BY_BPFTOOL = 10_000, 20
ROUNDS = 3  # at most: a round takes some ten seconds
AIM = 0.7  # of the C loop's rate
OBJECT = ROOT / "netbpf" / "_objects" / "xdp_count.bpf.o"
_SIZES = (64, 64, 64, 128, 576, 1518)  # bytes, of frames
_Add = Callable[[str, str, bool], str]
_SCAPY = """
import sys, time
from scapy.layers.l2 import Ether
from scapy.utils import PcapReader
count = int(sys.argv[2])
start = time.perf_counter()
with PcapReader(sys.argv[1]) as reader:
    for _ in range(count):
        reader.read_packet()
print(time.perf_counter() - start)
"""


@dataclass(slots=True)
class _Way:
    """One way to do it: seconds for ``packets`` packets."""

    who: str
    run: Callable[[], float]
    packets: int = 0  # 0: all
    note: str = ""
    seconds: list[float] = field(default_factory=list)

    def each(self) -> list[float]:
        """Seconds for one packet, by round."""
        return [one / (self.packets or PACKETS) for one in self.seconds]


def measure(rounds: int, add: _Add) -> tuple[str, list[dict[str, Any]]]:
    """The line as text and for JSON; ``add`` notes an aim and says how it is shown. Needs root."""
    with tempfile.TemporaryDirectory(prefix="netbpf-replay-") as name:
        directory = Path(name)
        capture = directory / "in.pcap"
        write_capture(capture, PACKETS)
        ways, absent = _ways(directory, capture)
        for number in range(min(rounds, ROUNDS) + 1):
            for way in ways:
                seconds = way.run()
                if number:  # the first round fills the page cache
                    way.seconds.append(seconds)
    return _text(ways, absent, add), [_json(ways)]


def write_capture(path: Path, packets: int, sizes: tuple[int, ...] = _SIZES) -> None:
    """UDP packets of mixed sizes, from and to ports that vary."""
    chance = random.Random(1)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for first in range(0, packets, 10_000):
            part = bytearray()
            for number in range(first, min(first + 10_000, packets)):
                size = chance.choice(sizes)
                part += struct.pack(
                    "<IIII", 1_700_000_000 + number // 1000, number % 1000, size, size
                )
                part += bytes.fromhex("020000000001020000000002080045000000")
                part += struct.pack(
                    ">HHBBH4s4s", number & 0xFFFF, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
                )
                part += struct.pack(">HHHH", number & 0xFFFF, 53, size - 34, 0)
                part += bytes(size - 42)
            file.write(part)


def _ways(directory: Path, capture: Path) -> tuple[list[_Way], list[str]]:
    netbpf = str(Path(sys.executable).with_name("netbpf"))
    out = directory / "out.pcapng"
    plain = [netbpf, "replay", str(OBJECT), str(capture), "--json"]
    ways = [
        _Way("netbpf", lambda: _own(plain)),
        _Way("netbpf, whole command", lambda: _wall(plain), note="with start-up and loading"),
        _Way("netbpf -w", lambda: _own([*plain, "-w", str(out)]), note="every packet written as pcapng"),
    ]  # fmt: skip
    absent = []
    loop = _compile(directory)
    if loop:
        ways.insert(0, _Way("C loop", lambda: _nanoseconds([loop, str(OBJECT), str(capture)])))
    else:
        absent.append("C loop: needs a C compiler and libbpf's headers")
    scapy = [sys.executable, "-c", _SCAPY, str(capture), str(READ_BY_SCAPY)]
    ways.append(
        _Way("scapy", lambda: float(_output(scapy)), READ_BY_SCAPY, f"only reads; of {READ_BY_SCAPY:,}")
    )  # fmt: skip
    if shutil.which("bpftool"):
        ways.append(
            _Way("bpftool", lambda: _bpftool(directory), RUN_BY_BPFTOOL,
                 f"prog run, a process each; of {RUN_BY_BPFTOOL}")
        )  # fmt: skip
    else:
        absent.append("bpftool: is not installed")
    return ways, absent


def _compile(directory: Path) -> str | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    target = str(directory / "replay_loop")
    source = str(HERE / "replay_loop.c")
    done = subprocess.run(
        [compiler, "-O2", source, "-o", target, "-lbpf"], capture_output=True, check=False
    )
    return None if done.returncode else target


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{command[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _own(command: list[str]) -> float:
    found = json.loads(_output(command))
    if found["packets"] != PACKETS:
        raise BenchmarkError(f"{command[0]} ran {found['packets']} packets, not {PACKETS}")
    return float(found["seconds"])


def _wall(command: list[str]) -> float:
    start = time.perf_counter()
    _output(command)
    return time.perf_counter() - start


def _nanoseconds(command: list[str]) -> float:
    return int(_output(command)) / 1e9


def _bpftool(directory: Path) -> float:
    packet, pin = directory / "packet", "/sys/fs/bpf/netbpf_bench_run"
    packet.write_bytes(bytes(64))
    _output(["bpftool", "prog", "load", str(OBJECT), pin, "type", "xdp"])
    try:
        command = ["bpftool", "prog", "run", "pinned", pin, "data_in", str(packet)]
        start = time.perf_counter()
        for _ in range(RUN_BY_BPFTOOL):
            _output(command)
        return time.perf_counter() - start
    finally:
        Path(pin).unlink()


def _text(ways: list[_Way], absent: list[str], add: _Add) -> str:
    form = "  {:<22} {:>12} {:>14}  {:<22} {}"
    rows = [
        f"replay: {PACKETS:,} packets through xdp_count",
        form.format("", "a packet", "packets/s", "rate, x C loop", "").rstrip(),
    ]
    loop = next((way for way in ways if way.who == "C loop"), None)
    for way in ways:
        each = way.each()
        middle = sorted(each)[len(each) // 2]
        beside, remarks = "", [way.note] if way.note else []
        if loop and way is not loop:
            found = ratio(loop.each(), each)
            beside = f"{found.middle:.3f} ({found.low:.3f}-{found.high:.3f})"
            if way.who == "netbpf":
                remarks.append(add("replay", f">= {AIM} x the C loop", found.middle >= AIM))
        rows.append(
            form.format(way.who, f"{middle * 1e9:,.0f} ns", f"{1 / middle:,.0f}", beside, "; ".join(remarks)).rstrip()
        )  # fmt: skip
    return "\n".join(rows + [f"  {one}" for one in absent])


def _json(ways: list[_Way]) -> dict[str, Any]:
    return {
        "name": "replay",
        "what": f"{PACKETS} packets through xdp_count",
        "contestants": [
            {
                "who": way.who, "note": way.note, "packets": way.packets or PACKETS,
                "seconds": way.seconds,
            }
            for way in ways
        ],
    }  # fmt: skip
