"""What ``netbpf replay`` prints."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from netbpf.bpf.btf.values import format_value
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.ordering import sort_key
from netbpf.packets.replay_headers import summary
from netbpf.packets.replay_model import Change, MapChange, ReplayResult, Sample
from netbpf.text import escape

TEXT_ENTRIES = 10  # of each map that people see


def print_replay(
    result: ReplayResult, *, as_json: bool, more: Mapping[str, Any] | None = None
) -> None:
    """The histogram, samples and changes, or ``netbpf.replay/1`` and ``more``."""
    if as_json:
        print_json("replay", {**_json(result), **(more or {})})
        return
    say(_lines(result))


def _json(result: ReplayResult) -> dict[str, Any]:
    return {
        "program": result.program,
        "hook": "xdp" if result.hook == "xdp" else "tc",
        "packets": result.packets,
        "verdicts": result.verdicts,
        "packets_per_second": round(result.packets_per_second),
        "seconds": round(result.seconds, 6),
        "skipped": result.skipped,
        "cut": result.cut,
        **({"members": _members_json(result)} if result.members else {}),
        "samples": {name: samples_json(found) for name, found in result.samples.items()},
        "variables": {name: _change_json(one) for name, one in result.variables.items()},
        "maps": {name: _map_json(one) for name, one in result.maps.items()},
        "warnings": list(result.warnings),
    }


def _members_json(result: ReplayResult) -> dict[str, Any]:
    return {
        name: {"packets": sum(verdicts.values()), "verdicts": verdicts}
        for name, verdicts in result.members.items()
    }


def samples_json(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """``[{"number", "time_ns", "summary", "hex"}]``; a packet without a stamp has no ``time_ns``."""
    return [
        {
            "number": one.number,
            **({} if one.time_ns is None else {"time_ns": one.time_ns}),
            "summary": summary(one.data),
            "hex": one.data.hex(),
        }
        for one in samples
    ]


def _change_json(one: Change) -> dict[str, Any]:
    return {"before": one.before, "after": one.after}


def _map_json(one: MapChange) -> dict[str, Any]:
    entries = [{"key": key, **_change_json(change)} for key, change in one.entries]
    return {"changed": one.changed, "entries": entries}


# --- text ---


def _lines(result: ReplayResult) -> Iterator[Line]:
    rate = f"{result.packets_per_second:,.0f} per second"
    yield Line(
        f"{escape(result.program)}: {count(result.packets)} in {result.seconds:.2f} s, {rate}",
        "bold",
    )
    if result.verdicts:
        made = Table("  verdict", "packets", "share", right=("packets", "share"))
        for name, number in result.verdicts.items():
            made.add_row(f"  {name}", f"{number:,}", f"{100 * number / result.packets:.1f} %")
        yield from made.lines()
    if result.members:
        made = Table("  member", "packets", "share", "verdicts", right=("packets", "share"))
        for name, verdicts in result.members.items():
            number = sum(verdicts.values())
            share = f"{100 * number / max(result.packets, 1):.1f} %"
            shown = ", ".join(f"{verdict} {times:,}" for verdict, times in verdicts.items())
            made.add_row(f"  {escape(name)}", f"{number:,}", share, shown)
        yield from made.lines()
    if any(result.samples.values()):
        made = Table("  sample", "number", "time", "packet", right=("number",))
        for name, found in result.samples.items():
            for one in found:
                made.add_row(f"  {name}", str(one.number), stamp(one.time_ns), summary(one.data))
        yield from made.lines()
    moved = {name: one for name, one in result.variables.items() if one.before != one.after}
    if moved:
        made = Table("  variable", "before", "after")
        for name, change in moved.items():
            made.add_row(
                f"  {escape(name)}", format_value(change.before), format_value(change.after)
            )
        yield from made.lines()
    for name, each in result.maps.items():
        yield from _map_lines(name, each)
    yield from skipped_lines(result.skipped)
    if result.cut:
        yield Line(f"  {count(result.cut)} captured only in part, and run as far as captured")


def _map_lines(name: str, one: MapChange) -> Iterator[Line]:
    made = Table(f"  {escape(name)}", "before", "after")
    shown = sorted(one.entries, key=lambda entry: sort_key(entry[0]))[:TEXT_ENTRIES]
    for key, change in shown:
        before = "-" if change.before is None else format_value(change.before)
        after = "-" if change.after is None else format_value(change.after)
        made.add_row(f"    {format_value(key)}", before, after)
    yield from made.lines()
    if one.changed > len(shown):
        yield Line(f"    ({one.changed - len(shown):,} more entries changed)", "dim")
    if one.compared:
        yield Line(f"    (of its first {one.compared:,} entries)", "dim")


def skipped_lines(skipped: dict[str, int]) -> Iterator[Line]:
    """Packets that were not run, and why."""
    for why, number in skipped.items():
        yield Line(f"  {count(number)} not run: {why}")


def count(number: int) -> str:
    """``1 packet``, ``2,000 packets``."""
    return f"{number:,} packet{'' if number == 1 else 's'}"


def stamp(time_ns: int | None) -> str:
    """A time of day in UTC, with the date: ``2023-11-14 22:13:20.000001000``."""
    if time_ns is None:
        return "-"
    seconds, rest = divmod(time_ns, 1_000_000_000)
    try:
        day = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return str(time_ns)  # a capture may say what it likes
    return f"{day:%Y-%m-%d %H:%M:%S}.{rest:09d}"
