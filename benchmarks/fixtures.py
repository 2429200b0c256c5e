"""What a test costs with netns_fixtures: one of its own namespaces and veth pair, and one through TEST_RUN.

Each test loads a counting program, sends a packet, expects it, and checks every counter. Set-up and teardown count; so
does what pytest itself takes for a test, which is shown too.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bed import ROOT
from benchmarks.measure import BenchmarkError

TESTS = 12  # of each kind in a round
ROUNDS = 3  # at most
WIRE, RUN = 60.0, 2.0  # milliseconds
_Add = Callable[[str, str, bool], str]
_MODULE = f"""
import pytest

PACKET = bytes(12) + bytes.fromhex(
    "08004500001c000100004011f8ca7f0000017f000001003500350008012c"
) + bytes(18)
COUNT = {{"xdp": "builtin:xdp_count", "tc": "builtin:tc_count"}}


@pytest.mark.parametrize("number", range({TESTS}))
@pytest.mark.attach_kinds("everywhere")
def test_counted(rig, number):
    program = rig.attach(COUNT)
    verdict = "pass" if rig.kind.family == "xdp" else "unspec"
    names = ("protocols[ipv4]", "protocols[ipv4/udp]", f"verdicts[{{verdict}}]")
    moved = {{f"{{name}}.packets": 1 for name in names}} | {{f"{{name}}.bytes": 60 for name in names}}
    with program.changes(moved):
        rig.send(PACKET)
    rig.expect(PACKET)


@pytest.mark.parametrize("number", range({TESTS}))
def test_empty(number):
    pass
"""

# The clock of pytest itself: set-up, call and teardown of each test together.
_TIMES = """
import collections, json

times = collections.Counter()

def pytest_runtest_logreport(report):
    times[report.nodeid] += report.duration

def pytest_sessionfinish():
    json.dump(times, open("times.json", "w"))
"""


def measure(rounds: int, add: _Add) -> tuple[str, list[dict[str, Any]]]:
    """The line as text and for JSON; ``add`` notes an aim and says how it is shown. Needs root."""
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="netbpf-fixtures-") as name:
        directory = Path(name)
        (directory / "test_cost.py").write_text(_MODULE)
        (directory / "conftest.py").write_text(_TIMES)
        for _ in range(min(rounds, ROUNDS)):
            for kind, milliseconds in _run(directory):
                times.setdefault(kind, []).append(milliseconds)
    rows = ["fixtures: a test with netns_fixtures"]
    for kind, found in times.items():
        middle = statistics.median(found)
        limit = 0.0 if kind == "empty" else RUN if kind.endswith("testrun") else WIRE
        aim = add(f"test {kind}", f"< {limit:g} ms", middle < limit) if limit else ""
        rows.append(f"  {kind:<18} {middle:7.2f} ms  {aim}".rstrip())
    seconds = {kind: [one / 1e3 for one in found] for kind, found in times.items()}
    return "\n".join(rows), [{"line": "fixtures", "seconds": seconds}]


def _run(directory: Path) -> list[tuple[str, float]]:
    """(kind, milliseconds) of each test of one round, without the first of its kind, which imports things."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_cost.py"],
        cwd=directory, capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    if done.returncode:
        raise BenchmarkError(f"the tests failed:\n{done.stdout}")
    found = []
    times: dict[str, float] = json.loads((directory / "times.json").read_text())
    for name, seconds in times.items():
        words = name.partition("[")[2].removesuffix("]").split("-")
        kind = "-".join(word for word in words if not word.isdigit()) or "empty"
        if "0" not in words:
            found.append((kind, seconds * 1e3))
    return found


def _environment() -> dict[str, str]:

    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
