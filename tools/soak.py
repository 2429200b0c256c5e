"""Run the whole suite many times in a row and say which tests did not pass every time: ``make soak RUNS=20``.

What each run printed and its JUnit XML stay in build/soak; the exit code is 1 if any test failed in any run.
"""

import argparse
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build" / "soak"


def run(number: int, arguments: list[str]) -> tuple[int, float, list[str]]:
    """Tests, seconds and what did not pass in one run of the suite."""
    report, log = KEPT / f"{number}.xml", KEPT / f"{number}.log"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments]
    with log.open("wb") as output:
        code = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=os.environ | {"NETBPF_REQUIRE_ALL": "1"}, check=False,
        ).returncode  # fmt: skip
    if not report.exists():
        return 0, 0.0, [f"pytest itself, exit code {code}: {log}"]
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    failed = [
        f"{case.get('classname', '')}::{case.get('name', '')}"
        for case in suite.iter("testcase")
        if any(case.find(what) is not None for what in ("failure", "error", "skipped"))
    ]
    if code and not failed:
        failed.append(f"pytest itself, exit code {code}: {log}")
    return int(suite.get("tests", "0")), float(suite.get("time", "0")), failed


def main() -> int:
    """Run them; print a line for each run and, in the end, the tests that failed and how often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, metavar="N")
    options, arguments = parser.parse_known_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    failures: Counter[str] = Counter()
    for number in range(1, options.runs + 1):
        tests, seconds, failed = run(number, arguments)
        failures.update(failed)
        outcome = f"{len(failed)} failed: {', '.join(failed)}" if failed else "all passed"
        print(
            f"run {number} of {options.runs}: {tests:,} tests, {seconds:.0f} s, {outcome}",
            flush=True,
        )
    for name, times in failures.most_common():
        print(f"failed {times} of {options.runs} times: {name}")
    if not failures:
        print(f"no test failed in {options.runs} runs")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
