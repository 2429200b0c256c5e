"""What the tests of sending share: a wire between two namespaces, and netbpf at its near end."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures.residue import Snapshot
from netns_fixtures.topology import Topology
from tests.cli.lab import Lab
from tests.support.mounts import forget_pins


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker("root")


@pytest.fixture
def own_leaks() -> Iterator[None]:
    """This process keeps no descriptor, thread or child."""
    before = Snapshot.take(machine=False)
    yield
    assert not before.leaks()


@pytest.fixture
def lab(
    own_leaks: None, topology: Topology, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    """dut0 - peer0, each in a namespace of its own."""
    state = tmp_path / "state"
    monkeypatch.setenv("NETBPF_STATE_DIR", str(state))
    monkeypatch.chdir(tmp_path)
    made = Lab(topology, tmp_path)
    yield made
    made.clean_up()
    forget_pins(state)


@pytest.fixture
def far(lab: Lab) -> str:
    """The far end's namespace, as a command takes it."""
    return f"/proc/{os.getpid()}/fd/{lab.wire.peer.namespace.fileno()}"
