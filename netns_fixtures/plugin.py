"""The pytest plugin: options, markers and fixtures. Imports nothing but pytest and the standard library.

Fixtures, each made from those to its left; all but session_bench live for one test::

    topology ─┬─ netns        a function that makes namespaces
              ├─ veth         a function that makes wires
              ├─ wire         one wire: wire.dut and wire.peer
              └─ attach_kind ── rig     a hook or TEST_RUN, and what gets through it
    bench                     a function that loads programs to run them in TEST_RUN
    session_bench             the same, for all tests together
    changes                   strict counter checks
    leak_check                fails the test for what it leaves behind

Whatever they make is without a name and held by descriptors: parallel tests cannot meet, and a killed test leaves
nothing.
"""

import math
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

from netns_fixtures import coverage
from netns_fixtures.kinds import GROUPS, KINDS, AttachKind, chosen

if TYPE_CHECKING:
    from netbpf.net.netns import Namespace
    from netns_fixtures.bench import BenchProgram
    from netns_fixtures.counters import Changes
    from netns_fixtures.coverage import Run as CoverageRun
    from netns_fixtures.evidence import Evidence
    from netns_fixtures.residue import Snapshot
    from netns_fixtures.rig import Rig
    from netns_fixtures.topology import Topology, Wire

_LEAK_CHECKS: Final = ("off", "session", "test")
_BASELINE: "pytest.StashKey[Snapshot]" = pytest.StashKey()
_LEAKS: "pytest.StashKey[list[str]]" = pytest.StashKey()
_OUTCOME: "pytest.StashKey[bool]" = pytest.StashKey()
_EVIDENCE: "pytest.StashKey[Evidence]" = pytest.StashKey()
_RIGS: "pytest.StashKey[list[Rig]]" = pytest.StashKey()
_COVERAGE: "pytest.StashKey[CoverageRun]" = pytest.StashKey()


