"""What the tests of looking inside share."""

from tests.cli.conftest import own_leaks, private, pytest_collection_modifyitems

__all__ = ("own_leaks", "private", "pytest_collection_modifyitems")
