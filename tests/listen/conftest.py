"""What the tests of listening share."""

from tests.cli.conftest import lab, own_leaks, private, pytest_collection_modifyitems

__all__ = ("lab", "own_leaks", "private", "pytest_collection_modifyitems")
