"""Output of ``netbpf trace``: a line or a JSON object for each line, and what was lost on standard error."""

import json
import sys
import time
from typing import Any

import click

from netbpf.cli.output import print_json
from netbpf.listen.trace import Trace, TraceLine
from netbpf.text import escape


def show_trace(trace: Trace, count: int | None, *, as_json: bool, verbose: bool) -> None:
    """Print lines until Ctrl-C, the ordinary end, or ``count`` of them; then how many there were and were lost."""
    shown = _Shown(trace, as_json=as_json, verbose=verbose)
    try:
        shown.run(count)
    except KeyboardInterrupt:
        pass
    except SystemExit:  # SIGTERM
        shown.end()
        raise
    except BrokenPipeError:
        shown.end(gone=True)
        raise
    shown.end()


class _Shown:
    def __init__(self, trace: Trace, *, as_json: bool, verbose: bool) -> None:
        self._trace, self._json, self._verbose = trace, as_json, verbose
        self._lines = self._lost = 0

    def run(self, count: int | None) -> None:
        click.echo("netbpf: listening to bpf_printk()", err=True)
        while count is None or self._lines < count:
            # Losses are told though no line comes.
            found = self._trace.read(1.0)
            found = found if count is None else found[: count - self._lines]
            if found:
                sys.stdout.write("".join(map(self._json_line if self._json else self._line, found)))
                sys.stdout.flush()  # the reader of a pipe wants them now
                self._lines += len(found)
            if self._trace.lost != self._lost:
                self._lost = self._trace.lost
                click.echo(f"netbpf: {self._lost:,} lost so far: too many to print", err=True)

    def _line(self, one: TraceLine) -> str:
        second, rest = divmod(one.time_ns, 1_000_000_000)
        clock = time.strftime("%H:%M:%S", time.localtime(second))
        words = [f"{clock}.{rest // 1000:06}"]
        if self._verbose:
            words.append(f"cpu {one.cpu}  {escape(one.task) or '?'} ({one.pid})")
        words += [hook for hook in (", ".join(one.hooks),) if hook]
        words.append(_where(one))
        return f"{'  '.join(words)}  {escape(one.text)}\n"

    @staticmethod
    def _json_line(one: TraceLine) -> str:
        return json.dumps(_line_json(one), separators=(",", ":")) + "\n"

    def end(self, *, gone: bool = False) -> None:
        """Totals; on standard error alone where the reader of the output is gone."""
        lost, unknown = self._trace.lost, self._trace.unknown
        if self._json and not gone:
            content = {"event": "end", "lines": self._lines, "lost": lost, "unknown": unknown}
            print_json("trace", content)
            sys.stdout.flush()
        words = [f"{self._lines:,} {'line' if self._lines == 1 else 'lines'}", f"{lost:,} lost"]
        if unknown:
            words.append(f"{unknown:,} of unknown programs not shown")
        click.echo(f"netbpf: {', '.join(words)}", err=True)


def _where(one: TraceLine) -> str:
    if one.place is None:
        return "?"
    place = one.place
    name = one.member or place.program
    function = f" {escape(place.function)}()" if place.function not in (name, place.program) else ""
    source = f" {escape(place.file.rpartition('/')[2])}:{place.line}" if place.line else ""
    return f"{escape(name)}[{place.program_id}]{function}{source}"


def _line_json(one: TraceLine) -> dict[str, Any]:
    place = one.place
    return {
        "schema": "netbpf.trace/1",
        "event": "line",
        "time_ns": one.time_ns,
        "cpu": one.cpu,
        "pid": one.pid,
        "task": one.task,
        "hooks": list(one.hooks),
        "program": place and {"id": place.program_id, "name": place.program},
        "function": place.function if place else None,
        "member": one.member or None,
        "source": {"file": place.file, "line": place.line} if place and place.line else None,
        "text": one.text,
    }
