"""The tests of the shipped programs notice mistakes: each mutant makes one fail, and the program itself none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs.building import ROOT
from tests.programs.mutants import MUTANTS, build_mutants
from tests.programs.mutation import ORIGINAL

FILES = {
    "globals": ["test_globals.py"],
    "count": ["test_count.py"],
    "drop": [f"test_filter_{name}.py" for name in (
        "rules", "precedence", "malformed", "fragments", "keep_link", "sight",
    )],
}  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("program", MUTANTS)
def test_every_mutant_makes_a_test_fail(
    program: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    build_mutants(program, tmp_path)
    files = [str(ROOT / "tests" / "programs" / name) for name in FILES[program.partition("_")[2]]]
    # Locks of its own: a serial test waits for this very test at the turnstile, behind which the run below would wait.
    own = str(tmp_path_factory.mktemp("own"))
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "TMPDIR": own}
    environment.pop("PYTEST_XDIST_WORKER", None)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "tests.programs.mutation", "-p", "no:cacheprovider",
            "-p", "no:xdist", "--mutants", str(tmp_path), *files,
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [
        line.removeprefix("MUTANT ")
        for line in done.stdout.splitlines()
        if line.startswith("MUTANT ")
    ]
    found = dict(line.split(": ", 1) for line in lines)
    assert set(found) == {one.name for one in MUTANTS[program]} | {ORIGINAL}, (
        done.stdout + done.stderr
    )
    assert found.pop(ORIGINAL) == "alive", done.stdout
    survivors = [name for name, words in found.items() if "::" not in words]
    assert not survivors, "no test noticed: " + ", ".join(survivors)
