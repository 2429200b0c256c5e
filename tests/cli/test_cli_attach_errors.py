"""Why a program is not attached, as the command line says it: who is there, since when, what confines, what next."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netbpf._sys import bpf, capabilities, confinement
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.bpf import holders, pin
from netbpf.bpf.program import Program
from netbpf.constants import AttachType, Hook, Mode
from netbpf.manager.words import occupant_text
from netbpf.model import Attachment, Interface, Occupant, ProgramInfo
from tests.cli.lab import ROOT, Done, Lab

AGE = r"loaded (?:\d+[dhms] )+ago"


@contextmanager
def foreign_link(lab: Lab) -> Iterator[Fd]:
    """A link of this process on the XDP hook of dut0, with a program that another tool loaded."""
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    [number] = [one["program"]["id"] for one in lab.hooks()]
    with Program.by_id(number) as program:
        lab.run("ip", "link", "set", "dut0", "xdp", "off")
        ifindex = lab.namespace.run(socket.if_nametoindex, "dut0")
        with lab.namespace.run(
            bpf.link_create, program.fd.fileno(), ifindex, AttachType.XDP, flags=0
        ) as link:
            yield link


def both(lab: Lab, *words: object, code: int) -> str:
    """The error of a command, the same for people and as JSON, but for the age of programs."""
    plain = lab(*words, code=code).error
    error = lab(*words, "--json", code=code).json["error"]
    same = error["message"] + (f"; {error['hint']}" if error["hint"] else "")
    assert re.sub(AGE, "", same) == re.sub(AGE, "", plain)
    return plain


# --- who, and since when ---


def test_a_foreign_program_is_told_with_its_age(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    [hook] = lab.hooks()
    who = rf"filter \(program {hook['program']['id']}, native, not managed by netbpf, {AGE}\)"
    for words, code in (
        (("attach", "xdp", "dut0", "builtin:xdp_count"), 7),
        (("attach", "xdp", "dut0", "builtin:xdp_count", "--replace"), 7),
        (("detach", "dut0"), 9),
    ):
        assert re.search(who, both(lab, *words, code=code))
    assert lab.hooks() == [hook]
    lab("detach", "xdp", "dut0", "--force")


@pytest.mark.parametrize(
    ("age", "uid", "words"),
    [(200, 0, "loaded 3m 20s ago)"), (5, 1000, "loaded 5s ago by user 1000)"),
     (266_400, 0, "loaded 3d 2h ago)"), (-5, 0, "loaded 0s ago)")],
)  # fmt: skip
def test_the_age_of_a_foreign_program(
    monkeypatch: pytest.MonkeyPatch, age: int, uid: int, words: str
) -> None:
    monkeypatch.setattr("time.clock_gettime", lambda _: 1_000_000.0)
    program = ProgramInfo(
        id=7, name="x", type=6, tag="", loaded_at_ns=(1_000_000 - age) * 10**9, uid=uid
    )
    occupant = Occupant(Interface("eth0", 2, 0), Hook.XDP, Mode.NATIVE, 7)
    assert occupant_text(Attachment(occupant, program, False, None)).endswith(words)
    assert "loaded" not in occupant_text(Attachment(occupant, program, True, "netbpf"))


# --- links ---


@pytest.mark.serial  # whoever lists the links of the machine holds each for a moment
def test_the_process_that_holds_a_link_is_named(lab: Lab) -> None:
    held = rf"native link, not managed by netbpf, {AGE}, held by process {os.getpid()} \("
    with foreign_link(lab):
        assert re.search(held, both(lab, "attach", "xdp", "dut0", "builtin:xdp_count", code=7))
        assert re.search(held, both(lab, "detach", "xdp", "dut0", code=9))
        lab("detach", "xdp", "dut0", "--force")
        assert lab.hooks() == []


@pytest.mark.serial
def test_the_pin_that_holds_a_link_is_named(lab: Lab) -> None:
    path = pin.bpffs() / f"test-attach-errors-{os.getpid()}\n"
    with foreign_link(lab) as link:
        bpf.obj_pin(str(path), link.fileno())
    try:
        error = both(lab, "attach", "xdp", "dut0", "builtin:xdp_count", code=7)
        shown = str(path).replace("\n", "\\n")
        assert f"the pin {shown})" in error
        assert f"process {os.getpid()}" not in error
    finally:
        path.unlink()


def test_the_search_for_holders_is_bounded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with foreign_link(lab):
        number = lab.hooks()[0]["link_id"]
        assert os.getpid() in [one.pid for one in holders.link_holders(number).processes]
        monkeypatch.setattr(holders, "_FEW_DESCRIPTORS", 0)
        assert holders.link_holders(number).processes == ()


def test_many_holders_are_counted() -> None:
    some = tuple(holders.Process(number, "x\x1b") for number in range(1, 6))
    assert str(holders.Holders((), some[:1])) == "process 1 (x\\x1b)"
    assert str(holders.Holders(("/p",), some[:1])) == "process 1 (x\\x1b) and the pin /p"
    assert str(holders.Holders((), some)).endswith("process 3 (x\\x1b) and 2 more")
    assert str(holders.Holders()) == ""


# --- what the kernel refuses ---


def test_auto_falls_back_where_queues_are_missing(lab: Lab) -> None:
    lab.run(
        "ip",
        "link",
        "add",
        "q0",
        "numrxqueues",
        1,
        "type",
        "veth",
        "peer",
        "name",
        "q1",
        "numtxqueues",
        4,
    )
    lab.run("ethtool", "-L", "q1", "tx", 4)
    error = both(lab, "attach", "xdp", "q0", "builtin:xdp_count", code=5)
    assert error.endswith("ethtool -L q1 tx 1; or use --mode skb")
    assert "XDP expects number of rx queues" in error
    done = lab("attach", "xdp", "q0", "builtin:xdp_count", "--mode", "auto")
    assert "q0 xdp: xdp_count attached (skb" in done.out
    lab("detach", "xdp", "q0")
    lab.run("ethtool", "-L", "q1", "tx", 1)
    lab("attach", "xdp", "q0", "builtin:xdp_count")


def test_a_port_of_a_bridge_with_a_program(lab: Lab) -> None:
    lab.run("ip", "link", "add", "br0", "type", "bridge")
    lab.run("ip", "link", "set", "dut0", "master", "br0")
    lab("attach", "xdp", "br0", "builtin:xdp_count", "--mode", "skb")
    error = both(lab, "attach", "xdp", "dut0", "builtin:xdp_count", code=7)
    assert re.search(r"'xdp_count' \(skb\) is on br0, which dut0 is part of", error)
    assert "or attach to br0" in error
    assert [one["interface"] for one in lab.hooks()] == ["br0"]


# --- what confines ---

_SECCOMP = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
# load the number of the call; bpf(2): EPERM; others: allow (include/uapi/linux/{filter,seccomp}.h)
code = b"".join(struct.pack("=HBBI", *one) for one in (
    (0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)))
room = ctypes.create_string_buffer(code)
fprog = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", 4, ctypes.addressof(room)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, fprog, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "netbpf", *sys.argv[2:]])
"""
_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_ATTACH = ("attach", "xdp", "lo", "builtin:xdp_count", "--mode", "skb", "--json")


