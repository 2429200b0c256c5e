"""``netbpf stats --watch``: rates, round after round."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.rounds import rounds
from netbpf.cli.render.stats import hook_stats_json
from netbpf.errors import ExitCode, NetbpfError, NotAttachedError
from netbpf.live.model import Counter, HookStats
from netbpf.live.rates import Rates, counters
from netbpf.live.reader import HookReader, RunStatistics
from netbpf.model import Attachment
from netbpf.text import escape

Look = Callable[[], list[Attachment]]
ENTRIES = 64  # of each map that are watched


class Round(NamedTuple):
    """One reading of one program, what it grew by per second, and what has grown since watching began."""

    found: HookStats
    rates: dict[str, float]
    moved: set[str]


class _Watched:
    """A program that is read again and again."""

    def __init__(self, attachment: Attachment, *, counting: bool, skip_zeros: bool) -> None:
        self._reader = HookReader(attachment)
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

    def close(self) -> None:
        self._reader.close()


class _Watch:
    """The programs of an interface, whichever they are at the moment: one that is replaced gives way to the new."""

    def __init__(self, look: Look, *, counting: bool, skip_zeros: bool) -> None:
        self._look = look
        self._options = {"counting": counting, "skip_zeros": skip_zeros}
        self._watched: dict[tuple[object, ...], _Watched] = {}

    def read(self) -> list[Round]:
        before, self._watched = self._watched, {}
        try:
            for one in self._look():
                occupant = one.occupant
                key = (occupant.hook, occupant.mode, occupant.prog_id, occupant.position)
                watched = before.pop(key) if key in before else self._opened(one)
                if watched is not None:
                    self._watched[key] = watched
        finally:
            for gone in before.values():
                gone.close()
        return [one.read() for one in self._watched.values()]

    def _opened(self, attachment: Attachment) -> _Watched | None:
        """None for a program that vanished a moment after it was seen."""
        try:
            return _Watched(attachment, **self._options)
        except NetbpfError as error:
            if error.exit_code is not ExitCode.OTHER:
                raise
            return None

    def close(self) -> None:
        for one in self._watched.values():
            one.close()


def watch_stats(
    look: Look, interface: str, seconds: float, count: int | None, *, as_json: bool
) -> None:
    """Read again and again until Ctrl-C, the ordinary end, or ``count`` rounds.

    ``look`` gives the attachments of the interface. JSON is one object per round, one line each. The kernel counts
    runs and their time as long as this lasts.
    """
    if not look():
        raise NotAttachedError(f"no XDP or TC program on {escape(interface)}")
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        counting = stack.enter_context(RunStatistics()).counting
        watch = _Watch(look, counting=counting, skip_zeros=not as_json)
        stack.callback(watch.close)
        when = rounds(seconds, count)
        if as_json:
            for _ in when:
                _print_json(watch.read())
        else:
            _show(stack, when, watch, interface)


def _print_json(rounds: list[Round]) -> None:
    hooks = [hook_stats_json(one.found, everything=False) | {"rates": one.rates} for one in rounds]
    print_json("stats", {"hooks": hooks})
    sys.stdout.flush()  # the reader of a pipe wants each round when it is made


def _show(stack: ExitStack, when: Iterator[int], watch: _Watch, interface: str) -> None:
    if not sys.stdout.isatty():
        for number in when:
            shown = watch.read()
            if number:  # the first reading has no rates yet
                say(_screen(shown, interface))
                sys.stdout.flush()
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    live = stack.enter_context(Live(console=Console(highlight=False), auto_refresh=False))
    for _ in when:
        lines = _screen(watch.read(), interface)
        live.update(Group(*(Text(text, style) for text, style in lines)), refresh=True)


def _screen(rounds: list[Round], interface: str) -> list[Line]:
    lines: list[Line] = []
    if not rounds:
        lines.append(Line(f"no XDP or TC program on {escape(interface)} any more"))
    for one in rounds:
        attachment = one.found.attachment
        occupant = attachment.occupant
        runs = one.rates.get("run", 0.0)
        each = f", {one.rates.get('run_ns', 0.0) / runs:.0f} ns each" if runs else ""
        head = f"{escape(occupant.interface.name)} {occupant.hook} ({occupant.mode}): {escape(attachment.called)}"
        lines.append(Line(f"{head}, {runs:,.0f} runs/s{each}", "bold"))
        for title, named in (("verdict", one.found.verdicts), ("protocol", one.found.protocols)):
            if any(counter.packets for counter in named.values()):
                lines += _counters(title, named, one.rates)
        lines += _members(one)
        lines += _others(one)
    return lines


def _counters(title: str, found: dict[str, Counter], rates: dict[str, float]) -> list[Line]:
    columns = ("packets", "packets/s", "bytes", "bytes/s")
    made = Table(f"  {title}", *columns, right=columns)
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
    return made.lines()


def _members(one: Round) -> list[Line]:
    """What the dispatcher of a chain counts."""
    columns = ("packets", "packets/s")
    made = Table("  member", "verdict", *columns, right=columns)
    for member in one.found.members:
        name = member.member.name
        for verdict, packets in member.verdicts.items():
            rate = one.rates.get(f"verdict/{name}.{verdict}", 0.0)
            made.add_row(f"  {escape(name)}", verdict, f"{packets:,}", f"{rate:,.0f}")
    return [] if made.empty else made.lines()


def _others(one: Round) -> list[Line]:
    """Variables that are numbers, and whatever else has grown since watching began."""
    made = Table("  counter", "total", "per second", right=("total", "per second"))
    for name, value in counters(one.found).items():
        kind, _, shown = name.partition("/")
        number = kind == "variable" and not set(".[") & set(shown)
        if kind in ("variable", "map") and (number or name in one.moved):
            made.add_row(f"  {escape(shown)}", f"{value:,}", f"{one.rates.get(name, 0.0):,.1f}")
    return [] if made.empty else made.lines()
