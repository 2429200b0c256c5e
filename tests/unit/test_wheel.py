"""The wheel holds everything that a machine without this checkout, and without clang, needs."""

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(one for room in ("xdp", "tc", "tracing") for one in ROOT.glob(f"{room}/*.bpf.c"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout where nothing was made yet."""
    unwanted = shutil.ignore_patterns(
        ".*cache", ".git", ".venv", "_objects", "__pycache__", "build", "dist"
    )
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("tree") / "netbpf", ignore=unwanted))


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """Not built in isolation, which would need the network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tree.glob("dist/netbpf-*-py3-none-any.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked, which is what installing one comes to."""
    directory = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def test_there_are_programs() -> None:
    assert {"xdp_count.bpf.c", "tc_count.bpf.c"} <= {source.name for source in SOURCES}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_program_is_there_compiled_and_as_source(installed: Path, source: Path) -> None:
    copy = installed / "netbpf" / "_sources" / source.parent.name / source.name
    compiled = installed / "netbpf" / "_objects" / f"{source.stem}.o"
    assert copy.read_bytes() == source.read_bytes()
    assert compiled.read_bytes()[:4] == b"\x7fELF"


def test_no_program_tells_where_it_was_compiled(tree: Path, installed: Path) -> None:
    telling = [
        o.name for o in installed.glob("netbpf/_objects/*.o") if bytes(tree) in o.read_bytes()
    ]
    assert not telling


def test_no_other_program_is_there(installed: Path) -> None:
    compiled = {path.name.removesuffix(".o") + ".c" for path in installed.glob("netbpf/_objects/*")}
    assert compiled == {source.name for source in SOURCES}


def test_headers_and_types_are_there(installed: Path) -> None:
    headers = {path.name for path in ROOT.glob("netbpf/include/netbpf/*.h")}
    assert headers
    assert {path.name for path in installed.glob("netbpf/include/netbpf/*.h")} == headers
    assert (installed / "netbpf" / "py.typed").exists()
    assert (installed / "netns_fixtures" / "py.typed").exists()


def test_command_and_pytest_plugin_are_registered(installed: Path) -> None:
    (path,) = installed.glob("netbpf-*.dist-info/entry_points.txt")
    entries = ConfigParser()
    entries.read(path)
    assert dict(entries["console_scripts"]) == {"netbpf": "netbpf.cli.main:main"}
    assert dict(entries["pytest11"]) == {"netns_fixtures": "netns_fixtures.plugin"}


def test_version_is_the_same_everywhere(installed: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import netbpf; print(netbpf.__version__, netbpf.__file__)"
    )
    command = [sys.executable, "-I", "-c", code]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    version, file = shown.split()
    assert Path(file).is_relative_to(installed)
    assert (installed / f"netbpf-{version}.dist-info").is_dir()
