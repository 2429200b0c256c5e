"""What ``netbpf stats`` prints."""

from collections.abc import Iterator
from typing import Any

from netbpf.bpf.btf.values import format_value
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.json_values import member_program_json, program_json
from netbpf.cli.render.ordering import sort_key
from netbpf.errors import NotAttachedError
from netbpf.live.model import Counter, Entry, HookStats, MapValues, MemberStats
from netbpf.live.tables import PROTOCOLS_MAP, VERDICTS_MAP
from netbpf.text import escape

TEXT_ENTRIES = 20  # of each map that people see without --all
ENTRIES = 1000  # of each map that are read without --all


def print_stats(found: list[HookStats], interface: str, *, as_json: bool, everything: bool) -> None:
    """Tables per hook, or ``netbpf.stats/1``. NotAttachedError where nothing is on the interface."""
    if not found:
        raise NotAttachedError(
            f"no XDP or TC program on {escape(interface)}",
            hint="attach one: netbpf attach xdp IFACE OBJECT",
        )
    if as_json:
        print_json(
            "stats", {"hooks": [hook_stats_json(one, everything=everything) for one in found]}
        )
        return
    for index, one in enumerate(found):
        if index:
            say([Line("")])
        say(_hook_lines(one, everything=everything))


# --- JSON ---


def hook_stats_json(one: HookStats, *, everything: bool) -> dict[str, Any]:
    """One hook of ``netbpf.stats/1``."""
    occupant = one.attachment.occupant
    members = {"members": [_member_json(each, one, everything=everything) for each in one.members]}
    return {
        "interface": occupant.interface.name,
        "hook": occupant.hook.value,
        "mode": occupant.mode.value,
        "program": program_json(one.attachment.program),
        "run": {"count": one.run.count, "time_ns": one.run.time_ns} if one.run else None,
        "verdicts": _counters_json(one.verdicts),
        "protocols": _counters_json(one.protocols),
        "variables": {variable.name: variable.value for variable in one.variables},
        "maps": [_map_json(each, everything=everything) for each in one.maps],
        **(members if one.members else {}),
    }


def _member_json(one: MemberStats, hook: HookStats, *, everything: bool) -> dict[str, Any]:
    return {
        "name": one.member.name,
        "program": member_program_json(one.member, hook.attachment.program),
        "verdicts": {name: {"packets": packets} for name, packets in one.verdicts.items()},
        "variables": {variable.name: variable.value for variable in one.variables},
        "maps": [_map_json(each, everything=everything) for each in one.maps],
    }


def _counters_json(counters: dict[str, Counter]) -> dict[str, Any]:
    return {name: {"packets": one.packets, "bytes": one.bytes} for name, one in counters.items()}


def _map_json(one: MapValues, *, everything: bool) -> dict[str, Any]:
    return {
        "name": one.name,
        "id": one.id,
        "type": one.type,
        "max_entries": one.max_entries,
        "total": one.total,
        "entries": [_entry_json(entry, everything=everything) for entry in one.entries],
    }


def _entry_json(entry: Entry, *, everything: bool) -> dict[str, Any]:
    parts = {"per_cpu": list(entry.per_cpu)} if everything and entry.per_cpu else {}
    return {"key": entry.key, "value": entry.value, **parts}


# --- text ---


def _hook_lines(one: HookStats, *, everything: bool) -> Iterator[Line]:
    occupant, program = one.attachment.occupant, one.attachment.program
    head = f"{escape(occupant.interface.name)} {occupant.hook} ({occupant.mode}): "
    head += f"{escape(one.attachment.called)}, program {program.id}"
    if one.run and one.run.count:
        head += f", {one.run.count:,} runs, {one.run.time_ns / one.run.count:.0f} ns each"
    yield Line(head, "bold")
    yield from _counter_lines("verdict", one.verdicts)
    yield from _counter_lines("protocol", one.protocols)
    yield from _held_lines(one, everything=everything)
    for each in one.members:
        packets = f"{each.packets:,} packet{'' if each.packets == 1 else 's'}"
        counts = ", ".join(f"{name} {n:,}" for name, n in each.verdicts.items())
        yield Line(
            f" {escape(each.member.name)}: {packets}{f' ({counts})' if counts else ''}", "bold"
        )
        yield from _held_lines(each, everything=everything)


def _held_lines(one: HookStats | MemberStats, *, everything: bool) -> Iterator[Line]:
    yield from _variable_lines(one)
    for each in one.maps:
        if (
            each.name not in (VERDICTS_MAP, PROTOCOLS_MAP)
            or any(entry.per_cpu for entry in each.entries)
            or isinstance(one, MemberStats)
        ):
            yield from _map_lines(each, None if everything else TEXT_ENTRIES)


def _counter_lines(title: str, counters: dict[str, Counter]) -> list[Line]:
    shown = {name: one for name, one in counters.items() if one.packets}
    if not counters:
        return []
    made = Table(f"  {title}", "packets", "bytes", right=("packets", "bytes"))
    for name, one in (shown or {"(none yet)": Counter(0, 0)}).items():
        made.add_row(f"  {name}", f"{one.packets:,}", f"{one.bytes:,}")
    return made.lines()


def _variable_lines(one: HookStats | MemberStats) -> list[Line]:
    if not one.variables:
        return []
    made = Table("  variable", "type", "section", "value")
    for variable in one.variables:
        made.add_row(
            f"  {escape(variable.name)}",
            escape(variable.type.partition(" {")[0]),
            escape(variable.section) + ("" if variable.writable else " (fixed)"),
            format_value(variable.value),
        )
    return made.lines()


def _map_lines(one: MapValues, most: int | None) -> Iterator[Line]:
    """At most so many entries, in the order of their keys."""
    name = f"  {escape(one.name)} ({one.type}, map {one.id})"
    if not one.readable:
        yield Line(f"{name}: its entries cannot be listed", "dim")
        return
    entries = sorted(one.entries, key=lambda entry: sort_key(entry.key))[:most]
    rest = one.total - len(entries) - one.zeros
    if not one.entries:
        what = f"all {one.zeros:,} entries are zero" if one.zeros else "empty"
        yield Line(f"{name}: {what}", "dim")
        return
    made = Table(name, "value")
    for entry in entries:
        made.add_row(f"    {format_value(entry.key)}", format_value(entry.value))
        for cpu, part in enumerate(entry.per_cpu):
            made.add_row(f"      cpu {cpu}", format_value(part), style="dim")
    yield from made.lines()
    more = [f"{rest:,} more of {one.total:,}; --all shows them"] if rest else []
    more += [f"{one.zeros:,} zero entries not shown"] if one.zeros else []
    if more:
        yield Line(f"    ({'; '.join(more)})", "dim")
