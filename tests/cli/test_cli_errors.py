"""Failures: one line on standard error, an exit code of the table, JSON on request, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netbpf import errors
from netbpf.cli.main import COMMANDS
from netbpf.errors import ExitCode
from tests.cli.lab import ROOT, Lab, run_cli, udp

# (exit code, type of the error, words)
FAILURES: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "usage": (2, "UsageError", ("status", "--nonsense")),
    "usage-value": (2, "UsageError", ("attach", "xdp", "dut0", "builtin:xdp_count", "--mode", "x")),
    "usage-missing": (2, "UsageError", ("attach", "xdp")),
    "usage-setting": (2, "UsageError", ("attach", "xdp", "dut0", "builtin:xdp_globals", "--set", "min_bytes=-1")),
    "no-file": (3, "ObjectError", ("attach", "xdp", "dut0", "missing.o")),
    "no-source": (3, "ObjectError", ("attach", "xdp", "dut0", "missing.c")),
    "directory": (3, "ObjectError", ("attach", "xdp", "dut0", "/tmp")),
    "device": (3, "ObjectError", ("attach", "xdp", "dut0", "/dev/zero")),
    "text": (3, "ObjectError", ("attach", "xdp", "dut0", "/etc/passwd")),
    "not-bpf": (3, "ObjectError", ("attach", "xdp", "dut0", "/bin/true")),
    "builtin": (3, "ObjectError", ("attach", "xdp", "dut0", "builtin:nope")),
    "builtin-path": (3, "ObjectError", ("attach", "xdp", "dut0", "builtin:../_objects/xdp_count")),
    "hw": (5, "NotSupportedError", ("attach", "xdp", "dut0", "builtin:xdp_count", "--mode", "hw")),
    "interface": (6, "InterfaceNotFoundError", ("attach", "xdp", "eno1235", "builtin:xdp_count")),
    "interface-odd": (6, "InterfaceNotFoundError", ("status", "invalid/interface/%22erwt")),
    "interface-long": (6, "InterfaceNotFoundError", ("stats", "x" * 16)),
    "nothing": (8, "NotAttachedError", ("detach",)),
    "nothing-stats": (8, "NotAttachedError", ("stats", "dut0")),
    "nothing-watch": (8, "NotAttachedError", ("stats", "dut0", "--watch")),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_one_line_and_json(lab: Lab, name: str) -> None:
    code, kind, words = FAILURES[name]
    plain = lab(*words, code=code)
    assert plain.error
    assert plain.out == ""
    machine = lab(*words, "--json", code=code)
    assert machine.err == plain.err
    found = machine.json
    assert set(found) == {"schema", "error"}
    assert found["schema"] == "netbpf.error/1"
    assert set(found["error"]) == {"code", "type", "message", "hint"}
    assert (found["error"]["code"], found["error"]["type"]) == (code, kind)
    hint = found["error"]["hint"]
    assert plain.error == found["error"]["message"] + (f"; {hint}" if hint else "")
    assert lab.hooks() == []


NAMESPACES = {
    "absent": "nope",
    "ordinary file": "/etc/passwd",
    "other kind": "/proc/self/ns/uts",
    "no path": "/run/netns/nope",
    "no process": "pid:999999999",
    "empty": "",
}


@pytest.mark.parametrize("name", NAMESPACES)
@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("attach", "xdp", "dut0", "builtin:xdp_count"),
        ("stats", "lo"),
        ("get", "lo", "x"),
    ],
)
def test_what_is_no_namespace(name: str, words: tuple[str, ...]) -> None:
    done = run_cli(*words, "--netns", NAMESPACES[name])
    assert done.code == 6
    assert done.error


def test_the_rejected_and_the_busy_have_their_codes(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("several"), "-n", "rejected", "--json", code=4)
    assert done.json["error"]["type"] == "VerifierError"
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    done = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--json", code=7)
    assert done.json["error"]["type"] == "HookBusyError"


def test_a_foreign_program_has_its_code(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "xdp", "obj", lab.object("filter"), "sec", "xdp")
    done = lab("detach", "dut0", "--json", code=9)
    assert done.json["error"]["type"] == "NotManagedError"


def test_a_lock_that_is_held(lab: Lab, private: Path) -> None:
    from netbpf.state.lock import locked

    private.mkdir(mode=0o700)
    with locked():
        done = lab(
            "attach", "xdp", "dut0", "builtin:xdp_count", "--lock-timeout", "0", "--json", code=11
        )
    assert done.json["error"]["type"] == "LockTimeoutError"
    assert f"process {os.getpid()}" in done.error
    assert lab.hooks() == []
    # To look needs no lock.
    with locked():
        assert lab("status").code == 0


def test_missing_capabilities_are_named(lab: Lab) -> None:
    """As root without them, in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "netbpf",
        "attach",
        "xdp",
        "dut0",
        "builtin:xdp_count",
        "--json",
    ]
    for dropped, named in (
        ("net_admin", "CAP_NET_ADMIN"),
        ("bpf,-sys_admin", "CAP_BPF"),
    ):
        done = lab.wire.dut.run(
            subprocess.run, ["setpriv", f"--bounding-set=-{dropped}", f"--inh-caps=-{dropped}", *command],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        error = json.loads(done.stdout)["error"]
        assert (done.returncode, error["type"]) == (10, "PermissionDeniedError"), done.stderr
        assert named in error["message"] + str(error["hint"])
    assert lab.hooks() == []


def test_the_table_of_exit_codes() -> None:
    """One code per class, as docs and scripts know them."""
    assert {one.name: int(one) for one in ExitCode} == {
        "OK": 0, "OTHER": 1, "USAGE": 2, "BAD_OBJECT": 3, "REJECTED": 4, "NOT_SUPPORTED": 5, "NO_INTERFACE": 6,
        "HOOK_BUSY": 7, "NOT_ATTACHED": 8, "NOT_MANAGED": 9, "PERMISSION": 10, "LOCK_TIMEOUT": 11,
    }  # fmt: skip
    for line in (errors.__doc__ or "").splitlines():
        name = line.strip("|-` ").split("  ")[0]
        if hasattr(errors, name):
            code = next(int(word) for word in line.split() if word.isdigit())
            assert getattr(errors, name).exit_code == code, name


# --- the command line itself ---


def test_an_unknown_command_gives_near_names() -> None:
    done = run_cli("atach")
    assert (done.code, done.error) == (
        2,
        "no command 'atach'; did you mean attach or detach or trace?; see: netbpf --help",
    )
    assert "the commands are: attach, btf, capture, chain, compile" in run_cli("zzzzzzzz").error


def test_control_characters_from_the_command_line_are_escaped(lab: Lab) -> None:
    for words in (
        ("status", "x\x1b[31m\n"),
        ("stat\x1b",),
        ("status", "--x\x1b\n"),
        ("attach", "xdp", "dut0", "a\x1b\nb.o"),
        ("attach", "xdp", "dut0", "builtin:\x1b"),
        ("attach", "xdp", "dut0", "builtin:xdp_count", "--set", "\x1b=1"),
        ("attach", "xdp", "dut0", "builtin:xdp_count", "-n", "\x1b"),
        ("attach", "xdp", "dut0\x1b,dut0", "builtin:xdp_count"),
        ("status", "--netns", "\x1b\n"),
        ("attach", "xdp", "dut0", "\udcff.o"),
    ):
        done = run_cli(*words)
        assert done.code in (2, 3, 6), words
        assert done.error
        assert done.err.strip().isprintable(), words


@pytest.mark.parametrize(
    "words",
    [
        ("stats", "dut0", "--all"),
        ("stats", "dut0", "--json"),
        ("stats", "dut0", "--watch", "0.05"),
        ("stats", "dut0", "--watch", "0.05", "--json"),
        ("status",),
        ("get", "dut0", "large"),
        ("status", "--help"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_a_closed_pipe_ends_it_like_any_other_tool(lab: Lab, words: tuple[str, ...]) -> None:
    lab("attach", "xdp", "dut0", lab.object("kinds"))
    udp(lab.wire.peer)
    with lab.spawn(*words, netns="--help" not in words) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == ""
        running.wait(20)
    assert running.returncode == 141


@pytest.mark.parametrize("command", ["attach", "status", "stats", "get", "set", "detach"])
def test_every_command_in_a_process_of_its_own(lab: Lab, command: str) -> None:
    """What the other tests do in this process holds for the real command."""
    words = {
        "attach": ("xdp", "dut0", "builtin:xdp_globals"), "stats": ("dut0",), "get": ("dut0", "packets"),
        "set": ("dut0", "min_bytes=3"), "status": (), "detach": (),
    }[command]  # fmt: skip
    if command != "attach":
        lab("attach", "xdp", "dut0", "builtin:xdp_globals")
    done = lab.process(command, *words)
    assert (done.code, done.err) == (0, "")
    assert done.out
    assert set(COMMANDS) >= {command}


def test_a_locale_that_cannot_write_a_name(lab: Lab) -> None:
    lab.run("ip", "link", "set", "dut0", "name", "dütx")
    lab("attach", "xdp", "dütx", "builtin:xdp_count")
    with lab.spawn("status", env=os.environ | {"PYTHONIOENCODING": "ascii"}) as running:
        out, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    assert "d\\xfctx" in out
    lab.run("ip", "link", "set", "dütx", "name", "dut0")
