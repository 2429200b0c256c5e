"""What the contestants work on: interfaces, objects and directories of the benchmark's own."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import BenchmarkError

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent
MANY = 64  # interfaces of the largest line
INSIDE = "NETBPF_BENCHMARK_INSIDE"
BPFFS = Path("/sys/fs/bpf")
DEBIAN_PYTHON = "/usr/bin/python3"


def enter_namespaces(arguments: Sequence[str]) -> None:
    """Start again in a network and a mount namespace of our own, unless that has been done; does not return then.

    Whatever happens, nothing is left on the machine: interfaces, programs and mounts vanish with the process.
    """
    if os.environ.get(INSIDE):
        return
    # What a user's shell does not set: the files that Python compiles are there, as after an installation.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = ["unshare", "--net", "--mount", "--propagation", "private",
               sys.executable, "-m", "benchmarks", *arguments]  # fmt: skip
    os.execvpe("unshare", command, {**kept, INSIDE: "1"})


@dataclass(frozen=True, slots=True)
class Bed:
    """Paths and names for the lines. Interfaces ``b0`` to ``b63`` and ``loaded``; the latter has two programs on it."""

    directory: Path
    python: str
    netbpf: str
    object: Path
    section: str
    program: str
    pin: Path
    many: tuple[str, ...]
    map_ids: tuple[int, ...]
    rodata_id: int
    environment: dict[str, str]
    setlink: str | None

    def call(self, *command: str) -> str:
        """Run a command that has to succeed; what it printed."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchmarkError(f"{shlex.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def shell(self, script: str) -> list[str]:
        """A command that runs a script and ends with its first failure."""
        return ["/bin/sh", "-ec", script]


def missing(*names: str) -> list[str]:
    """Which commands are not installed."""
    return [one for one in names if shutil.which(one) is None]


@contextmanager
def made() -> Iterator[Bed]:
    """Make everything, in namespaces that are our own already."""
    with tempfile.TemporaryDirectory(prefix="netbpf-bench-") as name:
        bed = _bed(Path(name))
        try:
            yield bed
        finally:
            bed.call(bed.netbpf, "detach", "--all", "--ignore-missing")


def _bed(directory: Path) -> Bed:
    # Our own bpffs, records and cache: what others do on this machine is neither seen nor touched.
    state = Path("/run/netbpf")
    state.mkdir(mode=0o700, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", str(state))
    if BPFFS.is_dir():
        _run("mount", "-t", "bpf", "bpf", str(BPFFS))
    _interfaces()
    python, netbpf = sys.executable, str(Path(sys.executable).with_name("netbpf"))
    environment = dict(os.environ) | {"NETBPF_CACHE_DIR": str(directory / "cache")}
    del environment[INSIDE]
    built = ROOT / "netbpf" / "_objects" / "xdp_globals.bpf.o"
    if not built.exists():
        raise BenchmarkError(f"{built} is not there: run `make bpf`")
    object_ = Path(shutil.copy(built, directory / "prog.o"))
    for arguments in (("xdp",), ("tc", "--egress")):
        kind, rest = arguments[0], arguments[1:]
        _run(netbpf, "attach", kind, "loaded", f"builtin:{kind}_count", *rest)
    hooks = json.loads(_run(netbpf, "status", "loaded", "--json"))["hooks"]
    maps = tuple(one for hook in hooks for one in hook["program"]["map_ids"])
    names = {
        one: json.loads(_run("bpftool", "-j", "map", "show", "id", str(one)))["name"]
        for one in (maps if shutil.which("bpftool") else ())
    }
    return Bed(
        directory=directory,
        python=python,
        netbpf=netbpf,
        object=object_,
        section="xdp",
        program="xdp_globals",
        pin=BPFFS / "bench",
        many=tuple(f"b{number}" for number in range(MANY)),
        map_ids=maps,
        rodata_id=next((one for one, name in names.items() if name.endswith(".rodata")), 0),
        environment=environment,
        setlink=_compile_setlink(directory),
    )


def _interfaces() -> None:
    pairs = [("loaded", "loaded-peer"), *((f"b{n}", f"p{n}") for n in range(MANY))]
    batch = [
        "link set lo up",
        *(f"link add {one} type veth peer name {other}" for one, other in pairs),
    ]
    batch += [f"link set {name} up" for pair in pairs for name in pair]
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    subprocess.run(["ip", "-batch", "-"], input="\n".join(batch), text=True, check=True)


def _compile_setlink(directory: Path) -> str | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    target = str(directory / "setlink")
    _run(compiler, "-O2", "-Wall", "-Werror", str(HERE / "setlink.c"), "-o", target)
    return target


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout
