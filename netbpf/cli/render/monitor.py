"""What ``netbpf monitor`` prints: a live table on a terminal, lines elsewhere, JSON lines."""

import select
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from netbpf.cli.output import Line, Table, say
from netbpf.cli.render.monitor_words import program, what, where
from netbpf.listen.monitor_model import Count, Happening, Lost, Reading

if TYPE_CHECKING:
    from rich.live import Live

    from netbpf.listen.monitor import Monitor

_HEAD = ("INTERFACE", "PROGRAM", "WHAT", "TRACEPOINT", "PACKETS")
_INDENT = " " * 10


class _Printer(Protocol):
    def start(self, monitor: "Monitor") -> None: ...

    def show(self, reading: Reading) -> None: ...

    def end(self, reading: Reading, seconds: float) -> None: ...

    def close(self) -> None: ...


def watch(
    monitor: "Monitor", interval: float, count: int | None, duration: float | None, *, as_json: bool
) -> None:
    """Show what goes wrong until Ctrl-C, the ordinary end, ``count`` events, or ``duration`` seconds."""
    printer: _Printer
    if as_json:
        from netbpf.cli.render.monitor_json import JsonLines

        printer = JsonLines(monitor.namespace)
    elif sys.stdout.isatty():
        printer = _Screen(monitor.namespace.inode)
    else:
        printer = _Lines(monitor.namespace.inode)
    started = time.monotonic()
    try:
        _watch(monitor, printer, interval, count, duration)
    except SystemExit:  # SIGTERM
        printer.end(monitor.read(), time.monotonic() - started)
        raise
    else:
        printer.end(monitor.read(), time.monotonic() - started)
    finally:
        printer.close()


def _watch(
    monitor: "Monitor",
    printer: _Printer,
    interval: float,
    count: int | None,
    duration: float | None,
) -> None:
    with suppress(KeyboardInterrupt):
        printer.start(monitor)
        sys.stdout.flush()  # whoever reads it may begin
        for _ in _ticks(interval, duration):
            reading = monitor.read()
            printer.show(reading)
            sys.stdout.flush()
            if count is not None and sum(one.events for one in reading.counts) >= count:
                break


def _ticks(interval: float, duration: float | None) -> Iterator[None]:
    """After each interval, and at the end of the duration."""
    due = begun = time.monotonic()
    end = None if duration is None else begun + duration
    while True:
        # Rounds that were missed, while stopped by Ctrl-Z, are left out.
        due = max(due + interval, time.monotonic())
        due = due if end is None else min(due, end)
        select.select([], [], [], max(due - time.monotonic(), 0))
        yield
        if end is not None and due >= end:
            return


# --- lines ----------------------------------------------------------------------------------------------------


