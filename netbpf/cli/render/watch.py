"""``netbpf stats --watch``: rates, round after round."""

import select
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from netbpf.cli.output import console, print_json, table
from netbpf.cli.render.stats import hook_stats_json
from netbpf.errors import NotAttachedError
from netbpf.model import Attachment
from netbpf.stats.model import Counter, HookStats
from netbpf.stats.rates import Rates, counters
from netbpf.stats.reader import HookReader, RunStatistics
from netbpf.text import escape

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

ENTRIES = 64  # of each map that are watched


class Round(NamedTuple):
    """One reading of one program, what it grew by per second, and what has grown since watching began."""

    found: HookStats
    rates: dict[str, float]
    moved: set[str]


class _Watched:
    """A program that is read again and again."""

    def __init__(self, reader: HookReader, *, counting: bool, skip_zeros: bool) -> None:
        self._reader = reader
        self._counting = counting
        self._skip_zeros = skip_zeros
        self._rates = Rates()
        self._moved: set[str] = set()

    def read(self) -> Round:
        found = self._reader.read(
            limit=ENTRIES, skip_zeros=self._skip_zeros, counting=self._counting
        )
        rates = self._rates.update(found)
        self._moved |= {name for name, rate in rates.items() if rate}
        return Round(found, rates, self._moved)


def watch_stats(
    attachments: list[Attachment],
    interface: str,
    seconds: float,
    count: int | None,
    *,
    as_json: bool,
) -> None:
    """Read again and again until Ctrl-C or ``count`` rounds. JSON is one object per round, one line each.

    The kernel counts runs and their time as long as this lasts.
    """
    if not attachments:
        raise NotAttachedError(f"no XDP or TC program on {escape(interface)}")
    with ExitStack() as stack:
        counting = stack.enter_context(RunStatistics()).counting
        watched = [
            _Watched(
                stack.enter_context(HookReader(one)), counting=counting, skip_zeros=not as_json
            )
            for one in attachments
        ]
        rounds = _rounds(seconds, count)
        if as_json:
            for _ in rounds:
                _print_json([one.read() for one in watched])
        else:
            _show(stack, rounds, watched)


def _rounds(seconds: float, count: int | None) -> Iterator[int]:
    """Count rounds, in step with the clock however long a round takes; Ctrl-C is the ordinary end."""
    started, number = time.monotonic(), 0
    while count is None or number < count:
        yield number
        number += 1
        if count is not None and number >= count:
            return
        pause = started + number * seconds - time.monotonic()
        try:
            # Waits for nothing but the time: a signal ends it.
            select.select([], [], [], max(pause, 0))
        except KeyboardInterrupt:
            return


def _print_json(rounds: list[Round]) -> None:
    hooks = [hook_stats_json(one.found, everything=False) | {"rates": one.rates} for one in rounds]
    print_json("stats", {"hooks": hooks})
    sys.stdout.flush()  # the reader of a pipe wants each round when it is made


def _show(stack: ExitStack, rounds: Iterator[int], watched: list[_Watched]) -> None:
    from rich.live import Live

    out = console()
    if not out.is_terminal:
        for number in rounds:
            shown = [one.read() for one in watched]
            if number:  # the first reading has no rates yet
                out.print(_screen(shown))
        return
    live = stack.enter_context(Live(console=out, auto_refresh=False, transient=False))
    for _ in rounds:
        live.update(_screen([one.read() for one in watched]), refresh=True)


def _screen(rounds: list[Round]) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for one in rounds:
        occupant, program = one.found.attachment.occupant, one.found.attachment.program
        runs = one.rates.get("run", 0.0)
        each = f", {one.rates.get('run_ns', 0.0) / runs:.0f} ns each" if runs else ""
        head = f"{escape(occupant.interface.name)} {occupant.hook} ({occupant.mode}): {escape(program.name)}"
        parts.append(Text(f"{head}, {runs:,.0f} runs/s{each}", style="bold"))
        for title, named in (("verdict", one.found.verdicts), ("protocol", one.found.protocols)):
            if any(counter.packets for counter in named.values()):
                parts.append(_counters(title, named, one.rates))
        if others := _others(one):
            parts.append(others)
    return Group(*parts)


def _counters(title: str, found: dict[str, Counter], rates: dict[str, float]) -> "Table":
    columns = ("packets", "packets/s", "bytes", "bytes/s")
    made = table(f"  {title}", *columns, right=columns)
    for name, one in found.items():
        if one.packets:
            per_second = [rates.get(f"{kind}/{name}", 0.0) for kind in (title, f"{title}-bytes")]
            made.add_row(
                f"  {name}",
                f"{one.packets:,}",
                f"{per_second[0]:,.0f}",
                f"{one.bytes:,}",
                f"{per_second[1]:,.0f}",
            )
    return made


def _others(one: Round) -> "Table | None":
    """Variables that are numbers, and whatever else has grown since watching began."""
    made = table("  counter", "total", "per second", right=("total", "per second"))
    for name, value in counters(one.found).items():
        kind, _, shown = name.partition("/")
        number = kind == "variable" and not set(".[") & set(shown)
        if kind in ("variable", "map") and (number or name in one.moved):
            made.add_row(f"  {escape(shown)}", f"{value:,}", f"{one.rates.get(name, 0.0):,.1f}")
    return made if made.row_count else None
