"""``attach auto``: programs on hooks that are no interfaces run, are shown, and are taken off again."""

import errno
import json
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import netbpf
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf import hookup
from netbpf.bpf.map import Map
from netbpf.bpf.pin import open_pin
from netbpf.errors import KernelError
from netbpf.manager.autopins import CompanionSet
from tests.cli.lab import Done, Lab, run_cli, udp

SOURCE = (Path(__file__).parent / "companions.bpf.c").read_text()
HERE = (
    "on_tracepoint on_raw on_typed on_jump on_connect on_egress on_socket on_lookup on_task"
).split()


@pytest.fixture
def path(lab: Lab) -> Iterator[Path]:
    """The object; whatever is attached of it is taken off."""
    yield lab.compiled(SOURCE, "companions")
    auto("detach", "--all", "--ignore-missing", code=0)


def auto(verb: str, *args: object, code: int) -> Done:
    done = run_cli(verb, "auto", *args)
    assert done.code == code, done.err or done.out
    return done


def sets() -> list[dict[str, Any]]:
    done = run_cli("status", "--json")
    found = done.json["auto"]
    assert isinstance(found, list)
    return found


def counted(index: int) -> int:
    """What the programs of the one set have counted."""
    [group] = sets()
    ids = {number for one in group["programs"] for number in one["program"]["map_ids"]}
    for number in ids:
        with Map.by_id(number) as one:
            if one.info.name == "seen":
                return int.from_bytes(one.lookup(index.to_bytes(4, "little")) or b"", "little")
    raise AssertionError("no map called seen")


def execute() -> None:
    subprocess.run(["/bin/true"], check=True)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    directory = hookup.cgroup_root() / f"netbpf-test-{os.getpid()}"
    directory.mkdir()
    yield directory
    if directory.exists():
        directory.rmdir()


# --- they run ---


@pytest.mark.parametrize(
    ("name", "index"),
    [("on_tracepoint", 0), ("on_raw", 1), ("on_typed", 2), ("on_jump,on_socket", 3)],
)
def test_tracing_programs_count_what_happens(path: Path, name: str, index: int) -> None:
    auto("attach", path, "-n", name, code=0)
    before = counted(index)
    execute()
    # Others on this machine start programs too.
    assert counted(index) > before


def test_a_cgroup_program_decides_for_its_cgroup_alone(path: Path, cgroup: Path) -> None:
    auto("attach", path, "-n", "on_connect", "--cgroup", cgroup, code=0)
    [one] = sets()[0]["programs"]
    assert one["hook"] == f"cgroup {cgroup}"
    script = (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    )
    command = ["/usr/bin/python3", "-I", "-c", script]
    assert not subprocess.run(command, check=False).returncode
    assert counted(4) == 0
    inside = ["sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh", *command]
    done = subprocess.run(inside, capture_output=True, text=True, check=False)
    assert "PermissionError" in done.stderr
    assert counted(4) == 1


def test_a_socket_filter_waits_for_a_process_with_a_socket(path: Path) -> None:
    done = auto("attach", path, "-n", "on_socket", code=0)
    [one] = sets()[0]["programs"]
    assert done.out.startswith(f"socket: on_socket waits at {one['pin']} for who attaches it")
    assert one["link_id"] is None
    opened = open_pin(Path(one["pin"]))
    assert opened
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with opened, left, right:
        right.setsockopt(socket.SOL_SOCKET, 50, struct.pack("i", opened.fileno()))  # SO_ATTACH_BPF
        left.send(b"dropped")
        with pytest.raises(BlockingIOError):
            right.recv(10, socket.MSG_DONTWAIT)
    assert counted(6) == 1


def test_a_program_of_a_network_namespace(lab: Lab, path: Path) -> None:
    auto("attach", path, "-n", "on_lookup", "--netns", lab.netns, code=0)
    done = auto("attach", path, "-n", "on_lookup", "--netns", "no-such-namespace", code=6)
    assert "no-such-namespace" in done.error
    assert len(sets()) == 1


def test_an_iterator_is_read_by_its_pin(path: Path) -> None:
    auto("attach", path, "-n", "on_task", code=0)
    [one] = sets()[0]["programs"]
    assert Path(one["pin"]).read_bytes() == b""
    assert counted(8) > 1


def test_all_of_an_object_share_its_maps_and_settings(path: Path) -> None:
    done = auto("attach", path, "--set", "step=5", "--map-size", "seen=32", code=0)
    [group] = sets()
    assert [one["name"] for one in group["programs"]] == HERE
    ids = [set(one["program"]["map_ids"]) for one in group["programs"]]
    assert set.intersection(
        *(one for one, name in zip(ids, HERE, strict=True) if name != "on_jump")
    )
    before = counted(1)
    execute()
    assert counted(1) >= before + 5
    assert counted(1) % 5 == 0
    assert "note: on_xdp needs an interface: netbpf attach xdp IFACE OBJECT -n on_xdp" in done.err
    assert "only_by_name" not in done.out + done.err


