"""A bench for upgrades: two objects from C, the old one's program in the kernel."""

from collections.abc import Iterator

import pytest

from tests.upgrade.lab import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made
