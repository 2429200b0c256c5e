"""The rules of tests/conftest.py and pyproject.toml bite: each is shown a violation and must refuse it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


# ------------------------------------------------------------------------------ tests/conftest.py


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project of its own with netbpf's conftest and pytest's configuration."""
    shutil.copy(ROOT / "pyproject.toml", pytester.path)
    (pytester.path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", pytester.path / "tests")
    return pytester


def run(project: pytest.Pytester, source: str) -> pytest.RunResult:
    (project.path / "tests" / "test_it.py").write_text(source)
    # A lock of its own, taken although this is inside of a test.
    project._monkeypatch.setenv("TMPDIR", str(project.path))
    project._monkeypatch.delenv("NETBPF_INSIDE_TEST")
    return project.runpytest_subprocess("tests")


SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='no wheel')\ndef test(): ...\n",
    "call": "import pytest\ndef test(): pytest.skip('no wheel')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef f(): pytest.skip('no wheel')\ndef test(f): ...\n",
    "module": "import pytest\npytest.skip('no wheel', allow_module_level=True)\ndef test(): ...\n",
}


@pytest.mark.parametrize("source", SKIPS.values(), ids=SKIPS)
def test_a_skip_fails_where_all_is_required(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("NETBPF_REQUIRE_ALL", "1")
    result = run(project, source)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*no wheel (NETBPF_REQUIRE_ALL=1 allows no skip)*"])


def test_a_skip_is_a_skip_elsewhere(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NETBPF_REQUIRE_ALL", raising=False)
    result = run(project, SKIPS["call"])
    assert result.ret == 0
    result.assert_outcomes(skipped=1)


def test_an_expected_failure_is_no_skip(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETBPF_REQUIRE_ALL", "1")
    result = run(project, "import pytest\n@pytest.mark.xfail\ndef test(): assert 0\n")
    assert result.ret == 0
    result.assert_outcomes(xfailed=1)


def test_a_descriptor_left_open_fails(project: pytest.Pytester) -> None:
    result = run(project, "def test(): open('/dev/null')\n")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*ResourceWarning*"])


@pytest.mark.parametrize(
    ("mark", "held"),
    [("pytest.mark.serial", True), ("pytest.mark.filterwarnings('error')", False)],
    ids=["serial", "common"],
)
def test_serial_tests_have_the_machine_to_themselves(
    project: pytest.Pytester, mark: str, held: bool
) -> None:
    result = run(
        project,
        f"""
import fcntl, os, pytest, tempfile
@{mark}
def test():
    path = f"{{tempfile.gettempdir()}}/netbpf-tests-{{os.geteuid()}}.lock"
    with open(path) as other:
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            assert {held}
        else:
            assert not {held}
""",
    )
    result.assert_outcomes(passed=1)


def test_a_run_inside_of_a_test_does_not_wait_for_it(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one that waits for the machine in between, neither would ever go on."""
    inner = "import pytest\n@pytest.mark.serial\ndef test_inner(): ...\n"
    (project.path / "tests" / "inner.py").write_text(inner)
    result = run(
        project,
        """
import subprocess, sys
def test():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/inner.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "1 passed" in done.stdout, done.stdout
""",
    )
    result.assert_outcomes(passed=1)


def test_serial_tests_come_last(project: pytest.Pytester) -> None:
    result = run(
        project,
        """
import pytest
order = []
@pytest.mark.serial
def test_alone(): assert order == ["common"]
def test_common(): order.append("common")
""",
    )
    result.assert_outcomes(passed=2)


# --------------------------------------------------------------------------------- pyproject.toml


@pytest.fixture(scope="module")
def clean_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python packages and rules as they are now."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for package in ("netbpf", "netns_fixtures"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__", "_objects")
        )
    return copy


@pytest.fixture
def copy(clean_copy: Path, tmp_path: Path) -> Path:
    """One to plant a violation in."""
    return Path(shutil.copytree(clean_copy, tmp_path / "copy"))


def check(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / command[0], *command[1:]], cwd=copy, capture_output=True, text=True, check=False
    )


def plant(copy: Path, module: str, line: str) -> None:
    path = copy / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")


def test_the_layers_hold(clean_copy: Path) -> None:
    result = check(clean_copy, "lint-imports", "--no-logo", "--no-cache")
    assert result.returncode == 0, result.stdout


LAYERS = [
    ("netbpf/errors.py", "import netbpf.model", "each layer"),
    ("netbpf/constants.py", "def f():\n    import netbpf.errors", "each layer"),
    ("netbpf/model.py", "import netbpf._sys.fd", "each layer"),
    ("netbpf/_sys/fd.py", "import netbpf.bpf", "each layer"),
    ("netbpf/bpf/elf.py", "def f():\n    import netbpf.net", "each layer"),
    ("netbpf/net/__init__.py", "import netbpf.cli", "each layer"),
    ("netbpf/newcomer.py", "", "each layer"),
    ("netbpf/net/__init__.py", "import netns_fixtures", "needs nothing of the tests"),
    ("netbpf/cli/__init__.py", "import scapy.all", "scapy only for packets"),
    ("netbpf/cli/__init__.py", "import pytest", "needs nothing of the tests"),
    ("netbpf/net/links.py", "def f():\n    import pyroute2.netlink", "pyroute2 only"),
    ("netns_fixtures/__init__.py", "import netbpf._sys.fd", "public side"),
]


@pytest.mark.parametrize(("module", "line", "contract"), LAYERS)
def test_a_planted_import_breaks_its_contract(
    copy: Path, module: str, line: str, contract: str
) -> None:
    plant(copy, module, line)
    result = check(copy, "lint-imports", "--no-logo", "--no-cache")
    kept, _, broken = result.stdout.partition("Broken contracts")
    assert result.returncode != 0
    assert [row for row in kept.splitlines() if contract in row and " BROKEN" in row], result.stdout
    assert module.removesuffix(".py").removesuffix("/__init__").replace("/", ".") in broken


def test_pyroute2_is_welcome_in_its_one_place(copy: Path) -> None:
    plant(copy, "netbpf/net/netlink.py", "def f():\n    import pyroute2.netlink")
    result = check(copy, "lint-imports", "--no-logo", "--no-cache")
    assert result.returncode == 0, result.stdout


RUFF = [
    ("netbpf/bpf/elf.py", "import ctypes", "TID251"),
    ("netbpf/net/__init__.py", "from ctypes import c_int", "TID251"),
    ("netns_fixtures/plugin.py", "import ctypes", "TID251"),
    ("netbpf/net/netlink.py", "import pyroute2", "TID253"),
    ("netbpf/net/netlink.py", "from pyroute2.netlink import nlmsg", "TID253"),
    ("netns_fixtures/traffic.py", "from scapy.layers.l2 import Ether", "TID253"),
    ("netbpf/cli/tables.py", "from rich.table import Table", "TID253"),
    ("netbpf/cli/tables.py", "from . import main", "TID252"),
    ("netbpf/model.py", "try:\n    f()\nexcept Exception:\n    f = None", "BLE001"),
    ("netbpf/model.py", "def f() -> None:\n    pass", "D103"),
    ("netbpf/model.py", "print(1)", "T201"),
    ("netbpf/model.py", "# " + "TO" + "DO: later", "FIX002"),
]


@pytest.mark.parametrize(("module", "line", "rule"), RUFF)
def test_ruff_refuses(copy: Path, module: str, line: str, rule: str) -> None:
    plant(copy, module, line)
    result = check(copy, "ruff", "check", "--no-cache", "--output-format", "concise", module)
    assert result.returncode != 0
    assert f": {rule} " in result.stdout


def test_ruff_lets_sys_use_ctypes_and_functions_import_late(copy: Path) -> None:
    plant(copy, "netbpf/_sys/fresh.py", "import ctypes\n\n\nprint = ctypes")
    plant(copy, "netbpf/net/fresh.py", "def f():\n    import pyroute2\n    return pyroute2")
    result = check(
        copy,
        "ruff",
        "check",
        "--no-cache",
        "--select",
        "TID",
        "netbpf/_sys/fresh.py",
        "netbpf/net/fresh.py",
    )
    assert result.returncode == 0, result.stdout
