"""``make bench``: the table is made, its arithmetic holds, and what cannot be measured is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import table
from benchmarks.lines import BARE, MANY_NAME, ONE
from benchmarks.measure import BenchmarkError, Contestant, Line, Measurer, Result, Times, ratio

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def times(who: str, *seconds: float, failure: str = "") -> Times:
    return Times(
        Contestant(who, ["true"], extra=who == ONE),
        list(seconds),
        failure,
    )


# --- the real thing, once ---


@pytest.mark.root
@pytest.mark.usefixtures("leak_check")
def test_a_round_of_cheap_lines(tmp_path: Path) -> None:
    made = tmp_path / "bench.json"
    done = bench("--rounds", "1", "--only", "help,get,attach", "--json", str(made))
    assert done.returncode == 0, done.stderr
    assert "aims met:" in done.stdout
    found = json.loads(made.read_text())
    assert found["schema"] == "netbpf.benchmarks/1"
    assert [line["name"] for line in found["lines"]] == ["--help", "get", "attach"]
    for line in found["lines"]:
        assert len(line["python"]) == 1
        for one in line["contestants"]:
            assert one["failure"] is None, one
            assert one["seconds"][0] > 0
    assert {"netbpf", "bpftool", "ip", "xdp-loader"} <= {
        one["who"] for one in found["lines"][2]["contestants"]
    }


@pytest.mark.root
def test_an_unknown_line_is_named() -> None:
    done = bench("--only", "speed")
    assert done.returncode == 1
    assert "no line 'speed'; the lines are help, status," in done.stderr


# --- measuring ---


def test_contestants_take_turns_and_one_that_fails_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = 'echo "$0" >>"$1"'
    line = Line(
        "line", "what",
        (
            Contestant("netbpf", ["sh", "-c", script, "netbpf", str(log)]),
            Contestant("own clock", ["sh", "-c", script + "; echo 2500", "own", str(log)], reads_own_clock=True),
            Contestant("broken", ["sh", "-c", "echo no such thing >&2; exit 3"]),
        ),
    )  # fmt: skip
    result = Measurer(["sh", "-c", script, "python", str(log)], {}).run(line, 2)
    assert log.read_text().split() == [
        "python", "netbpf", "own",  # not counted
        "netbpf", "own", "python",
        "own", "python", "netbpf",
    ]  # fmt: skip
    assert len(result.python) == len(result.of("netbpf").seconds) == 2
    assert result.of("own clock").seconds == [2.5e-6, 2.5e-6]
    assert result.of("broken").failure == "broken ended with 3: no such thing"
    assert "cannot do this here: broken ended with 3" in table.block(result, table.Verdicts())


def test_one_that_fails_later_ends_the_run(tmp_path: Path) -> None:
    line = Line("line", "what", (Contestant("netbpf", ["mkdir", str(tmp_path / "once")]),))
    with pytest.raises(BenchmarkError, match=r"netbpf ended with 1: .*File exists"):
        Measurer(["true"], {}).run(line, 1)


def test_ratios_are_of_pairs() -> None:
    found = ratio([2, 6, 20, 8, 10], [1, 2, 5, 1, 1])
    assert (found.low, found.middle, found.high) == (3, 4, 8)
    assert ratio([3], [2]).middle == 1.5


# --- aims ---


def test_an_aim_is_judged_by_the_median_ratio() -> None:
    line = Line("get", "one", (), at_most=10)
    verdicts = table.Verdicts()
    python = [0.01, 0.01, 0.01]
    met = table.block(Result(line, python, [times("netbpf", 0.05, 0.1, 9.0)]), verdicts)
    missed = table.block(Result(line, python, [times("netbpf", 0.05, 0.11, 0.12)]), verdicts)
    assert "aim <= 10 x python: met" in met
    assert "aim <= 10 x python: MISSED" in missed
    assert [one[2] for one in verdicts.all] == [True, False]


@pytest.mark.parametrize(
    ("loop", "bare", "beaten", "near"),
    [(0.3, 0.064, True, True), (0.15, 0.064, False, True), (0.3, 0.032, True, False)],
)
def test_many_interfaces(loop: float, bare: float, beaten: bool, near: bool) -> None:
    verdicts = table.Verdicts()
    found = [
        times("netbpf", 0.2), times(ONE, 0.2 - 63 * 0.001), times("ip", loop), times(BARE, bare),
        times("xdp-loader", failure="it cannot"),
    ]  # fmt: skip
    shown = table.block(Result(Line(MANY_NAME, "", ()), [0.01], found), verdicts)
    assert [one[2] for one in verdicts.all] == [beaten, near]
    assert f"netbpf 1.0 ms (what each beyond the first adds), {BARE} " in shown
    assert ONE not in shown
