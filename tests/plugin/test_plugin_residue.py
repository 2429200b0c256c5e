"""Leak checks: each kind of residue is seen, and nobody is accused of what others hold."""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbpf import layout
from netbpf._sys import bpf
from netbpf._sys.info import map_info
from netbpf.bpf.ids import link_ids
from netbpf.constants import MapType, ProgType
from netns_fixtures.kinds import TC_CLSACT, TC_TCX, XDP_SKB
from netns_fixtures.programs import attach, attach_pass
from netns_fixtures.residue import Snapshot
from netns_fixtures.topology import Topology, Wire
from tests.support.foreign import foreign_program

pytestmark = [pytest.mark.requires("root"), pytest.mark.serial]

Leaks = Callable[..., list[str]]


@pytest.fixture
def own_leaks() -> Leaks:
    """What this process holds more than when the fixture was made."""
    return Snapshot.take(machine=False).leaks


def test_nothing_is_nothing(own_leaks: Leaks) -> None:
    assert own_leaks(patience=0.0) == []


def test_a_descriptor_is_seen(own_leaks: Leaks) -> None:
    with open("/dev/zero", "rb") as file:
        assert own_leaks(patience=0.0) == [f"descriptor: {file.fileno()} -> /dev/zero"]
    assert own_leaks(patience=0.0) == []


def test_a_namespace_is_seen_by_its_descriptor(own_leaks: Leaks) -> None:
    with Topology() as topology:
        inode = topology.namespace().inode
        [line] = own_leaks(patience=0.0)
        assert line.endswith(f"-> net:[{inode}]")


def test_a_named_namespace_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    leaks = Snapshot.take().leaks
    name = f"netbpf-leak-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        assert f"named namespace: {name}" in leaks(patience=0.0)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
    assert f"named namespace: {name}" not in leaks(patience=0.0)


def test_a_worker_does_not_judge_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert "named namespace" not in Snapshot.take().machine


def test_a_thread_is_seen(own_leaks: Leaks) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="straggler")
    thread.start()
    try:
        assert own_leaks(patience=0.0) == ["thread: straggler"]
    finally:
        stop.set()
        thread.join()
    assert own_leaks(patience=0.0) == []


def test_a_child_is_seen_even_as_a_zombie(own_leaks: Leaks) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        [line] = [one for one in own_leaks(patience=0.0) if one.startswith("child process:")]
        assert line.startswith(f"child process: {child.pid} (")
        assert child.stdin
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert any(line.startswith("child process:") for line in own_leaks(patience=0.0))
    assert own_leaks() == []


def test_programs_maps_and_links_are_seen_by_name(leaks: Leaks, wire: Wire) -> None:
    before = Snapshot.take()
    with attach(wire.dut, XDP_SKB, "builtin:xdp_globals"), attach_pass(wire.dut, TC_TCX):
        lines = before.leaks(patience=0.0)
    kinds = [line.partition(":")[0] for line in lines]
    assert {"program", "link", "map", "descriptor"} <= set(kinds)
    assert any(line.startswith("program: ") and line.endswith("'xdp_globals'") for line in lines)
    assert any(line.startswith("program: ") and line.endswith("'tc_verdict'") for line in lines)
    assert any("anon_inode:bpf-prog (program " in line for line in lines)
    assert before.leaks() == []


def test_what_stays_attached_without_a_descriptor_is_seen(wire: Wire) -> None:
    before = Snapshot.take()
    program = attach_pass(wire.dut, TC_CLSACT)
    number = program.id
    program.close()
    assert f"program: {number} 'tc_verdict'" in before.leaks(patience=0.5)


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.parametrize(("directory", "accused"), [("netbpf/maps", False), ("mine", True)])
def test_a_pinned_map_is_seen_unless_netbpf_keeps_it_for_a_program(
    bpffs: Path, directory: str, accused: bool
) -> None:
    """Whose it is nobody can tell; with a program that was left behind the program is named."""
    before = Snapshot.take()
    place = bpffs / directory
    place.mkdir(parents=True)
    with bpf.map_create(MapType.ARRAY, 4, 8, 1, name="kept") as made:
        number = map_info(made.fileno()).id
        bpf.obj_pin(str(place / str(number)), made.fileno())
    assert before.leaks(patience=0.2) == ([f"map: {number} 'kept'"] if accused else [])