def test_a_question_mark_in_the_section_means_by_name(path: Path) -> None:
    auto("attach", path, "-n", "only_by_name", code=0)
    assert [one["name"] for one in sets()[0]["programs"]] == ["only_by_name"]


def test_a_source_is_compiled(lab: Lab, path: Path) -> None:
    source = lab.directory / "own.bpf.c"
    source.write_text(SOURCE)
    auto("attach", source, "-n", "on_raw,on_tracepoint", code=0)
    [group] = sets()
    assert group["object"]["path"] == str(source)
    assert [one["name"] for one in group["programs"]] == ["on_raw", "on_tracepoint"]


def test_a_companion_works_on_the_maps_of_a_network_program(lab: Lab, path: Path) -> None:
    lab.attach("xdp", "dut0", path)
    udp(lab.wire.peer, number=3)
    words = ["--netns", lab.netns]
    auto("attach", path, "-n", "on_raw", "--share", "seen=dut0/xdp/on_xdp", *words, code=0)
    assert counted(10) == 3
    execute()
    assert int(lab.get("dut0", "seen[1]")) > 0
    auto("detach", code=0)
    number = next(n for n in lab.hooks()[0]["program"]["map_ids"] if _name(n) == "seen")
    auto("attach", path, "-n", "on_raw", "--map", f"seen=id:{number}", *words, code=0)
    assert counted(10) == 3
    done = auto("attach", path, "-n", "on_raw", "--share", "seen=dut0/xdp/nobody", *words, code=8)
    assert "nobody" in done.error
    done = auto("attach", path, "-n", "on_raw", "--share", "jumps=dut0/xdp/on_xdp", *words, code=3)
    assert "has no map jumps" in done.error
    done = auto("attach", path, "-n", "on_raw", "--map", f"jumps=id:{number}", *words, code=3)
    assert done.error
    done = auto(
        "attach", path, "-n", "on_raw", "--map", f"seen=id:{number}", "--map-size", "seen=9", *words, code=2
    )  # fmt: skip
    assert "keeps the size it has" in done.error
    assert len(sets()) == 1


def _name(number: int) -> str:
    with Map.by_id(number) as one:
        return one.info.name


# --- they are shown and taken off ---


def test_status_shows_them_below_the_hooks(lab: Lab, path: Path) -> None:
    lab.attach("xdp", "dut0", path)
    auto("attach", path, "-n", "on_raw", code=0)
    text = lab("status").lines
    assert text[1].split()[:2] == ["dut0", "xdp"]
    assert text[3].split() == ["AUTO", "HOOK", "PROGRAM", "ID", "TAG", "SINCE", "OBJECT"]
    assert text[4].split()[:5] == ["1", "raw", "tracepoint", "sched_process_exec", "on_raw"]
    # On no interface, so not on this one.
    assert "on_raw" not in lab("status", "dut0").out
    assert lab("status", "dut0", "--json").json["auto"] == []
    assert len(lab.hooks()) == 1


def test_detached_means_gone(path: Path) -> None:
    auto("attach", path, "-n", "on_raw,on_egress,on_socket", code=0)
    numbers = [one["program"]["id"] for one in sets()[0]["programs"]]
    done = auto("detach", code=0)
    assert done.out.count("detached") == 3
    assert sets() == []
    for number in numbers:
        _until_gone(number)
    state = Path(os.environ["NETBPF_STATE_DIR"])
    assert not list(state.glob("auto/*"))
    assert not list(state.glob("bpffs/netbpf/auto/*"))


def _until_gone(number: int) -> None:
    """The kernel frees a program after an RCU grace period."""
    for _ in range(20_000):
        try:
            sys_bpf.fd_by_id("PROG", number).close()
        except KernelError:
            return
        os.sched_yield()
    raise AssertionError(f"program {number} is still there")


def test_which_set_is_meant(path: Path, lab: Lab) -> None:
    other = lab.compiled(SOURCE, "other")
    for each in (path, other):
        auto("attach", each, "-n", "on_raw", code=0)
    done = auto("detach", code=2)
    assert "2 sets are meant: 1 (" in done.error
    assert "netbpf detach auto 1" in done.error
    auto("detach", other, code=0)
    assert [one["object"]["path"] for one in sets()] == [str(path)]
    auto("attach", path, "-n", "on_raw", code=0)
    assert [one["number"] for one in sets()] == [1, 2]
    auto("detach", 1, code=0)
    assert [one["number"] for one in sets()] == [2]
    auto("detach", "--all", code=0)
    done = auto("detach", code=8)
    assert "nothing was attached by attach auto" in done.error
    assert auto("detach", 7, "--ignore-missing", code=0).out == "nothing is attached\n"