def confined(*command: object) -> Done:
    words = [str(one) for one in command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def denied(done: Done) -> dict[str, str]:
    assert done.code == 10, done.err
    error: dict[str, str] = json.loads(done.out)["error"]
    assert error["type"] == "PermissionDeniedError"
    assert "though every capability it needs is there" in error["message"]
    return error


@pytest.mark.root
@pytest.mark.skipif(platform.machine() not in _BPF, reason="the number of bpf(2) is not known here")
def test_a_seccomp_filter_is_named() -> None:
    number = _BPF[platform.machine()]
    error = denied(confined("unshare", "-n", sys.executable, "-c", _SECCOMP, number, *_ATTACH))
    assert "a seccomp filter is in force" in error["message"]
    assert "--security-opt seccomp=" in error["hint"]


@pytest.mark.root
def test_a_user_namespace_is_named() -> None:
    error = denied(confined("unshare", "-Urn", sys.executable, "-m", "netbpf", *_ATTACH))
    assert "the capabilities are those of a user namespace" in error["message"]
    assert "outside of the user namespace" in error["hint"]
    assert "seccomp" not in error["message"] + error["hint"]


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("none integrity [confidentiality]\n", "confidentiality", "reading kernel memory"),
        ("none [integrity] confidentiality\n", "integrity", "bpf_probe_write_user()"),
        ("[none] integrity confidentiality\n", "", ""),
    ],
)
def test_lockdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, level: str, words: str
) -> None:
    """A stand-in for the kernel's file: it can be locked down, but not unlocked again."""
    path = tmp_path / "lockdown"
    path.write_text(text)
    monkeypatch.setattr(confinement, "_LOCKDOWN", path)
    monkeypatch.setattr(capabilities, "missing", lambda *_: [])
    assert confinement.lockdown() == level
    error = permission_error("load a program", Capability.BPF)
    assert (f"kernel lockdown is in {level} mode" in error.message) == bool(level)
    assert words in error.message


def test_selinux_and_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for SELinux, which is a matter of the boot."""
    monkeypatch.setattr(capabilities, "missing", lambda *_: [])
    path = tmp_path / "enforce"
    monkeypatch.setattr(confinement, "_SELINUX", path)
    hints = []
    for mode in ("1", "0"):
        path.write_text(mode)
        hints.append(permission_error("load a program", Capability.BPF).hint or "")
    assert "ausearch" in hints[0]
    assert "dmesg" in hints[1]


@pytest.mark.parametrize("setting", ["0", "1", "2"])
def test_unprivileged_bpf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """A stand-in for the sysctl: 1 cannot be undone before the next boot."""
    path = tmp_path / "sysctl"
    path.write_text(setting + "\n")
    monkeypatch.setattr(confinement, "_UNPRIVILEGED", path)
    monkeypatch.setattr(capabilities, "missing", lambda *needed: list(needed))
    told = "kernel.unprivileged_bpf_disabled"
    assert (told in (permission_error("load", Capability.BPF).hint or "")) == (setting != "0")
    assert told not in (permission_error("attach", Capability.NET_ADMIN).hint or "")
