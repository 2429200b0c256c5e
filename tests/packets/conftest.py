"""What the tests of packets share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import forget_pins


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Records and cache of this test alone, and no colours."""
    monkeypatch.setenv("NETBPF_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    yield
    forget_pins(tmp_path / "state")