class _Lines:
    """A line for each thing that happened since the last look; what it means, the first time."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._told: set[tuple[str, str]] = set()
        self._lost = Lost()

    def start(self, monitor: "Monitor") -> None:
        say(_intro(monitor))

    def show(self, reading: Reading) -> None:
        at = f"{datetime.fromtimestamp(reading.at).astimezone():%H:%M:%S}"
        for one in reading.counts:
            if one.new_events:
                say(self._lines(at, one, reading.seconds))
        if reading.lost != self._lost:
            self._lost = reading.lost
            say(Line(f"{at}  {line.text}", line.style) for line in _lost(reading.lost))

    def _lines(self, at: str, one: Count, seconds: float) -> Iterator[Line]:
        happening = one.happening
        by = program(happening)
        rate = one.new_packets / seconds if seconds else 0
        head = f"{at}  {where(happening, self._netns)}: {what(happening, self._netns)}{', ' if by else ''}{by}"
        yield Line(
            f"{head}: {_packets(one.new_packets)}, {rate:,.0f} per second, {one.packets:,} in all"
        )
        # Once for each thing, and again only where it means something else now.
        if (head[10:], happening.cause) not in self._told:
            self._told.add((head[10:], happening.cause))
            yield from _meaning(happening)

    def end(self, reading: Reading, seconds: float) -> None:
        self.show(reading)
        say(_summary(reading, seconds, self._netns))

    def close(self) -> None:
        pass  # it wrote lines, and has nothing to put back


# --- a terminal -----------------------------------------------------------------------------------------------


class _Screen:
    """A table that stays in its place, with rates, and the meanings below it."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._live: Live | None = None
        self._head: list[Line] = []

    def start(self, monitor: "Monitor") -> None:
        from rich.console import Console
        from rich.live import Live

        self._head = _intro(monitor)
        self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)
        self._live.start()
        self._draw([])

    def show(self, reading: Reading) -> None:
        shown: list[Line] = []
        if reading.counts:
            shown += [Line(""), *_table(reading, self._netns, rates=True)]
            for one in _ordered(reading):
                if one.new_events:
                    shown.append(Line(what(one.happening, self._netns), "bold"))
                    shown += _meaning(one.happening)
        self._draw([*shown, *_lost(reading.lost)])

    def _draw(self, lines: list[Line]) -> None:
        from rich.console import Group
        from rich.text import Text

        if self._live:
            texts = (Text(text, style) for text, style in [*self._head, *lines])
            self._live.update(Group(*texts), refresh=True)

    def end(self, reading: Reading, seconds: float) -> None:
        self.close()
        say(_summary(reading, seconds, self._netns))
        for one in _ordered(reading):
            say([Line(what(one.happening, self._netns), "bold"), *_meaning(one.happening)])

    def close(self) -> None:
        if self._live:
            self._live.stop()  # the cursor is there again
            self._live = None


# --- parts ----------------------------------------------------------------------------------------------------


def _intro(monitor: "Monitor") -> list[Line]:
    number = monitor.interfaces
    whose = f"{number} interface{'' if number == 1 else 's'} with programs"
    if monitor.interface is not None:
        from netbpf.text import escape

        whose = escape(monitor.interface)
    lines = [Line(f"watching {whose}; Ctrl-C ends it", "dim")]
    lines += [
        Line(f"this kernel has no tracepoint {name} with the arguments that are read: not seen")
        for name in monitor.missing
    ]
    return lines


def _packets(number: int) -> str:
    return f"{number:,} packet{'' if number == 1 else 's'}"


def _meaning(happening: Happening) -> list[Line]:
    lines = [Line(f"{_INDENT}{happening.cause}")] if happening.cause else []
    if happening.advice:
        lines.append(Line(f"{_INDENT}-> {happening.advice}"))
    return lines


def _ordered(reading: Reading) -> list[Count]:
    return sorted(reading.counts, key=lambda one: -one.packets)


def _table(reading: Reading, netns: int, *, rates: bool = False) -> list[Line]:
    columns = (*_HEAD, "PER SECOND") if rates else _HEAD
    made = Table(*columns, right=("PACKETS", "PER SECOND"))
    for one in _ordered(reading):
        happening = one.happening
        cells = [
            where(happening, netns),
            program(happening) or "-",
            what(happening, netns),
            happening.kind.tracepoint,
            f"{one.packets:,}",
        ]
        if rates:
            rate = one.new_packets / reading.seconds if reading.seconds else 0
            cells.append(f"{rate:,.0f}")
        made.add_row(*cells)
    return made.lines()


def _lost(lost: Lost) -> list[Line]:
    crowded = [
        f"{number:,} events of {name} are not told apart: more than 2048 different things happened"
        for name, number in lost.crowded
    ]
    nested = [
        f"{number:,} events of {name}, of any interface, were not seen: they came while their CPU was counting another"
        for name, number in lost.nested
    ]
    return [Line(text) for text in (*crowded, *nested)]


def _summary(reading: Reading, seconds: float, netns: int) -> list[Line]:
    if not reading.counts:
        nothing = "nothing was counted" if reading.lost.total else "nothing went wrong"
        return [Line(f"{nothing} in {seconds:.1f} s"), *_lost(reading.lost)]
    # No sum: a packet with an exception is dropped too, and may be in two lines.
    return [Line(f"in {seconds:.1f} s:", "bold"), *_table(reading, netns), *_lost(reading.lost)]
