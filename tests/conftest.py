"""Rules for every test: nothing skipped silently, machine-wide tests alone, reproducible examples."""

import fcntl
import os
import signal
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
UNPRIVILEGED = ROOT / "tests" / "unit"
INSIDE = "NETBPF_INSIDE_TEST"  # in the environment of what a test starts

# The same examples on every machine; a slow one is no failure on a shared CPU.
hypothesis.settings.register_profile(
    "netbpf",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("netbpf")


def pytest_configure() -> None:
    """What this process was told to ignore (nohup, a background job) is not ignored by the commands under test.

    An ignored signal stays ignored across execve(2), one with a handler does not (signal(7)).
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies outside tests/unit loads or attaches programs. Tests that need the machine alone come last, one
    behind the other: each would make all others wait for those that run.
    """
    for item in items:
        if not item.path.is_relative_to(UNPRIVILEGED):
            item.add_marker("root")
    items.sort(key=_serial)


def _serial(item: pytest.Item) -> bool:
    return item.get_closest_marker("serial") is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker ``root``: an honest skip for others, which NETBPF_REQUIRE_ALL=1 turns into a failure."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


# ------------------------------------------------------------------------------ no skip on CI


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if (
        os.environ.get("NETBPF_REQUIRE_ALL") == "1"
        and report.skipped
        and not hasattr(report, "wasxfail")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (NETBPF_REQUIRE_ALL=1 allows no skip)"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test, by mark or by call, fails where everything is required."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So does a module that skips itself while it is collected."""
    report = yield
    _refuse_skip(report)
    return report


# --------------------------------------------------------------------- machine-wide tests alone


@contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    """Hold a lock of this user's: it is released by name, not by closing, since a child that outlives its test
    holds a copy of the descriptor.
    """
    path = Path(tempfile.gettempdir()) / f"netbpf-tests-{os.geteuid()}.{name}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        assert stat.S_ISREG(os.fstat(fd).st_mode)
        fcntl.flock(fd, how)
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


@contextmanager
def _machine(*, alone: bool) -> Iterator[None]:
    """Share this machine with the other tests, or have it for a test marked ``serial``.

    Taken by each test of each run on this machine, so ``-n`` and a second pytest are both covered. flock(2) lets
    one reader after the other overtake a waiting writer, for minutes with three workers: whoever wants to run
    passes the turnstile first, and a serial test stays in it. A run that a test has started has what that test has.
    """
    if INSIDE in os.environ:
        yield
        return
    if alone:
        with _locked("turn", fcntl.LOCK_EX), _locked("lock", fcntl.LOCK_EX):
            yield
        return
    with ExitStack() as held:
        with _locked("turn", fcntl.LOCK_EX):
            held.enter_context(_locked("lock", fcntl.LOCK_SH))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Around set-up and teardown too, for what fixtures of a wider scope leave in the kernel."""
    with _machine(alone=_serial(item)), pytest.MonkeyPatch.context() as environment:
        environment.setenv(INSIDE, item.nodeid)
        return (yield)