# --- configuration -----------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--attach-kinds`` and others on the command line, ``netns_leak_check`` and its patience in the ini-file."""
    group = parser.getgroup("netns_fixtures", "tests of XDP and TC programs")
    group.addoption(
        "--attach-kinds",
        metavar="KIND,...",
        help="run tests with a rig or attach_kind only for these: "
        f"{', '.join(KINDS)}; or groups: {', '.join(GROUPS)}",
    )
    group.addoption(
        "--netns-keep",
        metavar="DIR",
        help="where packets and verifier logs of failing tests are kept [default: pytest's temporary directory]",
    )
    coverage.add_options(group)
    parser.addini(
        "netns_leak_check",
        "what looks for leaked programs, maps, links, descriptors, threads and namespaces: "
        "off (only tests that use the fixture leak_check), session (the end of the run), "
        "test (every test, and the end of the run)",
        default="off",
    )
    parser.addini(
        "netns_leak_patience",
        "seconds that the kernel and others on the machine get to let go of what looks leaked; 20 by default",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers and check the settings."""
    config.addinivalue_line(
        "markers",
        f"attach_kinds(*kinds): run the test once for each of these kinds or groups of kinds ({', '.join(KINDS)}; "
        f"{', '.join(GROUPS)}); ingress by default",
    )
    config.addinivalue_line(
        "markers",
        "requires(*what): skip the test, naming what is missing, unless all of this is there (root, CAP_..., "
        "namespaces, ipv6, btf, an attach kind, linux>=X.Y, tool:NAME, module:NAME); "
        "with NETBPF_REQUIRE_ALL=1 it fails",
    )
    if config.getini("netns_leak_check") not in _LEAK_CHECKS:
        raise pytest.UsageError(
            f"netns_leak_check = {config.getini('netns_leak_check')}: {', '.join(_LEAK_CHECKS)} are possible"
        )
    _patience(config)
    _allowed(config)
    if wanted := coverage.Wanted.of(config):
        config.stash[_COVERAGE] = coverage.Run(wanted)


def _patience(config: pytest.Config) -> float | None:
    given = config.getini("netns_leak_patience")
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise pytest.UsageError(f"netns_leak_patience = {given}: a number of seconds is possible")
    return seconds


def _allowed(config: pytest.Config) -> list[AttachKind] | None:
    words = config.getoption("--attach-kinds")
    try:
        return chosen(*words.split(",")) if words else None
    except ValueError as error:
        raise pytest.UsageError(f"--attach-kinds: {error}") from None


# --- parameters --------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per kind of attachment, with ids like ``[xdp-native]``."""
    if "attach_kind" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("attach_kinds")
    try:
        kinds = chosen(*(marker.args if marker and marker.args else ("ingress",)))
    except ValueError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: attach_kinds: {error}") from None
    allowed = _allowed(metafunc.config)
    if allowed is not None:
        kinds = [kind for kind in kinds if kind in allowed]
    metafunc.parametrize(
        "attach_kind",
        [pytest.param(kind, id=kind.id, marks=pytest.mark.requires(kind.id)) for kind in kinds],
        indirect=True,
    )


# --- requirements ------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker ``requires``."""
    wanted = [word for marker in item.iter_markers("requires") for word in marker.args]
    if not wanted:
        return
    from netns_fixtures.requirements import missing

    try:
        reasons = [reason for word in dict.fromkeys(wanted) if (reason := missing(word))]
    except ValueError as error:
        pytest.fail(f"marker requires: {error}", pytrace=False)
    if not reasons:
        return
    text = "; ".join(reasons)
    if os.environ.get("NETBPF_REQUIRE_ALL") == "1":
        pytest.fail(f"{text} (NETBPF_REQUIRE_ALL=1 allows no skip)", pytrace=False)
    pytest.skip(text)


# --- fixtures ----------------------------------------------------------------------------------


@pytest.fixture
def _netns_evidence(request: pytest.FixtureRequest) -> "Evidence":
    """What the test sends and sees, shown if it fails."""
    from netns_fixtures.evidence import Evidence

    made = Evidence()
    request.node.stash[_EVIDENCE] = made
    return made


@pytest.fixture
def topology(_netns_evidence: "Evidence") -> Iterator["Topology"]:
    """Makes the namespaces and wires of this test, and takes them away after it."""
    from netns_fixtures.topology import Topology

    with Topology(_netns_evidence) as made:
        yield made


@pytest.fixture
def netns(topology: "Topology") -> "Callable[[], Namespace]":
    """A function that makes a network namespace without a name: ``netns().run(function)`` runs inside."""
    return topology.namespace


@pytest.fixture
def veth(topology: "Topology") -> "Callable[..., Wire]":
    """A function that makes a wire: ``veth()``, ``veth(dut=namespace, mtu=9000)``; see ``Topology.wire``."""
    return topology.wire


@pytest.fixture
def wire(topology: "Topology") -> "Wire":
    """A silent veth pair that is up: ``wire.dut`` and ``wire.peer``, each in a namespace of its own."""
    return topology.wire()


@pytest.fixture
def attach_kind(request: pytest.FixtureRequest) -> AttachKind:
    """How to attach, one kind after the other; the marker ``attach_kinds`` chooses which."""
    kind: AttachKind = request.param
    return kind


@pytest.fixture
def rig(
    request: pytest.FixtureRequest, topology: "Topology", attach_kind: AttachKind
) -> Iterator["Rig"]:
    """A test bench for one program and each kind of attachment: attach, send, expect. See ``Rig``."""
    from netns_fixtures.bench_rig import make_rig

    made = make_rig(attach_kind, topology)
    request.node.stash.setdefault(_RIGS, []).append(made)
    yield made
    made.close()


@pytest.fixture
def bench(_netns_evidence: "Evidence") -> Iterator["Callable[..., BenchProgram]"]:
    """A function that loads a program to be run in TEST_RUN: ``bench("filter.bpf.c", variables={"port": 53})``.

    See ``BenchMaker.__call__`` for its arguments, and ``BenchProgram`` for what it returns. The program is as if just
    loaded; for one that takes the verifier long, the kernel's copy is kept from test to test where that can be done.
    """
    from netns_fixtures.maker import PooledMaker

    with PooledMaker(_netns_evidence) as made:
        yield made


@pytest.fixture(scope="session")
def session_bench() -> Iterator["Callable[..., BenchProgram]"]:
    """The same for all tests together: programs stay loaded, with whatever their maps hold, until the end.

    For programs that take long to load, and for tests with Hypothesis, which runs one test with many examples.
    """
    from netns_fixtures.maker import SessionMaker

    with SessionMaker() as made:
        yield made


@pytest.fixture
def changes() -> "type[Changes]":
    """``with changes(read, {"counter": 3}):`` exactly that changes in what ``read()`` returns. See ``Changes``."""
    from netns_fixtures.counters import Changes

    return Changes


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Packets that a rig's test left untaken fail the test itself, not its clean-up."""
    __tracebackhide__ = True
    result = yield
    for made in pyfuncitem.stash.get(_RIGS, []):
        made.verify()
    return result


# --- leaks -------------------------------------------------------------------------------------


@pytest.fixture
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaves a program, map, link, descriptor, thread, child or named namespace behind.

    Made before and checked after the test's other function fixtures, if it is the first of them: the ini-setting
    ``netns_leak_check = test`` sees to that for every test. A test that has failed anyway is not accused.
    """
    from netns_fixtures.residue import Snapshot

    before = Snapshot.take()
    yield
    if not request.node.stash.get(_OUTCOME, False):
        return
    leaks = before.leaks(patience=_patience(request.config))
    if leaks:
        pytest.fail(
            "the test left behind:\n" + "\n".join(f"  {leak}" for leak in leaks), pytrace=False
        )


@pytest.fixture(autouse=True)
def _netns_leak_check(request: pytest.FixtureRequest) -> None:
    """``leak_check`` for every test, where the ini-file says so."""
    if request.config.getini("netns_leak_check") == "test":
        request.getfixturevalue("leak_check")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself passed; show what it sent and saw if it did not."""
    report = yield
    if call.when == "call":
        item.stash[_OUTCOME] = report.passed
    if report.failed and call.excinfo is not None and call.when != "teardown":
        evidence = item.stash.get(_EVIDENCE, None)
        if evidence is not None:
            from netns_fixtures.report import shown

            text = shown(item, evidence, call.excinfo.value)
            report.sections.append(("netns_fixtures", text))
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is there before the first test."""
    # A worker of xdist leaves it to the process that started it, which outlives them all.
    if session.config.getini("netns_leak_check") != "off" and not hasattr(
        session.config, "workerinput"
    ):
        from netns_fixtures.residue import Snapshot

        session.config.stash[_BASELINE] = Snapshot.take()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let go of programs kept from test to test, and compare with what is there after the last one."""
    if pool := sys.modules.get("netns_fixtures.pool"):
        pool.POOL.close()
    if passing := sys.modules.get("netns_fixtures.passing"):
        passing.PASSING.close()
    _finish_coverage(session)
    before = session.config.stash.get(_BASELINE, None)
    if before is None:
        return
    # The process itself may keep what it likes: tests are over, and it is about to end.
    leaks = [
        line
        for line in before.leaks(patience=_patience(session.config))
        if not line.startswith(("descriptor:", "thread:"))
    ]
    if leaks:
        session.config.stash[_LEAKS] = leaks
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _finish_coverage(session: pytest.Session) -> None:
    run = session.config.stash.get(_COVERAGE, None)
    if run is None:
        return
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # a worker of xdist
        output[coverage.OUTPUT] = run.hand_over()
        return
    run.finish()
    if run.too_little and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of xdist has ended: take what it reached."""
    run = node.config.stash.get(_COVERAGE, None)
    if run is None:
        return
    data = getattr(node, "workeroutput", {}).get(coverage.OUTPUT)
    if data is None:
        run.lost.append(coverage.lost_worker(node))
    else:
        run.take(data)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show what the whole run left behind."""
    leaks = config.stash.get(_LEAKS, None)
    if leaks:
        terminalreporter.section("left behind by the test run", red=True)
        for leak in leaks:
            terminalreporter.line(leak)
    run = config.stash.get(_COVERAGE, None)
    if run and (lines := run.lines()):
        terminalreporter.section("coverage of BPF programs")
        for line in lines:
            terminalreporter.line(line)
