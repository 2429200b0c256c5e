"""``--coverage`` and what belongs to it, for the commands that run packets through programs."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from netbpf.cli.options import F

if TYPE_CHECKING:
    from netbpf.packets.coverage_model import Coverage


@dataclass(slots=True)
class Wanted:
    """What was asked for, and after ``collecting()`` what there is."""

    table: bool
    html: str | None
    lcov: str | None
    data: str | None
    found: "Coverage | None" = None

    @property
    def any(self) -> bool:
        """Whether anything was."""
        return self.table or bool(self.html or self.lcov or self.data)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Cover what is loaded meanwhile, if that was asked for; write the files, also after an error."""
        if not self.any:
            yield
            return
        from netbpf.packets.coverage import covering

        with covering() as covered:
            try:
                yield
            finally:
                self._keep(covered.result())

    def _keep(self, found: "Coverage") -> None:
        if self.data:
            from netbpf.packets.coverage_data import add_to_file

            found = add_to_file(self.data, found)
        if self.lcov:
            from netbpf.packets.coverage_lcov import write_lcov

            write_lcov(self.lcov, found)
        if self.html:
            from netbpf.packets.coverage_html import write_html

            write_html(self.html, found)
        self.found = found

    def show(self, *, as_json: bool, verbose: bool) -> None:
        """The table, if it was asked for and the output is text; notes in any case."""
        if self.found is None:
            return
        from netbpf.cli.render.coverage import print_coverage, print_notes

        print_notes(self.found)
        if self.table and not as_json:
            print_coverage(self.found, verbose=verbose)

    def json(self) -> dict[str, Any]:
        """What it adds to the JSON of a command: nothing unless it was asked for."""
        if self.found is None:
            return {}
        from netbpf.packets.coverage_data import to_json

        return {"coverage": to_json(self.found)}


def coverage_options(function: F) -> F:
    """The options, as the parameter ``coverage``."""

    @functools.wraps(function)
    def called(
        *args: Any,
        table: bool,
        coverage_html: str | None,
        coverage_lcov: str | None,
        coverage_data: str | None,
        **named: Any,
    ) -> Any:
        wanted = Wanted(table, coverage_html, coverage_lcov, coverage_data)
        return function(*args, coverage=wanted, **named)

    options = (
        click.option(
            "--coverage", "table", is_flag=True,
            help="Show which source lines and branches the packets reached.",
        ),
        click.option("--coverage-html", metavar="DIR", help="Write the sources with counts as HTML."),
        click.option("--coverage-lcov", metavar="FILE", help="Write them as a tracefile of lcov."),
        click.option("--coverage-data", metavar="FILE", help="Add to what earlier runs have kept in FILE."),
    )  # fmt: skip
    made: Any = called
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[no-any-return]
