"""One room for the tests of a file; each leaves it as it found it."""

from collections.abc import Iterator

import pytest

from tests.host import room as rooms
from tests.host.room import Room


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    with rooms.room() as made:
        yield made
