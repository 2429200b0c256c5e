"""Tests of what an object can be, through the command line, in a namespace with wires."""

from tests.cli.conftest import lab, own_leaks, private, pytest_collection_modifyitems

__all__ = ["lab", "own_leaks", "private", "pytest_collection_modifyitems"]
