"""A project of somebody else that has nothing but the wheel: its tests find the plugin, and mean what they say."""

import os
import re
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "netns_fixtures.md").read_text()
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.requires("root", "tool:clang"), pytest.mark.xdist_group("wheel")]

TESTS = """
import netbpf, pytest
from hypothesis import given
from netns_fixtures import strategies
from scapy.layers.inet import IP, TCP, UDP

DNS = IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=1024, dport=53)
WEB = IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=1024, dport=80)


def test_it_is_the_wheel_that_is_tested(pytestconfig):
    assert netbpf.__file__.startswith(str(pytestconfig.rootpath))


@pytest.mark.attach_kinds("xdp", "xdp-testrun")
def test_dns_is_dropped_and_counted(rig):
    program = rig.attach("filter.bpf.c")
    with program.changes({"dropped": 2}):
        rig.assert_verdict("drop", DNS, DNS)
    rig.assert_verdict("pass", WEB)


@given(strategies.valid(protocol="udp", family="ipv4", dport=53))
def test_every_question_is_dropped(session_bench, frame):
    if frame[14] == 0x45:  # this filter knows no options
        session_bench("filter.bpf.c").assert_verdict("drop", frame)


@pytest.mark.attach_kinds("everywhere")
def test_the_shipped_programs_are_there(rig):
    rig.attach({"xdp": "builtin:xdp_count", "tc": "builtin:tc_count"})
    rig.send(DNS, WEB)
    rig.expect(DNS, WEB)
    rig.expect_none()
"""
CASES = """
object = "filter.bpf.c"
[[case]]
name = "DNS is dropped"
packet = "IP()/UDP(dport=53)"
verdict = "drop"
counters = { dropped = 1 }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a program, its tests, and an environment in which only the wheel is netbpf."""
    tree = tmp_path_factory.mktemp("tree") / "netbpf"
    unwanted = shutil.ignore_patterns(".*cache", ".git", ".venv", "__pycache__", "build", "dist")
    shutil.copytree(ROOT, tree, ignore=unwanted)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = tree.glob("dist/netbpf-*-py3-none-any.whl")
    made = tmp_path_factory.mktemp("project")
    venv.create(made / "env", with_pip=False, symlinks=True)
    python = made / "env" / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
    ]
    done = subprocess.run([*install, str(wheel)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tree)
    # What the wheel depends on is here already. A directory added by a .pth file is not searched for .pth files of its
    # own, so this checkout, which is installed there by one, is out of sight.
    [packages] = (made / "env").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    found = re.search(r"```c\n(.*?)```", DOC, re.DOTALL)
    assert found
    (made / "filter.bpf.c").write_text(found[1])
    (made / "test_filter.py").write_text(TESTS)
    (made / "cases.toml").write_text(CASES)
    (made / "pytest.ini").write_text("[pytest]\nnetns_leak_check = test\n")
    return made


@pytest.fixture
def run(project: Path) -> Run:
    """Run something of the project's environment."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON"))
    }
    clean["NETBPF_CACHE_DIR"] = str(project / "cache")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(project / "env" / "bin" / words[0]), *words[1:]]
        return subprocess.run(
            command, cwd=project, env=clean, check=False, capture_output=True, text=True
        )

    return run


def test_its_tests_pass(run: Run) -> None:
    done = run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout


def test_they_fail_when_the_program_is_broken(run: Run, project: Path) -> None:
    source = (project / "filter.bpf.c").read_text()
    (project / "filter.bpf.c").write_text(source.replace("port = 53;", "port = 54;"))
    try:
        done = run(
            "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "dns and testrun"
        )
        cases = run("netbpf", "test", "cases.toml")
    finally:
        (project / "filter.bpf.c").write_text(source)
    assert done.returncode == 1
    assert (
        "again:        python -m pytest 'test_filter.py::test_dns_is_dropped_and_counted[xdp-testrun]'"
        in done.stdout
    )
    assert (cases.returncode, "expected drop, got pass" in cases.stdout) == (1, True)


def test_tables_of_cases_run_too(run: Run) -> None:
    done = run("netbpf", "test", "cases.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 case, 1 passed" in done.stdout
