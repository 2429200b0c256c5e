"""What ``netbpf run`` prints."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import click

from netbpf.bpf.btf.values import Value, format_value
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.packets.changes import EntryChange, VariableChange, parts
from netbpf.packets.fields import Difference, hex_columns
from netbpf.packets.run import RunResult
from netbpf.text import escape

_NOTHING = "-"


def print_run(
    result: RunResult,
    notes: tuple[str, ...],
    *,
    as_json: bool,
    verbose: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """The verdict and all that changed, or ``netbpf.run/1`` and ``more``. Notes go to standard error."""
    everything = (*notes, *result.notes)
    for note in everything:
        click.echo(f"netbpf: note: {escape(note)}", err=True)
    if as_json:
        print_json("run", {**run_json(result, everything), **(more or {})})
        return
    say(_lines(result, verbose=verbose))


# --- JSON ---


def run_json(result: RunResult, notes: tuple[str, ...]) -> dict[str, Any]:
    """What ``netbpf.run/1`` says of a run."""
    return {
        "program": result.program,
        "object": result.object,
        "hook": "xdp" if result.hook == "xdp" else "tc",
        "verdict": result.verdict,
        "verdict_number": result.outcome.verdict,
        "modified": result.modified,
        "before": result.before.hex(),
        "after": result.data.hex(),
        "meta": result.outcome.meta.hex(),
        "fields": [
            {"layer": one.layer, "field": one.field, "change": one.kind, "before": one.before, "after": one.after}
            for one in result.fields or ()
        ],
        "context": {name: _before_after(*values) for name, values in result.context.items()},
        "variables": {
            one.name: _before_after(one.before, one.after) for one in result.changes.variables
        },
        "maps": [
            {"name": name, "type": entries[0].type, "entries": [_entry_json(one) for one in entries]}
            for name, entries in _by_map(result)
        ],
        "unseen": list(result.changes.unseen),
        "ns_per_run": result.duration_ns,
        "runs": result.runs,
        "notes": list(notes),
    }  # fmt: skip


def _before_after(before: object, after: object) -> dict[str, Any]:
    return {"before": before, "after": after}


def _entry_json(one: EntryChange) -> dict[str, Any]:
    return {
        "key": one.key,
        "label": one.label,
        "change": one.kind,
        **_before_after(one.before, one.after),
    }


def _by_map(result: RunResult) -> Iterator[tuple[str, list[EntryChange]]]:
    for name, entries in groupby(result.changes.entries, key=lambda one: one.map):
        yield name, list(entries)


# --- text ---


def _lines(result: RunResult, *, verbose: bool) -> Iterator[Line]:
    size = f"{len(result.before)} bytes"
    if len(result.data) != len(result.before):
        size = f"{len(result.before)} bytes in, {len(result.data)} out"
    yield Line(f"{escape(result.program)}: {result.verdict}, {size}, {_clock(result)}", "bold")
    yield from change_lines(result, verbose=verbose)


def change_lines(result: RunResult, *, verbose: bool) -> Iterator[Line]:
    """What became of the packet, its context, variables and maps; with ``verbose`` also a hex dump."""
    if result.modified:
        yield from _packet_lines(result.fields)
    else:
        yield Line("  the packet is as it was")
    if verbose or (result.modified and not result.fields):
        yield from (Line(line) for line in hex_columns(result.before, result.data).split("\n"))
    if result.outcome.meta:
        yield Line(f"  metadata  {result.outcome.meta.hex(' ')}")
    if result.context:
        made = Table("  context", "before", "after")
        for name, (before, after) in result.context.items():
            made.add_row(f"  {name}", f"{before:#x}", f"{after:#x}")
        yield from made.lines()
    yield from _variable_lines(result.changes.variables)
    for name, entries in _by_map(result):
        yield from _map_lines(name, entries)
    if not result.changes:
        yield Line("  no variable and no map entry changed")
    if result.changes.unseen:
        names = ", ".join(escape(name) for name in result.changes.unseen)
        yield Line(f"  not looked into, because it cannot be without consequences: {names}", "dim")


def _clock(result: RunResult) -> str:
    if result.runs == 1:
        return f"{result.duration_ns:.0f} ns (one run; --repeat N gives a mean)"
    return f"{result.duration_ns:.0f} ns a run ({result.runs:,} runs)"


def _packet_lines(fields: tuple[Difference, ...] | None) -> Iterator[Line]:
    if not fields:
        return
    made = Table("  packet", "before", "after")
    for (layer, kind), group in groupby(fields, key=lambda one: (one.layer, one.kind)):
        if kind == "changed":
            for one in group:
                made.add_row(f"  {one.path}", one.before or _NOTHING, one.after or _NOTHING)
        else:
            texts = " ".join(
                f"{one.field}={one.after if kind == 'added' else one.before}" for one in group
            )
            before, after = (_NOTHING, texts) if kind == "added" else (texts, _NOTHING)
            made.add_row(f"  {'+' if kind == 'added' else '-'} {layer}", before, after)
    yield from made.lines()


def _variable_lines(variables: tuple[VariableChange, ...]) -> Iterator[Line]:
    if not variables:
        return
    made = Table("  variable", "before", "after")
    for one in variables:
        for path, before, after in parts(one.before, one.after):
            name = one.name + ("" if path.startswith("[") or not path else ".") + path
            made.add_row(f"  {escape(name)}", _value(before), _value(after))
    yield from made.lines()


def _map_lines(name: str, entries: list[EntryChange]) -> Iterator[Line]:
    made = Table(f"  {escape(name)} ({entries[0].type})", "before", "after")
    for one in entries:
        if one.kind == "changed":
            for path, before, after in parts(one.before, one.after):
                made.add_row(f"    {one.label} {path}".rstrip(), _value(before), _value(after))
        else:
            made.add_row(
                f"  {'+' if one.kind == 'added' else '-'} {one.label}",
                _value(one.before),
                _value(one.after),
            )
    yield from made.lines()


def _value(value: Value) -> str:
    return _NOTHING if value is None else format_value(value)
