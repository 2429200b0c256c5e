"""``netbpf stats --watch``: rates, round by round; and the arithmetic behind them."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
from typing import Any

import pytest

from netbpf.constants import Hook, Mode
from netbpf.live.model import Counter, Entry, HookStats, MapValues, Run, VariableValue
from netbpf.live.rates import Rates
from netbpf.model import Attachment, Interface, Occupant, ProgramInfo
from tests.cli.lab import Lab, frame, udp

# --- arithmetic ---

ATTACHMENT = Attachment(
    Occupant(Interface("dut0", 2, 1), Hook.XDP, Mode.NATIVE, 7), ProgramInfo(7, "p", 6, "0" * 16), True, "netbpf"
)  # fmt: skip


def reading(at: float, value: Any = 0, **more: Any) -> HookStats:
    variable = VariableValue("v", ".bss", "u64", value, more.pop("writable", True))
    return HookStats(ATTACHMENT, more.pop("run", None), (variable,), taken_at=at, **more)


def rates(*values: Any) -> list[float | None]:
    """The rates of variable ``v`` over readings a second apart."""
    made = Rates()
    return [
        made.update(reading(10.0 + at, value)).get("variable/v") for at, value in enumerate(values)
    ]


def test_the_first_reading_has_no_rate() -> None:
    assert rates(5) == [None]


def test_growth_per_second() -> None:
    assert rates(5, 8, 8, 108) == [None, 3.0, 0.0, 100.0]
    made = Rates()
    made.update(reading(10.0, 100))
    assert made.update(reading(12.5, 200)) == {"variable/v": 40.0}


def test_a_racy_counter_never_goes_backwards_and_loses_nothing() -> None:
    found = rates(100, 97, 99, 103, 102, 110)
    assert found == [None, 0.0, 0.0, 3.0, 0.0, 7.0]
    assert sum(rate or 0 for rate in found) == 110 - 100


def test_a_counter_that_was_set_anew_starts_again() -> None:
    assert rates(1000, 0, 10, 30) == [None, 0.0, 10.0, 20.0]


def test_two_readings_at_the_same_time() -> None:
    made = Rates()
    made.update(reading(1.0, 1))
    assert made.update(reading(1.0, 5)) == {}


def test_what_is_no_counter() -> None:
    made = Rates()
    values: Any = {"flag": True, "name": "x", "n": 1, "list": [1, 2], "many": list(range(65))}
    made.update(reading(1.0, values))
    assert set(made.update(reading(2.0, values))) == {
        "variable/v.n",
        "variable/v.list[0]",
        "variable/v.list[1]",
    }
    made = Rates()
    made.update(reading(1.0, 1, writable=False))
    assert made.update(reading(2.0, 1, writable=False)) == {}


def test_runs_tables_and_maps() -> None:
    def at(second: float, n: int) -> HookStats:
        return reading(
            second, run=Run(n, 50 * n), verdicts={"pass": Counter(n, 60 * n)}, protocols={"arp": Counter(n, 2 * n)},
            maps=(
                MapValues("flows", 1, "hash", 1, (Entry({"port": 53}, {"hits": n}),)),
                MapValues("netbpf_verdicts", 2, "percpu_array", 1, (Entry(0, {"packets": n}),)),
            ),
        )  # fmt: skip

    made = Rates()
    made.update(at(1.0, 1))
    found = made.update(at(2.0, 11))
    del found["variable/v"]
    assert found == {
        "run": 10.0, "run_ns": 500.0, "verdict/pass": 10.0, "verdict-bytes/pass": 600.0, "protocol/arp": 10.0,
        "protocol-bytes/arp": 20.0, "map/flows[{port: 53}].hits": 10.0,
    }  # fmt: skip


# --- the command ---


def test_json_lines(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    with lab.spawn("stats", "dut0", "--watch", "0.1", "--count", "3", "--json") as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        udp(lab.wire.peer, number=10)
        others = [json.loads(line) for line in watching.stdout]
    assert watching.returncode == 0
    assert len(others) == 2
    [hook] = first["hooks"]
    assert (hook["rates"], hook["run"]) == ({}, {"count": 0, "time_ns": 0})
    for one in others:
        assert one["schema"] == "netbpf.stats/1"
        assert all(rate >= 0 for rate in one["hooks"][0]["rates"].values())
    [last] = others[-1]["hooks"]
    assert last["run"]["count"] == 10
    assert last["run"]["time_ns"] > 0
    assert last["verdicts"]["pass"]["packets"] == 10
    grown = sum(one["hooks"][0]["rates"]["verdict/pass"] for one in others)
    assert grown > 0


def test_text_has_rates(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("kinds"))
    udp(lab.wire.peer, 53, number=4)
    lines = [line.split() for line in lab("stats", "dut0", "-w", "0.05", "--count", "2").lines]
    assert lines[0] == ["dut0", "xdp", "(native):", "kinds,", "0", "runs/s"]
    assert ["packets", "4", "0.0"] in lines
    assert not [line for line in lines if line and line[0].startswith("outer")]  # never moved


def test_seconds_may_be_left_out(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    lab("stats", "dut0", "--count", "1", "--watch")
    lab("stats", "dut0", "--watch", "--count", "1")
    lab("stats", "--count", "1", "--watch", "dut0")
    lab("stats", "-w", "dut0", "--count", "1")
    error = lab("stats", "--watch", "0", "dut0", code=2).error
    assert "0.0 is not in the range" in error


@pytest.mark.parametrize(
    "words", [("--watch", "0"), ("--watch", "x"), ("--count", "2"), ("--watch", "--count", "0")]
)
def test_what_makes_no_sense(lab: Lab, words: tuple[str, ...]) -> None:
    assert lab("stats", "dut0", *words, code=2).error


RACY = """
#include "net.h"
__u64 racy;
SEC("xdp") int count(struct xdp_md *ctx)
{
	racy += 1; /* without atomics: CPUs overwrite one another's sums */
	return XDP_DROP;
}
"""


def test_a_racy_counter_on_two_cpus_is_never_negative(lab: Lab) -> None:
    [second] = lab.wires(1)
    lab("attach", "xdp", "dut0,dut1", lab.compiled(RACY))
    stop = threading.Event()

    def send(peer: Any, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        frames = [frame(peer, mark=number) for number in range(200)]
        while not stop.is_set():
            peer.send(frames)

    cpus = sorted(os.sched_getaffinity(0))
    senders = [
        threading.Thread(target=send, args=(wire.peer, cpus[index % len(cpus)]))
        for index, wire in enumerate((lab.wire, second))
    ]
    for one in senders:
        one.start()
    try:
        with lab.spawn("stats", "dut0", "--watch", "0.05", "--count", "20", "--json") as watching:
            out, err = watching.communicate()
    finally:
        stop.set()
        for one in senders:
            one.join()
    assert (watching.returncode, err) == (0, "")
    found = [
        json.loads(line)["hooks"][0]["rates"].get("variable/racy") for line in out.splitlines()
    ]
    assert found[0] is None
    assert all(rate is not None and rate >= 0 for rate in found[1:])
    assert any(rate for rate in found[1:])


def test_a_counter_that_goes_back_a_little_shows_zero(lab: Lab) -> None:
    """What an unlucky CPU does to a racy counter, done by hand: between two rounds it falls from 100 to 97."""
    lab("attach", "xdp", "dut0", lab.compiled(RACY), "--set", "racy=100")
    with lab.spawn("stats", "dut0", "--watch", "0.05", "--json") as watching:
        assert watching.stdout is not None

        def until(value: int) -> list[float]:
            """The rates up to the first round that shows the value."""
            found: list[float] = []
            while True:
                [hook] = json.loads(watching.stdout.readline())["hooks"]  # type: ignore[union-attr]
                found += [hook["rates"]["variable/racy"]] if hook["rates"] else []
                if hook["variables"]["racy"] == value:
                    return found

        assert not any(until(100))
        lab("set", "dut0", "racy=97")
        assert not any(until(97))
        lab("set", "dut0", "racy=103")
        *before, last = until(103)
        assert not any(before)
        assert last > 0
        watching.send_signal(signal.SIGINT)


def test_a_program_that_is_replaced_is_followed(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    with lab.spawn("stats", "dut0", "--watch", "0.05", "--json") as watching:
        assert watching.stdout is not None
        names = [json.loads(watching.stdout.readline())["hooks"][0]["program"]["name"]]
        lab("attach", "xdp", "dut0", "builtin:xdp_globals", "--replace")
        while names[-1] == "xdp_count":
            names.append(json.loads(watching.stdout.readline())["hooks"][0]["program"]["name"])
        lab("detach")
        while json.loads(watching.stdout.readline())["hooks"]:
            pass
        watching.send_signal(signal.SIGINT)
    assert names[-1] == "xdp_globals"
    assert watching.returncode == 0


# --- Ctrl-C ---


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_ctrl_c_is_the_ordinary_end(lab: Lab, form: tuple[str, ...]) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    with lab.spawn("stats", "dut0", "--watch", "0.05", *form) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate()
    assert (watching.returncode, err) == (0, "")


def test_a_terminal_is_left_as_it_was(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", "builtin:xdp_count")
    udp(lab.wire.peer, number=3)
    near, far = pty.openpty()
    try:
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        before = termios.tcgetattr(far)
        with lab.spawn(
            "stats", "dut0", "--watch", "0.05", stdin=far, stdout=far, stderr=subprocess.PIPE,
            env=os.environ | {"TERM": "xterm"}, start_new_session=True,
        ) as watching:  # fmt: skip
            shown = ""
            while shown.count("runs/s") < 3:
                ready, _, _ = select.select([near], [], [], 20)
                assert ready, shown
                shown += os.read(near, 65536).decode()
            watching.send_signal(signal.SIGINT)
            _, err = watching.communicate()
        while select.select([near], [], [], 0)[0]:
            shown += os.read(near, 65536).decode()
        assert termios.tcgetattr(far) == before
    finally:
        os.close(near)
        os.close(far)
    assert (watching.returncode, err) == (0, "")
    assert "\x1b[?25l" in shown  # hidden while it draws
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert shown.rstrip("\x1b[?25h").endswith("\n")
