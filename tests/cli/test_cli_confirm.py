"""``netbpf confirm`` and ``--confirm``: what is printed, exit codes, durations."""

from pathlib import Path

import click
import pytest

from netbpf.cli.duration import Duration
from netbpf.cli.render.confirm import pending_line, status_lines
from netbpf.constants import Hook
from netbpf.manager import watcher
from netbpf.manager.pending import in_words, span
from netbpf.model import Interface
from netbpf.state.pending import Pending, Phase, Step, WentBack, boottime
from tests.cli.lab import Lab


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [("30", 30), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661), ("24h", 86400),
     ("90", 90), ("1m30", 90), (" 10s ", 10)],
)  # fmt: skip
def test_durations(typed: str, seconds: float) -> None:
    assert Duration().convert(typed, None, None) == seconds


@pytest.mark.parametrize(
    "typed",
    ["", "s", "0", "4", "4s", "25h", "86401", "-30", "1.5m", "30m1h", "5 m", "5d", "٣٠", "1h1h"],
)
def test_what_is_no_duration(typed: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(typed, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30, "30s"), (60, "1m"), (90, "1m30s"), (5400, "1h30m"), (86400, "24h"), (0.5, "0.5s")],
)
def test_spans_are_as_they_are_typed(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_confirmed(lab: Lab) -> None:
    lines = lab("attach", "xdp", "dut0", "builtin:xdp_count", "--confirm", "30s").lines
    assert lines[1].startswith("it goes back in 30s, at ")
    assert lines[1].endswith("unless confirmed: netbpf confirm")
    assert (
        "dut0 xdp: attach goes back in 30s unless confirmed: netbpf confirm" in lab("status").lines
    )
    [waiting] = lab("status", "dut0", "--json").json["pending"]
    assert waiting["hooks"] == [{"interface": "dut0", "hook": "xdp"}]
    assert 20 < waiting["seconds_left"] <= waiting["seconds"] == 30
    assert waiting["watched"] is True
    assert lab("confirm").lines == ["dut0 xdp: attach confirmed, it stays"]
    assert lab("status", "--json").json["pending"] == []
    assert lab("confirm", code=8).error.startswith("no change waits for its confirmation")


def test_try_is_a_minute(lab: Lab) -> None:
    pending = lab("attach", "tc", "dut0", "builtin:tc_count", "--try", "--json").json["pending"]
    assert pending["seconds"] == 60
    lab("confirm", "dut0", "tc", "--undo")
    assert lab.hooks() == []
    given = lab(
        "attach", "tc", "dut0", "builtin:tc_count", "--try", "--confirm", "2h", "--json"
    ).json
    assert given["pending"]["seconds"] == 7200
    lab("confirm")


def test_undone(lab: Lab) -> None:
    lab.attach("xdp", "dut0", "builtin:xdp_count")
    before = lab.hooks()
    done = lab("detach", "xdp", "dut0", "--confirm", "5m")
    assert "goes back in 5m" in done.lines[-1]
    assert lab.hooks() == []
    content = lab("confirm", "--undo", "--json").json
    assert content["schema"] == "netbpf.confirm/1"
    [change] = content["changes"]
    assert (change["what"], change["kept"]) == ("detach", False)
    assert [one["failed"] for one in change["went_back"]] == [False]
    assert lab.hooks() == before
    # Who asked for it needs no word of it.
    assert lab("status", "--json").json["went_back"] == []


def test_several_are_listed(lab: Lab) -> None:
    lab.wires(1)
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--confirm", "1h")
    lab("attach", "tc", "dut0", "builtin:tc_count", "--egress", "--confirm", "1h")
    lab("attach", "xdp", "dut1", "builtin:xdp_count", "--confirm", "1h")
    error = lab("confirm", code=2).error
    assert error.startswith("3 changes are pending: ")
    for place in ("dut0 xdp", "dut0 tc/egress", "dut1 xdp"):
        assert f"attach on {place} (until " in error
    assert lab("confirm", "dut1").lines == ["dut1 xdp: attach confirmed, it stays"]
    assert lab("confirm", "tc", "dut0", "--ingress", code=8).error.startswith("no change on dut0")
    assert lab("confirm", "dut0", "tc").lines == ["dut0 tc/egress: attach confirmed, it stays"]
    assert lab("confirm", "--all", "--undo").lines == ["dut0 xdp: attach went back"]
    assert {one["hook"] for one in lab.hooks("dut0")} == {"tc/egress"}


def test_too_late(lab: Lab, private: Path) -> None:
    from netbpf import api
    from tests.faults.confirming import all_ended

    with lab.namespace.duplicate() as namespace:
        api.attach("xdp", "dut0", "builtin:xdp_count", netns=namespace, confirm=0.2).close()
    all_ended(private)
    error = lab("confirm", code=7).error
    assert error.startswith("too late: dut0 xdp: attach went back at ")
    assert "no confirmation came within 0.2s" in error
    [word] = lab("status", "--json").json["went_back"]
    assert (word["interface"], word["hook"], word["what"]) == ("dut0", "xdp", "attach")
    assert any("went back at" in line for line in lab("status").lines)
    # The next change of the hook is the news then.
    lab.attach("xdp", "dut0", "builtin:xdp_count")
    assert lab("status", "--json").json["went_back"] == []
    lab("confirm", code=8)


def test_refused_while_it_waits(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count", "--try")
    error = lab("attach", "xdp", "dut0", "builtin:xdp_globals", code=7).error
    assert error.startswith("dut0 xdp: the last change (attach) waits for its confirmation until ")
    assert "netbpf confirm keeps it, netbpf confirm --undo goes back now" in error
    lab("confirm", "dut0", "xdp")


@pytest.mark.parametrize("time", ["1s", "0", "soon", "25h"])
def test_times_are_checked_before_anything(lab: Lab, time: str) -> None:
    assert (
        "--confirm"
        in lab("attach", "xdp", "dut0", "builtin:xdp_count", "--confirm", time, code=2).error
    )
    assert lab.hooks() == []


def test_arguments(lab: Lab) -> None:
    assert lab("confirm", "nix0", code=6).error.startswith("no interface 'nix0'")
    assert "too many arguments" in lab("confirm", "dut0", "dut1", code=2).error
    assert "--egress is for tc" in lab("confirm", "dut0", "xdp", "--egress", code=2).error


# --- words ---


def example(**changes: object) -> Pending:
    place = Interface("eth0", 2, 1), Hook.XDP
    fields = {
        "what": "attach", "phase": Phase.WAITING, "netns": 1, "cookie": 1, "netns_name": None, "seconds": 30.0,
        "deadline": boottime() + 20, "since": 0.0, "watcher": 1, "started": 1,
        "steps": (Step(*place, None, "", 7, None),), **changes,
    }  # fmt: skip
    return Pending(**fields)  # type: ignore[arg-type]


def test_the_namespace_is_in_the_command() -> None:
    assert pending_line(example(netns_name="a b")).endswith("netbpf confirm --netns 'a b'")


def test_status_says_that_the_process_is_gone() -> None:
    [line] = status_lines([example()], [])
    assert "was killed" in line
    assert "next netbpf command that changes something" in line


def test_names_from_outside_are_escaped() -> None:
    interface = Interface("a\x1b[31m", 2, 1)
    word = WentBack(interface, Hook.XDP, "attach", None, 0.0, "because", "x", failed=True)
    assert "\x1b" not in in_words(word)
    assert "should have gone back" in in_words(word)


# --- the control group ---


@pytest.mark.parametrize(
    ("groups", "moved"),
    [
        ("0::/user.slice/user-0.slice/session-3.scope\n", [""]),
        ("0::/system.slice/cron.service/sub\n", [""]),
        (
            "1:name=systemd:/user.slice/session-3.scope\n0::/user.slice/session-3.scope\n",
            ["systemd", ""],
        ),
        ("0::/\n", []),
        ("4:memory:/some/where\n", []),
    ],
)
def test_leaving_the_session(tmp_path: Path, groups: str, moved: list[str]) -> None:
    """Systemd kills what is in the control group of a session, wherever it was started."""
    for name in ("", "systemd", "memory"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "cgroup.procs").write_text("")
    watcher.leave_session(groups, tmp_path)
    written = [
        str(path.parent.relative_to(tmp_path)).strip(".")
        for path in tmp_path.rglob("cgroup.procs") if path.read_text()
    ]  # fmt: skip
    assert sorted(written) == sorted(moved)


def test_a_control_group_that_takes_nobody(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").mkdir()
    watcher.leave_session("0::/user.slice/session-3.scope\n", tmp_path)
