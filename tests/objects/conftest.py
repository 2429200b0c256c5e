"""Tests of what an object can be, through the command line, in a namespace with wires."""

from pathlib import Path

import pytest

from netbpf import layout
from tests.cli.conftest import bpffs, lab, own_leaks, private, pytest_collection_modifyitems

__all__ = ["bpffs", "lab", "own_leaks", "private", "pytest_collection_modifyitems"]


@pytest.fixture(autouse=True)
def own_bpffs_alone(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What attach auto pins is the whole host's: a test has a BPF file system of its own, below its state directory."""
    monkeypatch.setattr(layout, "BPFFS", private / "none")
