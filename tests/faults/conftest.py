"""What the tests of faults share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures.topology import Topology

pytest.register_assert_rewrite("tests.faults.lab", "tests.faults.ways")

from tests.faults.lab import Driver, Lab  # noqa: E402 - after the rewriting has been asked for
from tests.support.mounts import forget_pins  # noqa: E402

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them attach programs."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("root")


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.close()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own; its pins go with it."""
    path = tmp_path / "state"
    monkeypatch.setenv("NETBPF_STATE_DIR", str(path))
    yield path
    forget_pins(path)


@pytest.fixture
def lab(topology: Topology, driver: Driver, state: Path) -> Iterator[Lab]:
    made = Lab(topology, driver, state)
    yield made
    made.assert_freed()
