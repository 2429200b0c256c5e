"""``netbpf stats --watch``: rates, round after round."""

import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from netbpf.cli.output import console, print_json, table
from netbpf.cli.render.stats import hook_stats_json
from netbpf.errors import NotAttachedError
from netbpf.model import Attachment
from netbpf.stats.model import HookStats
from netbpf.stats.rates import Rates, counters
from netbpf.stats.reader import HookReader, RunStatistics
from netbpf.text import escape

if TYPE_CHECKING:
    from rich.console import RenderableType


class Round(NamedTuple):
    """One reading of one program, and what it grew by per second."""

    found: HookStats
    rates: dict[str, float]


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
        stack.enter_context(RunStatistics())
        readers = [stack.enter_context(HookReader(one)) for one in attachments]
        rates = [Rates() for _ in readers]
        rounds = _rounds(seconds, count)
        if as_json:
            for _ in rounds:
                _print_json(_read(readers, rates))
        else:
            _show(stack, rounds, readers, rates)


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


def _read(readers: list[HookReader], rates: list[Rates]) -> list[Round]:
    found = [reader.read(limit=0) for reader in readers]
    return [Round(one, rate.update(one)) for one, rate in zip(found, rates, strict=True)]


def _print_json(rounds: list[Round]) -> None:
    hooks = [hook_stats_json(one.found, everything=False) | {"rates": one.rates} for one in rounds]
    print_json("stats", {"hooks": hooks})


def _show(
    stack: ExitStack, rounds: Iterator[int], readers: list[HookReader], rates: list[Rates]
) -> None:
    from rich.live import Live

    out = console()
    if not out.is_terminal:
        for number in rounds:
            shown = _read(readers, rates)
            if number:  # the first reading has no rates yet
                out.print(_screen(shown))
        return
    live = stack.enter_context(Live(console=out, auto_refresh=False, transient=False))
    for _ in rounds:
        live.update(_screen(_read(readers, rates)), refresh=True)


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
        made = table("  counter", "total", "per second", right=("total", "per second"))
        for name, value in counters(one.found).items():
            if value and not name.startswith("run"):
                made.add_row(f"  {escape(name)}", f"{value:,}", f"{one.rates.get(name, 0.0):,.1f}")
        parts.append(made)
    return Group(*parts)
