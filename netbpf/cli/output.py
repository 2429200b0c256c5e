"""Printing: JSON with its schema; text with aligned columns, and colours only where a person looks.

The tables are netbpf's own few lines, because rich would cost `status` and `stats` a sixth of their time (14 ms,
measured); its live display and progress are used where something stays on the screen.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_STYLES = {"": "", "bold": "\x1b[1m", "dim": "\x1b[2m"}
_PLAIN = "\x1b[0m"


def print_json(name: str, content: Mapping[str, Any]) -> None:
    """One JSON object on standard output: ``{"schema": "netbpf.NAME/1", ...}``."""
    # Not json.dump, which takes Python's encoder: five times as long for a list of hundreds.
    found = {"schema": f"netbpf.{name}/1", **content}
    sys.stdout.write(json.dumps(found, ensure_ascii=True, separators=(",", ":")) + "\n")


class Line(NamedTuple):
    """A line to print; ``style`` is "", "bold" or "dim"."""

    text: str
    style: str = ""


def colored() -> bool:
    """Whether standard output takes styles: a terminal, and no NO_COLOR (https://no-color.org)."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def say(lines: Iterable[Line]) -> None:
    """Print lines. None is ever cut to the width of the terminal: what is too long wraps, and can be copied whole."""
    color = colored()
    for text, style in lines:
        styled = f"{_STYLES[style]}{text}{_PLAIN}" if color and style else text
        sys.stdout.write(styled + "\n")


class Table:
    """Aligned columns under a dim head, two blanks between them, no frame."""

    def __init__(self, *columns: str, right: tuple[str, ...] = ()) -> None:
        """``right`` names the columns whose cells stand on the right, as numbers do."""
        self._right = [column in right for column in columns]
        self._rows: list[tuple[tuple[str, ...], str]] = [(columns, "dim")]

    def add_row(self, *cells: str, style: str = "") -> None:
        """A row; cells that are missing at its end stay empty."""
        self._rows.append((cells, style))

    @property
    def empty(self) -> bool:
        """Whether there is nothing but the head."""
        return len(self._rows) == 1

    def lines(self) -> list[Line]:
        """The table, without blanks at the end of a line."""
        widths = [
            max(len(cells[at]) for cells, _ in self._rows if at < len(cells))
            for at in range(len(self._right))
        ]
        return [
            Line(
                "  ".join(
                    cell.rjust(width) if right else cell.ljust(width)
                    for cell, width, right in zip(cells, widths, self._right, strict=False)
                ).rstrip(),
                style,
            )
            for cells, style in self._rows
        ]