def test_a_cgroup_that_is_gone_is_said(path: Path, cgroup: Path) -> None:
    auto("attach", path, "-n", "on_egress", "--cgroup", cgroup, code=0)
    cgroup.rmdir()
    [one] = sets()[0]["programs"]
    # The kernel lets go of a cgroup's programs by a worker of its own.
    for _ in range(20_000):
        if one["gone"]:
            break
        os.sched_yield()
        [one] = sets()[0]["programs"]
    assert one["gone"]
    assert f"cgroup {cgroup} (gone)" in run_cli("status").out
    assert "what it was on is gone" in auto("detach", code=0).out


def test_pins_are_the_truth_and_records_a_comfort(path: Path, private: Path) -> None:
    auto("attach", path, "-n", "on_raw", code=0)
    for garbage in (
        None,
        b"",
        b"{",
        b'{"schema":"netbpf.auto/1"}',
        b'{"schema":"netbpf.auto/2"}',
        b"[" * 9999,
    ):
        (private / "auto/1.json").unlink(missing_ok=True)
        if garbage is not None:
            (private / "auto/1.json").write_bytes(garbage)
        [group] = sets()
        assert group["object"] is None
        assert [one["name"] for one in group["programs"]] == ["on_raw"]
        assert "raw tracepoint" not in run_cli("status").out
    auto("detach", 1, code=0)
    assert not (private / "auto/1.json").exists()
    # And a record alone is nothing.
    (private / "auto/9.json").write_text(json.dumps({
        "schema": "netbpf.auto/1", "object": {"path": "x", "sha256": "y"}, "attached_at": 1.0, "programs": [],
    }))  # fmt: skip
    assert sets() == []
    auto("detach", code=8)
    assert not (private / "auto/9.json").exists()


# --- what cannot be ---

REFUSED = {
    "tracepoint/sched/sched_proces_exec": (5, "did you mean sched/sched_process_exec"),
    "tracepoint/sched_process_exec": (3, "needs a tracepoint: tracepoint/CATEGORY/NAME"),
    "tracepoint/../events": (5, "no tracepoint"),
    "raw_tp/sched/sched_process_exec": (5, "takes the name alone"),
    "raw_tp": (3, "needs a tracepoint: raw_tp/NAME"),
    "tp_btf/no_such": (5, "this kernel has no no_such"),
    "fentry/no_such_function": (5, "this kernel has no no_such_function"),
    "fentry": (3, "needs what to trace: fentry/NAME"),
    "kprobe": (3, "needs a function: kprobe/NAME"),
    "freplace/other": (3, "needs the program whose function it replaces"),
    "struct_ops/init": (3, "needs a map of operations"),
    "xdp": (3, "attach it with: netbpf attach xdp IFACE OBJECT"),
    "tcx/egress": (3, "attach it with: netbpf attach tc IFACE OBJECT"),
    "what_is_this": (3, "does not say to what it is attached"),
}


@pytest.mark.parametrize("section", REFUSED)
def test_what_a_section_cannot_attach(lab: Lab, section: str) -> None:
    code, words = REFUSED[section]
    source = f"""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("raw_tp/sched_process_exec") int fine(void *ctx) {{ return 0; }}
SEC("{section}") int wrong(void *ctx) {{ return 0; }}
char _license[] SEC("license") = "GPL";
"""
    done = auto("attach", lab.compiled(source), "-n", "fine,wrong", code=code)
    assert words in done.error
    assert "wrong" in done.error
    assert sets() == []


@pytest.mark.parametrize("section", [
    "socket1", "socket/name", "sk_reuseport", "sk_reuseport/migrate", "sk_skb", "sk_skb/stream_parser",
    "sk_skb/stream_verdict", "sk_skb/verdict", "sk_msg", "lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local", "perf_event",
    "syscall", "uprobe", "uprobe//bin/sh:main", "uprobe.s/x:y", "usdt/x:y:z",
])  # fmt: skip
def test_what_waits_for_a_process(lab: Lab, section: str) -> None:
    source = f"""#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("{section}") int waits(void *ctx) {{ return 0; }}
char _license[] SEC("license") = "GPL";
"""
    auto("attach", lab.compiled(source), code=0)
    [one] = sets()[0]["programs"]
    opened = open_pin(Path(one["pin"]))
    assert opened
    opened.close()
    assert one["link_id"] is None
    auto("detach", code=0)


def test_the_rest_goes_without_what_the_kernel_lacks(lab: Lab, path: Path) -> None:
    source = SOURCE.replace("tp_btf/sched_process_exec", "tp_btf/not_here")
    done = auto("attach", lab.compiled(source), code=5)
    assert "program on_typed" in done.error
    without = done.error.rpartition("-n ")[2]
    assert without.split(",") == [one for one in HERE if one != "on_typed"]
    auto("attach", lab.directory / "made.o", "-n", without, code=0)
    assert len(sets()[0]["programs"]) == len(HERE) - 1


