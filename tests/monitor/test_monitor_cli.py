"""``netbpf monitor``: lines, JSON lines, a terminal; how it ends, and that nothing stays."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from netbpf.bpf.ids import program_ids
from netbpf.listen.monitor_model import TRACEPOINTS
from tests.cli.lab import ROOT, Lab, run_cli
from tests.monitor.traffic import attach, send

FAST = ("--interval", "0.05")


def started(lab: Lab, *options: object, **more: Any) -> "subprocess.Popen[str]":
    """A monitor that is watching: what it prints first says so."""
    running = lab.spawn("monitor", "dut0", *FAST, *options, **more)
    if more.get("stdout", subprocess.PIPE) == subprocess.PIPE:
        assert running.stdout is not None
        first = running.stdout.readline()
        assert first == "watching dut0; Ctrl-C ends it\n" or json.loads(first)["record"] == "start"
    return running


def lines_until(running: "subprocess.Popen[str]", words: str) -> list[str]:
    assert running.stdout is not None
    found: list[str] = []
    for line in running.stdout:
        found.append(line)
        if words in line:
            return found
    raise AssertionError(f"{words!r} did not come: {found}")


# --- what it says ---------------------------------------------------------------------------------------------


def test_lines_and_the_summary(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong)
    [hook] = lab.hooks("dut0")
    with started(lab) as running:
        send(lab.wire.peer, "v")
        first = "".join(lines_until(running, "-> return a value"))
        send(lab.wire.peer, "v", 5)
        send(lab.wire.peer, "n", 2)
        second = "".join(lines_until(running, "-> return what"))
        running.send_signal(signal.SIGINT)
        rest, err = running.communicate()
    who = f"wrong (program {hook['program']['id']})"
    assert f"  dut0: verdict 77, {who}: " in first
    assert "          the program returned 77, no verdict of XDP: the packet is dropped\n" in first
    # What it means is said once.
    assert "no verdict of XDP" not in second + rest
    assert f"dut0: redirect: EBADRQC, {who}: 2 packets, " in second
    summary = rest.partition("\nin ")[2] or rest.removeprefix("in ")
    rows = [line.split() for line in summary.splitlines()[1:]]
    assert rows[0] == ["INTERFACE", "PROGRAM", "WHAT", "TRACEPOINT", "PACKETS"]
    shown = {(row[-2], row[-1]) for row in rows[1:]}
    assert {("xdp_exception", "15"), ("xdp_redirect_err", "2"), ("kfree_skb", "15")} <= shown
    assert (running.returncode, err) == (0, "")


def test_json_lines(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong)
    with started(lab, "--json") as running:
        send(lab.wire.peer, "a")
        events = [json.loads(line) for line in lines_until(running, "XDP_ABORTED")]
        running.send_signal(signal.SIGINT)
        rest, err = running.communicate()
    *more, summary = [json.loads(line) for line in rest.splitlines()]
    assert err == ""
    assert {one["schema"] for one in [*events, *more, summary]} == {"netbpf.monitor/1"}
    found = [one for one in [*events, *more] if one["tracepoint"] == "xdp_exception"]
    assert sum(one["new_packets"] for one in found) == found[-1]["packets"] == 10
    one = found[0]
    assert one["record"] == "event"
    assert one["interface"] == {
        "name": "dut0", "ifindex": lab.wire.dut.ifindex, "netns": None, "netns_inode": lab.namespace.inode,
    }  # fmt: skip
    [hook] = lab.hooks("dut0")
    assert one["program"] == {
        "id": hook["program"]["id"], "name": "wrong", "members": [], "certain": True,
    }  # fmt: skip
    assert (one["verdict"], one["error"], one["reason"]) == ("XDP_ABORTED", None, None)
    assert summary["record"] == "summary"
    assert summary["lost"] == {"crowded": {}, "nested": summary["lost"]["nested"]}
    totals = {one["tracepoint"]: one["packets"] for one in summary["happenings"]}
    assert totals["xdp_exception"] == 10
    assert summary["events"] == sum(one["events"] for one in summary["happenings"])


def test_errors_by_the_kernels_names(lab: Lab, wrong: bytes) -> None:
    """EOPNOTSUPP, which Python calls ENOTSUP."""
    [other] = lab.wires(1)
    attach(lab, wrong, "--set", f"target={other.dut.ifindex}")
    with started(lab, "--json", "-c", "1") as running:
        send(lab.wire.peer, "r")
        out, _ = running.communicate()
    [found] = json.loads(out.splitlines()[-1])["happenings"]
    assert (found["errno"], found["error"], found["target"]["name"]) == (95, "EOPNOTSUPP", "dut1")


def test_a_terminal(lab: Lab, wrong: bytes) -> None:
    """A table that stays in its place, and the summary below when it has gone."""
    attach(lab, wrong)
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    running = started(lab, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = ""

    def read_until(words: str) -> None:
        nonlocal shown
        patience = time.monotonic() + 20
        while words not in shown:
            assert time.monotonic() < patience, shown
            if select.select([ours], [], [], 0.05)[0]:
                shown += os.read(ours, 65536).decode()

    read_until("watching dut0")
    send(lab.wire.peer, "v")
    read_until("PER SECOND")
    read_until("no verdict of XDP")
    running.send_signal(signal.SIGINT)
    read_until(" s:")
    assert running.wait() == 0
    os.close(ours)
    assert "verdict 77" in shown


# --- how it ends ----------------------------------------------------------------------------------------------


def test_a_duration(lab: Lab) -> None:
    done = lab("monitor", "--duration", "0.1", *FAST)
    assert done.lines[0] == "watching 0 interfaces with programs; Ctrl-C ends it"
    assert done.lines[1].startswith("nothing went wrong in 0.")


def test_a_count(lab: Lab, wrong: bytes) -> None:
    """It ends by itself, with everything counted that came until then."""
    attach(lab, wrong)
    with started(lab, "-c", "20", "--json") as running:
        send(lab.wire.peer, "n", 30)
        out, err = running.communicate()
    assert (running.returncode, err) == (0, "")
    [found] = json.loads(out.splitlines()[-1])["happenings"]
    assert 20 <= found["packets"] <= 30


def test_sigterm_prints_the_summary_too(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong)
    with started(lab, "--json") as running:
        send(lab.wire.peer, "n")
        lines_until(running, "EBADRQC")
        running.terminate()
        out, err = running.communicate()
    assert json.loads(out.splitlines()[-1])["record"] == "summary"
    assert (running.returncode, err) == (128 + signal.SIGTERM, "")


def test_a_reader_that_goes_away(lab: Lab, wrong: bytes) -> None:
    attach(lab, wrong)
    running = started(lab)
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    send(lab.wire.peer, "v")
    assert running.wait() == 128 + signal.SIGPIPE
    assert running.stderr.read() == ""
    running.stderr.close()


def test_nothing_stays_after_kill_9(lab: Lab) -> None:
    with started(lab) as running:
        mine = _programs_of(running.pid)
        assert len(mine) == len(TRACEPOINTS)
        assert mine <= set(program_ids())
        running.kill()
        running.communicate()
    patience = time.monotonic() + 20
    while mine & set(program_ids()):  # after an RCU grace period
        assert time.monotonic() < patience, mine


def _programs_of(pid: int) -> set[int]:
    """The programs that a process has descriptors of."""
    texts = (path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir())
    return {
        int(number)
        for text in texts
        for number in re.findall(r"^prog_id:\s+(\d+)", text, re.MULTILINE)
    }


# --- what makes no sense, and what is forbidden ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["dut0", "--all-netns"], 2),
        (["--all-netns", "--netns", "nope"], 2),
        (["--drops", "some"], 2),
        (["--interval", "0"], 2),
        (["--duration", "0"], 2),
        (["-c", "0"], 2),
        (["nope9"], 6),
        (["--netns", "nope9"], 6),
    ],
)
def test_what_makes_no_sense(words: list[str], code: int) -> None:
    done = run_cli("monitor", *words)
    assert done.code == code
    assert done.error


def test_without_capabilities_they_are_named(lab: Lab) -> None:
    lacking = "-sys_admin,-bpf,-perfmon"
    done = subprocess.run(
        ["setpriv", f"--bounding-set={lacking}", sys.executable, "-m", "netbpf", "monitor", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 10, done.stderr
    assert "CAP_BPF" in done.stderr
    assert "CAP_PERFMON" in done.stderr
    assert json.loads(done.stdout)["error"]["type"] == "PermissionDeniedError"


def test_its_programs_are_no_builtins(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", "builtin:trace_monitor", code=3)
    assert "no program builtin:trace_monitor is shipped" in done.error
    assert "trace_monitor," not in done.error.partition(";")[2]
