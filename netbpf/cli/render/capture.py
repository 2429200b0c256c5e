"""What ``netbpf capture`` prints, or writes."""

import json
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

import click

from netbpf.manager.words import where
from netbpf.tap.dissect import summary as in_words
from netbpf.tap.model import CapturedPacket, CaptureSummary
from netbpf.tap.session import Capture
from netbpf.text import escape


class _Output(Protocol):
    def packets(self, found: list[CapturedPacket]) -> None: ...

    def end(self, summary: CaptureSummary) -> None: ...


def show(capture: Capture, output: str | None, count: int | None, *, as_json: bool) -> None:
    """Print or write packets until Ctrl-C, the ordinary end, or ``count`` of them; then what was counted."""
    made: _Output
    if output is not None:
        from netbpf.cli.render.capture_file import File

        made = File(capture, output)
    else:
        made = _Json(capture) if as_json else _Text()
    _begin(capture)
    with _signals(capture) as came:
        try:
            _run(capture, made, count, 1 if output in (None, "-") else None)
        except BaseException:
            _say_end(capture)
            raise
        made.end(capture.summary())
        _say_end(capture)
    if came == [signal.SIGTERM]:
        raise SystemExit(128 + signal.SIGTERM)


def _run(capture: Capture, made: _Output, count: int | None, reader: int | None) -> None:
    down, reading = False, select.poll()
    if reader is not None:
        reading.register(reader, 0)
    for batch in capture.batches(count):
        if capture.down and not down:
            name = escape(capture.at.interface.name)
            click.echo(f"netbpf: note: {name} is down: nothing comes until it is up", err=True)
        down = capture.down
        made.packets(batch)
        if not batch and any(event & select.POLLERR for _, event in reading.poll(0)):
            # A reader that goes away is noticed though nothing matches: no capture stays behind a closed window.
            raise BrokenPipeError


@contextmanager
def _signals(capture: Capture) -> Iterator[list[int]]:
    """Signals end the capture, and nothing is lost by that; a second one ends the command at once."""
    came: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if came and callable(handler):
            handler(number, frame)
        came.append(number)
        capture.stop()

    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _begin(capture: Capture) -> None:
    for note in capture.notes:
        click.echo(f"netbpf: note: {note}", err=True)
    place = where(capture.at.interface, capture.at.hook)
    member = f" member {escape(capture.request.member)}" if capture.request.member else ""
    click.echo(f"capturing on {place}{member}, Ctrl-C ends it", err=True)


def _say_end(capture: Capture) -> None:
    found = capture.summary()
    if found.ended:
        click.echo(f"netbpf: note: {found.ended}: the capture has ended", err=True)
    verdicts = ", ".join(f"{name} {packets}" for name, packets in found.verdicts.items())
    click.echo(f"{found.seen} came, {found.matched} matched", err=True)
    if verdicts:
        click.echo(f"verdicts of these: {verdicts}", err=True)
    nested = f", {found.nested} came in the midst of others" if found.nested else ""
    click.echo(
        f"{found.captured} captured, {found.lost} lost for want of room in the buffer{nested}",
        err=True,
    )


class _Text:
    """A line for each, with the local time."""

    def __init__(self) -> None:
        self._second = -1
        self._clock = ""

    def packets(self, found: list[CapturedPacket]) -> None:
        """Print them."""
        if not found:
            return
        lines = []
        for one in found:
            second, fraction = divmod(one.time_ns, 1_000_000_000)
            if second != self._second:
                self._second = second
                self._clock = time.strftime("%H:%M:%S", time.localtime(second))
            by = f" {escape(one.member)}" if one.member else ""
            words = in_words(one.data, one.length)
            lines.append(f"{self._clock}.{fraction // 1000:06} {one.verdict_name}{by}: {words}\n")
        sys.stdout.write("".join(lines))
        sys.stdout.flush()

    def end(self, summary: CaptureSummary) -> None:
        """Nothing: the counts go to standard error."""


class _Json:
    """An object for each line: packets, and in the end the counts."""

    def __init__(self, capture: Capture) -> None:
        at = capture.at
        self._write: Callable[[str], object] = sys.stdout.write
        self._head = {
            "schema": "netbpf.capture/1", "interface": at.interface.name, "hook": at.hook.value,
        }  # fmt: skip

    def packets(self, found: list[CapturedPacket]) -> None:
        """Print them."""
        for one in found:
            self._line(
                packet={
                    "time": one.time_ns / 1e9,
                    "time_ns": one.time_ns,
                    "verdict": one.verdict_name,
                    "member": one.member or None,
                    "queue": one.queue,
                    "length": one.length,
                    "captured": len(one.data),
                    "summary": in_words(one.data, one.length),
                    "data": one.data.hex(),
                }
            )
        sys.stdout.flush()

    def _line(self, **content: object) -> None:
        self._write(json.dumps({**self._head, **content}, separators=(",", ":")) + "\n")

    def end(self, summary: CaptureSummary) -> None:
        """The counts."""
        self._line(
            counts={
                "seen": summary.seen,
                "matched": summary.matched,
                "captured": summary.captured,
                "lost": summary.lost,
                "nested": summary.nested,
                "verdicts": summary.verdicts,
                "ended": summary.ended or None,
            }
        )
