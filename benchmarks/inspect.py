"""Looking inside: a map of a million entries, 500 programs, a large object; netbpf beside bpftool.

Whole commands, in turn, round after round. Listing is held against three times bpftool plus a bare Python. Beside it
stands a Python that only imports the modules of the standard library which listing needs: what is left between the two
is all the time that netbpf's own code could have.
"""

import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.measure import BenchmarkError, ratio
from netbpf import api
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.insn import Insn
from netbpf.bpf.loader import load
from netbpf.bpf.map import possible_cpus
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import ProgType

ENTRIES, FLOWS, PROGRAMS = 1_000_000, 100_000, 500
LARGE = (20, 170)  # programs, steps of each: some 55,000 instructions
ROUNDS = 5  # at most: a dump takes seconds
HEADER = 3.0  # seconds for the kernel's types as C: "within a few seconds"
FASTER, LISTING, INSPECT = (
    5.0,
    3.0,
    0.2,
)  # aims: x bpftool, x bpftool beyond Python's start, seconds
_BATCH = 10_000
_Add = Callable[[str, str, bool], str]
_NETBPF = str(Path(sys.executable).with_name("netbpf"))
_BARE = [sys.executable, "-c", "pass"]
# bpf(2), values, names, netlink, output.
_MODULES = "ctypes, dataclasses, enum, json, pathlib, socket, struct, typing"
_LIBRARY = [sys.executable, "-c", f"import {_MODULES}"]

_HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct task_struct { int pid; int tgid; } __attribute__((preserve_access_index));
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, %d);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");
__u64 total;
enum state { STATE_NEW, STATE_OPEN, STATE_CLOSED };
struct flow { __be32 src_addr; __be32 dst_addr; __be16 ports[2]; struct { __u8 proto; __u8 dscp; __u16 zone; } how; };
struct seen { __u64 packets; __u64 bytes; enum state state; __u8 mac[6]; };
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, %d);
	__type(key, struct flow);
	__type(value, struct seen);
} flows SEC(".maps");
char _license[] SEC("license") = "GPL";
SEC("xdp") int first(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct flow flow = {};
	bpf_map_lookup_elem(&flows, &flow);
	return bpf_map_lookup_elem(&seen, &key) ? XDP_PASS : XDP_DROP;
}
"""


def large_source(programs: int, steps: int) -> str:
    """C of many programs, each with a subprogram and a CO-RE relocation."""
    parts = [_HEAD % (1024, 16)]
    for number in range(programs):
        body = "".join(
            f"k = {step}; v = bpf_map_lookup_elem(&seen, &k); if (v) {{ *v += a; total += {step}; }}\n"
            for step in range(steps)
        )
        parts.append(
            f"static __noinline int part_{number}(__u64 a) {{ __u32 k; __u64 *v;\n{body} return total; }}\n"
            f'SEC("xdp") int prog_{number}(struct xdp_md *ctx) {{ int pid = 0;\n'
            "struct task_struct *t = (void *)bpf_get_current_task();\n"
            f"bpf_probe_read_kernel(&pid, 4, &t->pid); return part_{number}(pid) & 1; }}\n"
        )
    return "".join(parts)


def measure(rounds: int, add: _Add) -> tuple[str, list[dict[str, Any]]]:
    """The lines as text and for JSON; ``add`` notes an aim and says how it is shown. Needs root."""
    with tempfile.TemporaryDirectory(prefix="netbpf-inspect-") as name, ExitStack() as stack:
        directory = Path(name)
        number, flows = map(str, _large_maps(directory, stack))
        source, target = directory / "large.bpf.c", directory / "large.o"
        source.write_text(large_source(*LARGE))
        api.compile(source, output=target)
        few = min(rounds, ROUNDS)
        dump = _times(
            few,
            [_NETBPF, "map", "dump", number, "--json"],
            ["bpftool", "-j", "map", "dump", "id", number],
            [_NETBPF, "map", "dump", number],
        )
        structs = _times(
            few,
            [_NETBPF, "map", "dump", flows, "--json"],
            ["bpftool", "-j", "map", "dump", "id", flows],
        )
        look = _times(few, [_NETBPF, "inspect", str(target)])
        kernel = _times(
            few,
            [_NETBPF, "btf", "dump", "vmlinux", "--c"],
            ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"],
        )
        _many_programs(stack)
        listed = _times(
            few,
            [_NETBPF, "prog", "list", "--json"],
            ["bpftool", "-j", "prog", "list"],
            _BARE,
            _LIBRARY,
        )
    faster, also = ratio(dump[1], dump[0]), ratio(structs[1], structs[0])
    limits = [LISTING * theirs + bare for theirs, bare in zip(listed[1], listed[2], strict=True)]
    beside, slowest = ratio(listed[0], limits), _middle(look[0])
    rows = [
        "inspect: what is inside",
        f"  map dump, {ENTRIES:,} entries as JSON   netbpf {_middle(dump[0]):.2f} s, bpftool {_middle(dump[1]):.2f} s, "
        f"{faster.middle:.1f} x as fast; "
        + add("map dump", f">= {FASTER:g} x bpftool", faster.middle >= FASTER)
        + f"; as lines {_middle(dump[2]):.2f} s",
        f"  map dump, {FLOWS:,} structs per CPU    netbpf {_middle(structs[0]):.2f} s, "
        f"bpftool {_middle(structs[1]):.2f} s, {also.middle:.1f} x as fast; "
        + add("map dump of structs", f">= {FASTER:g} x bpftool", also.middle >= FASTER),
        f"  prog list, {PROGRAMS} programs          netbpf {_middle(listed[0]) * 1e3:.0f} ms, "
        f"bpftool {_middle(listed[1]) * 1e3:.0f} ms, bare Python {_middle(listed[2]) * 1e3:.0f} ms, "
        f"with the modules it needs {_middle(listed[3]) * 1e3:.0f} ms; "
        + add("prog list", f"<= {LISTING:g} x bpftool and Python's start", beside.middle <= 1),
        f"  inspect, {LARGE[0] + 1} programs           {slowest * 1e3:.0f} ms; "
        + add("inspect", f"<= {INSPECT * 1e3:.0f} ms", slowest <= INSPECT),
        f"  btf dump vmlinux --c           netbpf {_middle(kernel[0]):.2f} s, bpftool {_middle(kernel[1]):.2f} s; "
        + add("vmlinux.h", f"<= {HEADER:g} s", _middle(kernel[0]) <= HEADER),
    ]
    return "\n".join(rows), [
        _json("map dump", netbpf=dump[0], bpftool=dump[1], lines=dump[2]),
        _json("map dump of structs", netbpf=structs[0], bpftool=structs[1]),
        _json(
            "prog list", netbpf=listed[0], bpftool=listed[1], python=listed[2], library=listed[3]
        ),
        _json("inspect", netbpf=look[0]),
        _json("vmlinux.h", netbpf=kernel[0], bpftool=kernel[1]),
    ]


def _large_maps(directory: Path, stack: ExitStack) -> tuple[int, int]:
    """The ids of a map of a million numbers, and of one of structs with nested ones, a value for each CPU."""
    source, target = directory / "map.bpf.c", directory / "map.o"
    source.write_text(_HEAD % (ENTRIES, FLOWS))
    api.compile(source, output=target)
    spec = ObjectSpec.open(target)
    made = stack.enter_context(load(spec, spec.programs[0], None)).maps
    numbers, flows = made["seen"], made["flows"]
    for first in range(0, ENTRIES, _BATCH):
        some = range(first, min(first + _BATCH, ENTRIES))
        keys, values = struct.pack(f"<{len(some)}I", *some), struct.pack(f"<{len(some)}Q", *some)
        sys_bpf.map_update_batch(numbers.fd.fileno(), len(some), keys, values)
    key, value = struct.Struct("<IIHHBBH"), struct.Struct("<QQI6s6x")
    for first in range(0, FLOWS, _BATCH):
        some = range(first, min(first + _BATCH, FLOWS))
        keys = b"".join(key.pack(one, one * 7, one & 0xFFFF, 80, 6, 0, 3) for one in some)
        rows = (value.pack(one, one * 1500, one % 3, b"\2netbp") for one in some)
        copies = b"".join(row * possible_cpus() for row in rows)
        sys_bpf.map_update_batch(flows.fd.fileno(), len(some), keys, copies)
    return numbers.info.id, flows.info.id


def _many_programs(stack: ExitStack) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, PROGRAMS + 256), hard), hard))
    code = Insn(0xB7).pack() + Insn(0x95).pack()
    for number in range(PROGRAMS):
        request = sys_bpf.ProgLoad(ProgType.XDP, code, "GPL", name=f"bench_{number}")
        fd, error, _ = sys_bpf.prog_load(request)
        if fd is None:
            raise BenchmarkError(f"cannot load a program: error {error}")
        stack.enter_context(fd)


def _times(rounds: int, *commands: list[str]) -> list[list[float]]:
    """Seconds by command and round; the first round is not counted."""
    found: list[list[float]] = [[] for _ in commands]
    for number in range(rounds + 1):
        for times, command in zip(found, commands, strict=True):
            with tempfile.TemporaryFile() as out:
                start = time.perf_counter()
                done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False)
                taken = time.perf_counter() - start
            if done.returncode:
                raise BenchmarkError(f"{command[0]}: {done.stderr.decode().strip()[-300:]}")
            if number:
                times.append(taken)
    return found


def _middle(times: list[float]) -> float:
    return sorted(times)[len(times) // 2]


def _json(name: str, **seconds: list[float]) -> dict[str, Any]:
    contestants = [{"who": who, "seconds": times} for who, times in seconds.items()]
    return {"name": name, "contestants": contestants}