def test_what_another_state_directory_keeps_attached_is_not_ours(
    bpffs: Path, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that only a pin holds, as netbpf leaves it; of our own it is a leak."""
    before = Snapshot.take()
    with attach_pass(wire.dut, TC_TCX) as program:
        number = program.id
        place = layout.link_pins(bpffs)
        place.mkdir(parents=True, mode=0o700)
        place.parent.chmod(0o700)
        (link,) = set(link_ids()) - set(before.machine["link"])
        with bpf.fd_by_id("LINK", link) as opened:
            bpf.obj_pin(str(place / "it"), opened.fileno())
    lines = before.leaks(patience=0.2)
    assert f"program: {number} 'tc_verdict'" in lines
    monkeypatch.setenv("NETBPF_STATE_DIR", str(bpffs / "other"))
    assert before.leaks(patience=0.2) == []


def test_a_prog_array_that_only_the_kernel_holds_is_nobodys() -> None:
    """It keeps some for good; one that a test keeps open is told by its descriptor."""
    before = Snapshot.take()
    with bpf.map_create(MapType.PROG_ARRAY, 4, 4, 1, name="kept") as array:
        with foreign_program(ProgType.XDP, 2) as program:
            bpf.map_update(array.fileno(), bytes(4), struct.pack("=I", program.fileno()), 0)
        (line,) = before.leaks(patience=0.2)
    assert line.startswith("descriptor: ")


OTHER = """
import sys
from netns_fixtures.kinds import KINDS
from netns_fixtures.programs import attach, attach_pass
from netns_fixtures.topology import Topology

held, left = Topology(), Topology()
kept = attach(held.wire().dut, KINDS["tc-tcx"], "builtin:tc_globals")
programs = [
    attach(left.wire().dut, KINDS["xdp-skb"], "builtin:xdp_globals"),
    attach_pass(left.wire().dut, KINDS["tc-clsact"]),
]
print(*(one.id for one in [kept, *programs]), flush=True)
for one in programs:
    one.close()
print("ready", flush=True)
sys.stdin.read()
"""


def ready(process: subprocess.Popen[str]) -> set[str]:
    """The programs of another process, once it holds one by a descriptor and two only by its namespaces."""
    assert process.stdout
    numbers = process.stdout.readline().split()
    assert process.stdout.readline() == "ready\n"
    return set(numbers)


def blamed(lines: list[str]) -> set[str]:
    """The numbers of the programs a leak check complains of."""
    return {line.split()[1].rstrip(",") for line in lines if line.startswith("program: ")}


def test_nobody_is_accused_of_what_another_process_holds(tmp_path: Path) -> None:
    """By descriptor, and on an interface of a namespace that only the other process knows."""
    script = tmp_path / "other.py"
    script.write_text(OTHER)
    # A grandchild whose parent has ended belongs to nobody here: another test run, as far as we can tell.
    fifo = tmp_path / "stdin"
    os.mkfifo(fifo)
    before = Snapshot.take()
    shell = f"{sys.executable} {script} < {fifo} & disown"
    with (
        subprocess.Popen(["bash", "-c", shell], stdout=subprocess.PIPE, text=True) as parent,
        fifo.open("w"),
    ):
        numbers = ready(parent)
        parent.wait()
        assert len(numbers) == 3
        assert numbers <= {str(number) for number in Snapshot.take().machine["program"]}
        assert not blamed(before.leaks(patience=0.5)) & numbers


def test_a_child_that_holds_something_is_accused(tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(OTHER)
    before = Snapshot.take()
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        numbers = ready(child)
        assert numbers <= blamed(before.leaks(patience=0.5))
        assert child.stdin
        child.stdin.close()
    assert not blamed(before.leaks()) & numbers


class Holder:
    """Holds a descriptor and itself, and lets go of both only when the cycle collector comes."""

    def __init__(self) -> None:
        self.itself = self
        self.fd = os.dup(0)

    def __del__(self) -> None:
        os.close(self.fd)


def test_garbage_that_waits_for_the_collector_is_no_leak(own_leaks: Leaks) -> None:
    Holder()
    assert own_leaks() == []