def test_a_kernel_without_kprobes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hookup, "_EVENT_SOURCES", tmp_path)
    source = SOURCE.replace("tp_btf/sched_process_exec", "kprobe/do_exit")
    done = auto("attach", lab.compiled(source), "-n", "on_typed", code=5)
    assert "program on_typed of made.o: this kernel has no kprobes" in done.error
    assert sets() == []


def test_objects_without_such_programs(lab: Lab) -> None:
    source = SOURCE[: SOURCE.index('SEC("tracepoint')] + SOURCE[SOURCE.index('SEC("xdp")') :]
    source = source.replace(
        '__array(values, int(void *));\n} jumps SEC(".maps") = { .values = { (void *)&jumped_to } };',
        '__uint(value_size, 4);\n} jumps SEC(".maps");',
    )
    done = auto("attach", lab.compiled(source), code=3)
    assert "holds no program that its section attaches" in done.error
    assert "netbpf attach xdp IFACE" in done.error


def test_names_that_are_none(path: Path) -> None:
    assert "did you mean on_raw" in auto("attach", path, "-n", "on_rav", code=3).error
    assert "no such file" in auto("attach", "no such file.o", code=3).error.lower()
    done = auto("attach", path, "-n", "on_connect", "--cgroup", "/nowhere", code=2)
    assert "--cgroup /nowhere: No such file" in done.error
    done = auto("attach", path, "-n", "on_connect", "--cgroup", "/tmp", code=2)
    assert "/tmp is no directory of cgroup v2" in done.error
    assert sets() == []


def test_a_rejected_program_is_explained(lab: Lab) -> None:
    source = SOURCE.replace("return count(1, 0);", "return *(int *)0x10;")
    done = auto("attach", lab.compiled(source), "--log", lab.directory / "log", code=4)
    assert "program on_raw" in done.err
    assert (lab.directory / "log").stat().st_size
    assert sets() == []


def test_options_for_interfaces_are_not_for_auto(path: Path) -> None:
    for words in (["--mode", "skb"], ["--egress"], ["--replace"], ["eth0"]):
        assert auto("attach", path, *words, code=2).err


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSPC])
def test_a_kernel_that_fails_at_any_step_leaves_nothing(
    path: Path, private: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    genuine, calls = sys_bpf._syscall, [0]
    step = 0
    while True:
        step += 1
        calls[0] = 0

        def failing(command: int, attr: sys_bpf.Buffer, step: int = step) -> int:
            calls[0] += 1
            return -number if calls[0] == step else genuine(command, attr)

        monkeypatch.setattr(sys_bpf, "_syscall", failing)
        done = run_cli("attach", "auto", path, "-n", "on_raw,on_egress,on_socket,on_jump")
        monkeypatch.setattr(sys_bpf, "_syscall", genuine)
        if calls[0] < step:
            break
        if done.code:
            assert sets() == [], step
            assert not list(private.glob("auto/*")), step
            assert not list(private.glob("bpffs/netbpf/auto/*")), step
        else:
            auto("detach", code=0)
    assert step > 20
    assert done.code == 0


def uncounted(group: CompanionSet) -> CompanionSet:
    """Without how often its programs ran: another test may have the kernel count that."""
    programs = (
        replace(one, program=replace(one.program, run_count=0, run_time_ns=0))
        for one in group.programs
    )
    return replace(group, programs=tuple(programs))


def test_the_library(path: Path) -> None:
    result = netbpf.attach_auto(
        path, ["on_raw", "on_task"], settings={"step": 2}, map_sizes={"seen": 12}
    )
    assert [one.name for one in result.attached.programs] == ["on_raw", "on_task"]
    [group] = netbpf.companions()
    assert uncounted(group) == uncounted(result.attached)
    execute()
    assert counted(1) >= 2
    [detached] = netbpf.detach_auto(group.number)
    assert uncounted(detached) == uncounted(group)
    assert netbpf.companions() == []
    assert netbpf.detach_auto(missing_ok=True) == []


def test_the_help_of_both(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for verb, words in (
        (
            "attach",
            "--program --set --map-size --tail-call --share --map --pin-maps --cgroup --btf --netns --json",
        ),
        ("detach", "--all --ignore-missing --lock-timeout --json NUMBER"),
    ):
        done = auto(verb, "--help", code=0)
        assert done.out.startswith(f"Usage: netbpf {verb} auto ")
        assert all(word in done.out for word in words.split())
        assert all(len(line) <= 100 for line in done.lines)
    # The other forms say that there is this one.
    assert "netbpf attach auto OBJECT" in run_cli("attach", "--help").out.replace("\n", " ")
