"""What the tests of the plugin share."""

from collections.abc import Callable

import pytest

from netns_fixtures.residue import Snapshot

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a test module with the plugin, as another project would: in a process of its own, without our conftest.

    NETBPF_REQUIRE_ALL is what the test sets and not what this run has; nor is it a worker of ours.
    """
    monkeypatch.delenv("NETBPF_REQUIRE_ALL", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(source: str, *args: str, ini: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_it=source)
        pytester.makefile(".ini", pytest=f"[pytest]\n{ini}\n")
        # Plugins that others have installed, and that only few of these runs need, are half of what starting one takes.
        spare = [
            plugin for plugin, used in (("xdist", "-n"), ("hypothesispytest", "hypothesis"))
            if not any(used in word for word in (source, ini, *args))
        ]  # fmt: skip
        return pytester.runpytest_subprocess("-q", *(f"-pno:{one}" for one in spare), *args)

    return run


@pytest.fixture
def leaks() -> Callable[..., list[str]]:
    """What is left of that which came up since the fixture was made; ``patience`` in seconds."""
    return Snapshot.take().leaks
