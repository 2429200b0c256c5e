"""Output of ``netbpf events``: a line or a JSON object for each record, and what was lost on standard error."""

import json
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal

import click

from netbpf.bpf.btf.values import format_value
from netbpf.cli.output import print_json
from netbpf.cli.render.rounds import rounds
from netbpf.listen.buffers import Buffers
from netbpf.listen.events import BATCH, Event, Events, EventSource, Lost
from netbpf.listen.histogram import Histogram, bar, histograms
from netbpf.listen.record_types import hex_value
from netbpf.live.reader import OpenMap
from netbpf.text import escape

_HOW = {
    "asked": "as --type says",
    "declared": "as its definition says",
    "size": "the only struct of this size in the program's BTF; --type NAME for another",
}
_BAR = 40  # characters


def show_events(events: Events, count: int | None, *, as_json: bool, as_hex: bool) -> None:
    """Print records until Ctrl-C, the ordinary end, or ``count`` of them; then how many there were and were lost."""
    shown = _Shown(events, as_json=as_json, as_hex=as_hex)
    try:
        shown.begin()
        _run(shown, events, count)
    except KeyboardInterrupt:
        pass
    except SystemExit:  # SIGTERM
        shown.end()
        raise
    except BrokenPipeError:
        shown.end(gone=True)
        raise
    shown.end()


def _run(shown: "_Shown", events: Events, count: int | None) -> None:
    left = count
    while left is None or left > 0:
        # A second without records is a second in which the program may have lost some.
        found = events.read(1.0, BATCH if left is None else min(left, BATCH))
        shown.records(found)
        shown.losses()
        left = None if left is None else left - len(found)


class _Shown:
    def __init__(self, events: Events, *, as_json: bool, as_hex: bool) -> None:
        self._events, self._json, self._hex = events, as_json, as_hex
        self._several = len(events.sources) > 1
        self._told: set[tuple[int, int]] = set()
        self._lost = {one.id: Lost(0) for one in events.sources}
        self._second, self._clock = -1, ""
        self._shown = dict.fromkeys(self._lost, 0)

    def begin(self) -> None:
        """Say what is read, and where somebody else reads too."""
        for one in self._events.sources:
            where = f" on {', '.join(one.buffer.hooks)}" if one.buffer.hooks else ""
            by = ", ".join(f"{escape(each.name)} ({each.pid})" for each in one.readers)
            beside = (
                f"; read along with {by}, which empties it (--take takes the records)"
                if one.beside
                else ""
            )
            _say(f"{_label(one)}: {one.kind} buffer of {escape(one.buffer.program)}{where}{beside}")

    def records(self, found: list[Event]) -> None:
        """Print some, in one write."""
        made = [self._line(one) for one in found]
        if made:
            sys.stdout.write("".join(made))
            sys.stdout.flush()  # the reader of a pipe wants them now
            for one in found:
                self._shown[one.source.id] += 1

    def _line(self, one: Event) -> str:
        source, kind = one.source, None if self._hex else one.type
        if (source.id, len(one.data)) not in self._told:
            self._tell(one)
        if self._json:
            return json.dumps(_event_json(one, self._hex), separators=(",", ":")) + "\n"
        text = format_value(kind.value(one.data)) if kind else hex_value(one.data)
        rest = one.rest if kind else b""
        behind = f" + {hex_value(rest)}" if rest else ""
        name = f"  {escape(source.name)}" if self._several else ""
        cpu = f"  cpu {one.cpu}" if one.cpu is not None else ""
        return f"{self._time(one.time_ns)}{name}{cpu}  {text}{behind}\n"

    def _time(self, time_ns: int) -> str:
        second, rest = divmod(time_ns, 1_000_000_000)
        if second != self._second:
            self._second, self._clock = second, time.strftime("%H:%M:%S", time.localtime(second))
        return f"{self._clock}.{rest // 1000:06}"

    def _tell(self, one: Event) -> None:
        """Once for each length: which type it is taken for, and why."""
        source, length = one.source, len(one.data)
        self._told.add((source.id, length))
        if self._hex:
            return
        if one.type:
            text = f"{escape(one.type.name)}, {_HOW[one.type.how]}"
        else:
            text = f"in hex: {escape(source.why(length))}"
            if "structs have" in text:
                text += "; --type NAME says which"
        _say(f"{_label(source)}: records of {length} bytes: {text}")

    def losses(self) -> None:
        """Say what was lost since it was said last."""
        for one in self._events.sources:
            lost, before = one.lost(), self._lost[one.id]
            if lost != before:
                self._lost[one.id] = lost
                if lost.some and (lost.records or 0) + lost.full + lost.missed > (
                    (before.records or 0) + before.full + before.missed
                ):
                    _say(f"{_label(one)}: {lost_text(lost)}")
                    if self._json:
                        _write_json(one, "lost", _lost_json(lost))

    def end(self, *, gone: bool = False) -> None:
        """Totals; on standard error alone where the reader of the output is gone."""
        for one in self._events.sources:
            lost, shown = one.lost(), self._shown[one.id]
            # Ctrl-C may come between reading and printing.
            unshown = one.records - shown
            if self._json and not gone:
                _write_json(one, "end", {"records": shown, "unshown": unshown, **_lost_json(lost)})
            words = [f"{shown:,} {'record' if shown == 1 else 'records'}", lost_text(lost)]
            if unshown:
                words.insert(1, f"{unshown:,} more read and not shown")
            _say(f"{_label(one)}: {', '.join(words)}")


