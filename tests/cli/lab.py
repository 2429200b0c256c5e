"""A bench for the command line: one namespace with silent wires, a state directory of its own, netbpf in-process."""

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netbpf import layout
from netbpf.bpf.ids import program_ids
from netbpf.cli.main import main
from netbpf.net.netns import Namespace
from netns_fixtures.topology import End, Topology, Wire
from tests.support.compiling import compile_c
from tests.support.waiting import eventually

OBJECTS = Path(__file__).parent / "objects"
ROOT = Path(__file__).parents[2]
Hook = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def error(self) -> str:
        """The one line on standard error, without its head."""
        [line] = self.err.splitlines()
        assert line.startswith("netbpf: error: "), line
        return line.removeprefix("netbpf: error: ")


def run_cli(*args: object) -> Done:
    """Run ``netbpf ARGS`` in this process."""
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(one) for one in args])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    assert "Traceback" not in err.getvalue()
    return Done(int(code), out.getvalue(), err.getvalue())


class Lab:
    """``lab("attach", "xdp", "dut0", ...)`` runs a command in the namespace of the wires' near ends."""

    def __init__(self, topology: Topology, directory: Path) -> None:
        self.topology = topology
        self.directory = directory
        self.wire: Wire = topology.wire()
        self.namespace: Namespace = self.wire.dut.namespace
        self.netns = f"/proc/{os.getpid()}/fd/{self.namespace.fileno()}"

    # --- netbpf ---

    def __call__(self, *args: object, code: int = 0) -> Done:
        """Run a command in this process; it has to end with ``code``."""
        done = run_cli(*args, "--netns", self.netns)
        assert done.code == code, f"exit code {done.code}: {done.err or done.out}"
        if code:
            assert done.err, "a failure without a word"
        else:
            assert "netbpf: error" not in done.err
        return done

    def attach(self, kind: str, interface: str, source: object, *options: object) -> Done:
        return self("attach", kind, interface, source, *options)

    def hooks(self, *args: object) -> list[Hook]:
        """What ``status --json`` shows."""
        found = self("status", *args, "--json").json["hooks"]
        assert isinstance(found, list)
        return found

    def programs(self, *args: object) -> list[tuple[str, str, str]]:
        """(interface, hook, program name) of everything attached."""
        return [
            (one["interface"], one["hook"], one["program"]["name"]) for one in self.hooks(*args)
        ]

    def get(self, interface: str, name: str, *options: object) -> Any:
        """A value as ``get --json`` gives it."""
        return self("get", interface, name, "--json", *options).json["variables"][name]

    def spawn(self, *args: object, netns: bool = True, **options: Any) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        words = [str(one) for one in args] + (["--netns", self.netns] if netns else [])
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen([sys.executable, "-m", "netbpf", *words], cwd=ROOT, **options)

    def process(self, *args: object) -> Done:
        """The same, to its end."""
        with self.spawn(*args) as running:
            out, err = running.communicate()
        return Done(running.returncode, out, err)

    # --- others ---

    def run(self, *command: object, at: End | None = None) -> str:
        """Another tool in the namespace of dut0, or of ``at``; it has to succeed."""
        words = [str(one) for one in command]
        done = (at or self.wire.dut).run(
            subprocess.run, words, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def wires(self, number: int) -> list[Wire]:
        """So many more wires from the same namespace: dut1, dut2 ..."""
        return [self.topology.wire(dut=self.namespace) for _ in range(number)]

    # --- objects ---

    def object(self, name: str, *, debug: bool = True, cpu: str = "v3") -> Path:
        """The object of ``objects/NAME.bpf.c``, compiled without netbpf."""
        return self.compiled((OBJECTS / f"{name}.bpf.c").read_text(), name, debug=debug, cpu=cpu)

    def compiled(
        self, source: str, name: str = "made", *, debug: bool = True, cpu: str = "v3"
    ) -> Path:
        """The object of some C."""
        path = self.directory / f"{name}.o"
        source = source.replace('#include "net.h"', (OBJECTS / "net.h").read_text())
        path.write_bytes(compile_c(source, debug=debug, cpu=cpu))
        return path

    # --- the end ---

    def clean_up(self) -> None:
        """Everything off, pins and their file system included; the kernel frees what was loaded."""
        loaded = {one["program"]["id"] for one in self.hooks() if one["managed"]}
        self("detach", "--all", "--ignore-missing")
        for place in (layout.link_pins(layout.BPFFS), layout.map_pins(layout.BPFFS)):
            assert not place.exists(), "a pin was left behind, or the directory of the last one"
        own = Path(os.environ["NETBPF_STATE_DIR"]) / "bpffs"
        if own.is_mount():
            assert not list(own.glob("netbpf/*/*")), "a pin was left behind"
            subprocess.run(["umount", "-l", own], check=True)
        eventually(lambda: not loaded & set(program_ids()), f"of {loaded} some are still there")


def udp(
    end: End, port: int = 53, *, number: int = 1, size: int = 100, source: int = 1000
) -> list[bytes]:
    """So many numbered UDP frames of ``size`` bytes to the other end, sent; see ``frame``."""
    frames = [frame(end, port, size=size, source=source, mark=index) for index in range(number)]
    end.send(frames)
    return frames


def frame(end: End, port: int = 53, *, size: int = 100, source: int = 1000, mark: int = 0) -> bytes:
    """A UDP frame to the other end of a wire; its payload begins with ``mark``."""
    head = bytes.fromhex(end.other.mac.replace(":", "") + end.mac.replace(":", "")) + b"\x08\0"
    ip = b"\x45\0" + (size - 14).to_bytes(2) + bytes(4) + b"\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02"
    transport = source.to_bytes(2) + port.to_bytes(2) + (size - 34).to_bytes(2) + bytes(2)
    return (head + ip + transport + mark.to_bytes(4)).ljust(size, b"\0")


def arp(end: End) -> bytes:
    """A frame of 60 bytes that is no IP, sent."""
    head = bytes.fromhex(end.other.mac.replace(":", "") + end.mac.replace(":", "")) + b"\x08\x06"
    made = head.ljust(60, b"\0")
    end.send(made)
    return made
