"""Printing: JSON with its schema, and tables and colours through rich, which is loaded only for people."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

_WIDE = 100_000  # characters

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(name: str, content: Mapping[str, Any]) -> None:
    """One JSON object on standard output: ``{"schema": "netbpf.NAME/1", ...}``."""
    json.dump(
        {"schema": f"netbpf.{name}/1", **content},
        sys.stdout,
        ensure_ascii=True,
        separators=(",", ":"),
    )
    sys.stdout.write("\n")


def console() -> "Console":
    """Where people read: colours only on a terminal, and none with NO_COLOR.

    Nothing is ever cut to the width of the terminal: a line that is too long wraps, and can be copied whole.
    """
    from rich.console import Console

    class Quiet(Console):
        """Leaves a closed pipe to ``main``, where rich would end the process with exit code 1."""

        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - called while BrokenPipeError is handled

    return Quiet(highlight=False, soft_wrap=True, emoji=False, markup=False, width=_WIDE)


def table(*columns: str, right: tuple[str, ...] = ()) -> "Table":
    """A plain table: aligned columns, a dim head, no frame."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True)
    return made


def print_table(made: "Table") -> None:
    """Print a table without the blanks that would fill its last column."""
    out = console()
    with out.capture() as captured:
        out.print(made)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")
