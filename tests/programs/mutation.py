"""A pytest plugin that runs the tests it has collected once for each mutant of a program, up to the first failure.

``pytest -p tests.programs.mutation --mutants DIR`` looks for objects in the directories of DIR. Each run is a fork of
the process that collected the tests, in which ``builtin:NAME`` and everything else finds the mutant in the place of the
shipped program. In the end the tests that noticed a mutant run on the original, in the directory ORIGINAL.
Prints ``MUTANT name: nodeid of the test that failed``, or ``MUTANT name: alive``.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

ORIGINAL = "the original"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutants", metavar="DIR", required=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only what runs in TEST_RUN, and of that what is for the family of the program."""
    objects = Path(config.getoption("--mutants"), ORIGINAL).glob("*.bpf.o")
    [family] = {path.name.partition("_")[0] for path in objects}
    items[:] = [one for one in items if _concerns(one, family)]
    # Of each test function one case, then the second of each, and so on: what is alike fails alike.
    seen: Counter[str] = Counter()
    order: dict[str, int] = {}
    for one in items:
        name = one.nodeid.partition("[")[0]
        order[one.nodeid] = seen[name]
        seen[name] += 1
    items.sort(key=lambda one: order[one.nodeid])


def _concerns(item: pytest.Item, family: str) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    kind = params.get("attach_kind")
    if kind is not None:
        return str(kind) == f"{family}-testrun"
    return family in (params.get("any_filter"), params.get("family"))


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Each mutant in a process of its own."""
    base = Path(session.config.getoption("--mutants"))
    found = {
        one.name: _run(session, one, session.items)
        for one in sorted(base.iterdir())
        if one.name != ORIGINAL
    }
    noticed = [one for one in session.items if one.nodeid in found.values()]
    found[ORIGINAL] = _run(session, base / ORIGINAL, noticed)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.line("")
    for name, words in found.items():
        reporter.line(f"MUTANT {name}: {words}")
    return True


def _run(session: pytest.Session, folder: Path, items: list[pytest.Item]) -> str:
    reading, writing = os.pipe()
    if os.fork() == 0:
        _child(session, folder, items, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        words = pipe.read()
    os.wait()
    return words or "the process died"


def _child(session: pytest.Session, folder: Path, items: list[pytest.Item], pipe: int) -> None:
    import netbpf.manager.sources

    netbpf.manager.sources._OBJECTS = folder
    words = "alive"
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            words = item.nodeid
            break
    os.write(pipe, words.encode())
    os._exit(0)  # nothing of the parent's may be ended here
