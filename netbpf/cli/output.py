"""Printing: JSON with its schema, and tables and colours through rich, which is loaded only for people."""

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_json(name: str, content: Mapping[str, Any]) -> None:
    """One JSON object on standard output: ``{"schema": "netbpf.NAME/1", ...}``."""
    json.dump({"schema": f"netbpf.{name}/1", **content}, sys.stdout, ensure_ascii=True, separators=(",", ":"))
    sys.stdout.write("\n")


def console() -> "Console":
    """Where people read: colours only on a terminal, and none with NO_COLOR; nothing is cut when piped."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, emoji=False, markup=False)


def table(*columns: str, right: tuple[str, ...] = ()) -> "Table":
    """A plain table: aligned columns, a dim head, no frame."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=True, overflow="fold")
    return made
