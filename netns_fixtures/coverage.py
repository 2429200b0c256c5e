"""Coverage of BPF programs by a run of pytest, also where xdist spreads it over processes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from netbpf.bpf.cover.collector import Collector, Numbers
    from netbpf.packets.coverage_model import Coverage

OUTPUT: Final = "netbpf_coverage"  # what a worker of xdist hands to the process that started it


class Wanted(NamedTuple):
    """What the command line asks for."""

    table: bool
    html: str | None
    lcov: str | None
    data: str | None
    least: float | None
    sources: tuple[str, ...]

    @classmethod
    def of(cls, config: pytest.Config) -> "Wanted | None":
        """None where nothing is."""
        found = cls(
            bool(config.getoption("--netbpf-coverage")),
            config.getoption("--netbpf-coverage-html"),
            config.getoption("--netbpf-coverage-lcov"),
            config.getoption("--netbpf-coverage-data"),
            config.getoption("--netbpf-coverage-min"),
            tuple(config.getoption("--netbpf-coverage-source") or ()),
        )
        asked = found.table or found.html or found.lcov or found.data or found.least is not None
        return found if asked else None


def add_options(group: pytest.OptionGroup) -> None:
    """The options of the command line."""
    group.addoption(
        "--netbpf-coverage", action="store_true",
        help="show which source lines and branches of BPF programs the tests reach: of all programs that the test "
        "process itself loads",
    )  # fmt: skip
    group.addoption(
        "--netbpf-coverage-source", action="append", metavar="PATH",
        help="only source files below this directory, or with this name, as the compiler was given it; repeatable",
    )  # fmt: skip
    group.addoption(
        "--netbpf-coverage-html", metavar="DIR", help="write the sources with counts as HTML"
    )
    group.addoption("--netbpf-coverage-lcov", metavar="FILE", help="write a tracefile of lcov")
    group.addoption(
        "--netbpf-coverage-data",
        metavar="FILE",
        help="add it to what earlier runs have kept in FILE",
    )
    group.addoption(
        "--netbpf-coverage-min", type=float, metavar="PERCENT",
        help="fail if fewer lines than this are reached",
    )  # fmt: skip


class Run:
    """One process of a test run: its own collector, and what others hand in."""

    def __init__(self, wanted: Wanted) -> None:
        from netbpf.bpf.cover.active import start
        from netbpf.bpf.cover.collector import Collector

        self.wanted = wanted
        self._collector: Collector | None = Collector(made=_keep)
        self._others: list[Coverage] = []
        self.lost: list[str] = []
        self.result: Coverage | None = None
        start(self._collector)

    def hand_over(self) -> bytes:
        """What this process has, for the one that started it."""
        import pickle

        return pickle.dumps(self._own())

    def take(self, data: bytes) -> None:
        """What a process has that this one started."""
        import pickle

        self._others.append(pickle.loads(data))

    def _own(self) -> "Coverage":
        from netbpf.bpf.cover.active import start
        from netbpf.packets.coverage import measured
        from netbpf.packets.coverage_model import Coverage

        start(None)
        found = Coverage()
        if self._collector:
            found = measured(self._collector)
            _release(self._collector)
            self._collector.close()
            self._collector = None
        return found

    def finish(self) -> "Coverage":
        """All of it, with the files written that were asked for."""
        found = self._own().merged(self._others).settled()
        if self.wanted.sources:
            found = found.within(self.wanted.sources)
        if self.wanted.data:
            from netbpf.packets.coverage_data import add_to_file

            found = add_to_file(self.wanted.data, found)
        if self.wanted.lcov:
            from netbpf.packets.coverage_lcov import write_lcov

            write_lcov(self.wanted.lcov, found)
        if self.wanted.html:
            from netbpf.packets.coverage_html import write_html

            write_html(self.wanted.html, found)
        self.result = found
        return found

    @property
    def too_little(self) -> str:
        """Why the run fails, or ""."""
        least = self.wanted.least
        if least is None or self.result is None or 100 * self.result.share >= least:
            return ""
        return (
            f"{100 * self.result.share:.1f} % of the lines were reached; {least:g} % are asked for"
        )

    def lines(self) -> Sequence[str]:
        """What to show at the end."""
        if self.result is None:
            return []
        from netbpf.packets.coverage_table import coverage_lines

        shown = coverage_lines(self.result) if self.wanted.table else ()
        return [*shown, *self.result.notes, *self.lost, *filter(None, [self.too_little])]


def _keep(numbers: "Numbers") -> None:
    from netns_fixtures import residue

    residue.keep(*_held(numbers))


def _release(collector: "Collector") -> None:
    from netns_fixtures import residue

    for numbers in collector.held():
        residue.release(*_held(numbers))


def _held(numbers: "Numbers") -> list[tuple[str, Any]]:
    from netbpf.bpf.map import Map

    with Map(numbers.fd.duplicate()) as opened:
        return [("descriptor", numbers.fd.fileno()), ("map", opened.info.id)]


def lost_worker(node: object) -> str:
    """What to say of a worker that handed in nothing."""
    name = getattr(getattr(node, "gateway", None), "id", "a worker")
    return f"{name} ended without handing in its coverage: what only its tests reached is missing above"
