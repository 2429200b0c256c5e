"""What the tests of the command line share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures.residue import Snapshot
from netns_fixtures.topology import Topology
from tests.cli.lab import Lab
from tests.support.mounts import forget_pins


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses the lab needs root."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker("root")


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Records, cache and terminal of this test alone."""
    state = tmp_path / "state"
    monkeypatch.setenv("NETBPF_STATE_DIR", str(state))
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    yield state
    forget_pins(state)


@pytest.fixture
def own_leaks() -> Iterator[None]:
    """This process keeps no descriptor, thread or child. What the machine has is not asked: others use it too."""
    before = Snapshot.take(machine=False)
    yield
    assert not before.leaks()


@pytest.fixture
def lab(own_leaks: None, topology: Topology, tmp_path: Path, private: Path) -> Iterator[Lab]:
    """A namespace with one wire (dut0 - peer0), and netbpf in it. Nothing may be left afterwards."""
    made = Lab(topology, tmp_path)
    yield made
    made.clean_up()


@pytest.fixture
def bpffs(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    made = tmp_path / "bpf"
    made.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", made, "-o", "mode=0700"], check=True)
    yield made
    subprocess.run(["umount", "-l", made], check=True)