def _say(text: str) -> None:
    click.echo(f"netbpf: {text}", err=True)


def _label(one: EventSource) -> str:
    return escape(one.name) or f"map {one.id}"


def lost_text(lost: Lost) -> str:
    """What was lost, in words that claim no more than is known."""
    parts = []
    if lost.records is not None:
        by = f" (counted by the program in {escape(lost.counter)})" if lost.counter else ""
        parts.append(
            f"{lost.records:,} lost{by}" if lost.records or not lost.full else f"none lost{by}"
        )
    elif lost.full:
        times = "once" if lost.full == 1 else f"{lost.full:,} times"
        parts.append(
            f"some may be lost: the buffer was found full {times}, and the program counts none"
        )
    else:
        parts.append("never found full")
    if lost.missed:
        parts.append(f"{lost.missed:,} bytes missed beside the other reader")
    return ", ".join(parts)


def _lost_json(lost: Lost) -> dict[str, Any]:
    return {
        "lost": lost.records,
        "counter": lost.counter or None,
        "full": lost.full,
        "missed_bytes": lost.missed,
    }


def _event_json(one: Event, as_hex: bool) -> dict[str, Any]:
    kind = None if as_hex else one.type
    rest = one.rest if kind else b""
    return {
        "schema": "netbpf.events/1",
        "event": "record",
        "map": one.source.name,
        "map_id": one.source.id,
        "program": one.source.buffer.program,
        "time_ns": one.time_ns,
        "cpu": one.cpu,
        "type": kind.name if kind else None,
        "type_by": kind.how if kind else None,
        "value": kind.value(one.data) if kind else None,
        "data": rest.hex() if kind else one.data.hex(),
    }


def _write_json(
    source: EventSource, event: Literal["lost", "end"], content: dict[str, Any]
) -> None:
    print_json("events", {"event": event, "map": source.name, "map_id": source.id, **content})
    sys.stdout.flush()


# --- histograms ---


def show_histograms(
    found: Buffers, scale: Any, every: float | None, count: int | None, *, as_json: bool
) -> None:
    """Draw the histograms of some maps once, or every so many seconds until Ctrl-C or ``count`` rounds."""
    maps = [OpenMap(one.map, one.types[0] if one.types else None) for one in found]
    with suppress(KeyboardInterrupt):
        for number in rounds(every, count) if every else range(1):
            if number and not as_json:
                sys.stdout.write("\n")
            for one in maps:
                drawn = histograms(one, scale)
                if as_json:
                    _print_histograms(one, drawn)
                else:
                    sys.stdout.write("".join(f"{line}\n" for line in _drawing(one, drawn)))
            sys.stdout.flush()


def _drawing(one: OpenMap, drawn: list[Histogram]) -> Iterable[str]:
    if not drawn:
        yield f"{escape(one.name)}: nothing counted yet"
    for each in drawn:
        key = f" {format_value(each.key)}" if each.key is not None else ""
        yield f"{escape(one.name)}{key}: {each.total:,} counted, {each.scale} slots"
        most = max(slot.count for slot in each.slots)
        ranges = [
            str(slot.low) if slot.low == slot.high else f"{slot.low} .. {slot.high}"
            for slot in each.slots
        ]
        wide, wide_count = max(map(len, ranges)), len(f"{most:,}")
        for slot, text in zip(each.slots, ranges, strict=True):
            yield f"  {text:>{wide}}  {slot.count:>{wide_count},}  {bar(slot.count, most, _BAR)}".rstrip()


def _print_histograms(one: OpenMap, drawn: list[Histogram]) -> None:
    print_json(
        "events",
        {
            "event": "histogram",
            "map": one.name,
            "map_id": one.info.id,
            "time_ns": time.time_ns(),
            "histograms": [
                {
                    "key": each.key,
                    "scale": each.scale,
                    "total": each.total,
                    "slots": [
                        {"low": slot.low, "high": slot.high, "count": slot.count}
                        for slot in each.slots
                    ],
                }
                for each in drawn
            ],
        },
    )
