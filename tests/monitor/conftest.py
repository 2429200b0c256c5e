"""What the tests of monitor share."""

import pytest

from tests.cli.conftest import lab, own_leaks, private, pytest_collection_modifyitems
from tests.monitor.traffic import SOURCE
from tests.support.compiling import compile_c

__all__ = ("lab", "own_leaks", "private", "pytest_collection_modifyitems")


@pytest.fixture(scope="session")
def wrong() -> bytes:
    """The object of wrong.bpf.c."""
    return compile_c(SOURCE.read_text())
