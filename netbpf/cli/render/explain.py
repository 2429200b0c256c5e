"""What ``netbpf explain`` prints."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from netbpf.bpf.btf.values import format_value
from netbpf.bpf.cover.trace import Step
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.replay import count, skipped_lines
from netbpf.cli.render.run import change_lines, run_json
from netbpf.packets.replay_headers import summary
from netbpf.packets.walk_model import (
    Decision,
    HookWalk,
    MapTouch,
    MemberWalk,
    PacketWalk,
    WalkGroup,
    WalkResult,
)
from netbpf.packets.walk_tell import place
from netbpf.packets.walk_words import because
from netbpf.text import escape

_FIRST, _LAST = 10, 30  # lines of a program that people see
_NUMBERS = 10  # packets of a group whose numbers people see
_VERBS: Final = {"redirect": "redirect to", "tail call": "tail call to"}


def print_explain(
    result: WalkResult, *, as_json: bool, verbose: bool = False, one: bool = False
) -> None:
    """The way of a packet, or the ways of many; or ``netbpf.explain/1``. ``one``: a single packet was asked for."""
    if as_json:
        print_json("explain", _json(result))
        return
    say(_lines(result, verbose=verbose, one=one))


# --- JSON ---


def _json(result: WalkResult) -> dict[str, Any]:
    return {
        "interface": result.interface,
        "hooks": [{"hook": hook, "members": list(names)} for hook, names in result.hooks],
        "packets": result.packets,
        "groups": [_group_json(one) for one in result.groups],
        "skipped": result.skipped,
        "notes": list(result.notes),
        "warnings": list(result.warnings),
    }


def _group_json(group: WalkGroup) -> dict[str, Any]:
    first = group.first
    return {
        "packets": group.packets,
        "numbers": list(group.numbers),
        "verdict": first.verdict,
        "sentence": first.sentence,
        "summary": summary(first.packet),
        "packet": first.packet.hex(),
        "hooks": [
            {
                "hook": one.hook,
                "verdict": one.verdict,
                "members": [_member_json(each) for each in one.members],
                "missed": list(one.missed),
            }
            for one in first.hooks
        ],
    }


def _member_json(one: MemberWalk) -> dict[str, Any]:
    found: dict[str, Any] = {"member": one.name, "program": one.program, "object": one.object}
    if one.run is None:
        return {**found, "refused": one.refused}
    run = run_json(one.run, one.run.notes)
    for name in ("program", "object", "hook", "ns_per_run", "runs"):
        del run[name]
    return {
        **found,
        "goes_on": one.goes_on,
        **run,
        "not_compared": list(one.run.changes.large),
        "decided": _step_json(one.decided),
        "lines": [_step_json(each) for each in one.steps],
        "lost": one.lost,
        "branches": [_decision_json(each) for each in one.decisions],
        "asked": [_touch_json(each) for each in one.touches],
    }


def _step_json(one: Step | None) -> dict[str, Any] | None:
    if one is None:
        return None
    source = one.source
    return {
        "program": one.program, "function": one.function, "file": source.file, "line": source.line,
        "column": source.column, "text": source.text.strip(),
    }  # fmt: skip


def _decision_json(one: Decision) -> dict[str, Any]:
    found: dict[str, Any] = {
        "at": _step_json(one.step),
        "onward": _step_json(one.onward),
        "taken": one.taken,
        "instruction": one.instruction,
        "because": because(one),
    }
    if one.compared:
        found["compared"] = one.compared._asdict()
    return found


def _touch_json(one: MapTouch) -> dict[str, Any]:
    return {
        "map": one.map, "type": one.type, "does": one.does, "key": one.key, "outcome": one.outcome,
        "value": one.value, "at": _step_json(one.step),
    }  # fmt: skip


# --- text ---


def _lines(result: WalkResult, *, verbose: bool, one: bool) -> Iterator[Line]:
    if one and result.groups:
        yield from _packet_lines(result, result.groups[0].first, verbose=verbose)
        return
    ways = "one way" if len(result.groups) == 1 else f"{len(result.groups):,} ways"
    hooks = "; ".join(
        f"{hook}, {len(names)} member{'s' if len(names) > 1 else ''}"
        for hook, names in result.hooks
    )
    yield Line(f"{escape(result.interface)} {hooks}: {count(result.packets)}, {ways}", "bold")
    for group in result.groups:
        yield from _group_lines(result, group, verbose=verbose)
    yield from skipped_lines(result.skipped)


def _group_lines(result: WalkResult, group: WalkGroup, *, verbose: bool) -> Iterator[Line]:
    first = group.first
    yield Line(f"  {count(group.packets)}: {first.verdict or 'not to be told'}", "bold")
    yield Line(f"    {first.sentence}")
    way = [
        f"{escape(each.name)} {each.verdict or '?'}"
        for hook in first.hooks
        for each in hook.members
    ]
    yield Line(f"    {', '.join(way)}")
    more = ", ..." if group.packets > _NUMBERS else ""
    numbers = ", ".join(f"#{one}" for one in group.numbers[:_NUMBERS])
    yield Line(f"    {numbers}{more}; the first: {summary(first.packet)}", "dim")
    if verbose:
        yield from (
            Line(f"    {text}", style)
            for text, style in _packet_lines(result, first, verbose=verbose)
        )


def _packet_lines(result: WalkResult, one: PacketWalk, *, verbose: bool) -> Iterator[Line]:
    for hook in one.hooks:
        yield from _hook_lines(result, hook, verbose=verbose)
    yield Line(one.sentence, "bold")


def _hook_lines(result: WalkResult, hook: HookWalk, *, verbose: bool) -> Iterator[Line]:
    total = len(hook.members) + len(hook.missed)
    first = hook.members[0]
    size = f", {len(first.run.before)} bytes" if first.run else ""
    of = f", {len(hook.members)} of {total} members" if total > 1 else ""
    verdict = hook.verdict or "not to be told"
    yield Line(f"{escape(result.interface)} {hook.hook}: {verdict}{size}{of}", "bold")
    for number, member in enumerate(hook.members, 1):
        yield from _member_lines(number, member, verbose=verbose)
    if hook.missed:
        yield Line(f"  it did not come to {', '.join(escape(name) for name in hook.missed)}")


def _member_lines(number: int, one: MemberWalk, *, verbose: bool) -> Iterator[Line]:
    if one.run is None:
        yield Line(f"  {number}. {escape(one.name)}: cannot be run: {one.refused}", "bold")
        return
    fate = ", handed on" if one.goes_on else ""
    yield Line(f"  {number}. {escape(one.name)}: {one.verdict}{fate}", "bold")
    for text, style in change_lines(one.run, verbose=verbose):
        yield Line(f"   {text}", style)
    if one.run.changes.large:
        names = ", ".join(escape(name) for name in one.run.changes.large)
        yield Line(f"     not compared, because there is too much in it: {names}", "dim")
    yield from _touch_lines(one.touches)
    yield from _step_lines(one, verbose=verbose)


def _touch_lines(touches: Sequence[MapTouch]) -> Iterator[Line]:
    if not touches:
        return
    made = Table("     asked of maps", "outcome", "line")
    for one in touches:
        key = f"[{one.shown}]" if one.shown else ""
        name = escape(one.map) or "a map that the code does not name"
        outcome = one.outcome
        if one.value is not None:
            outcome += f": {format_value(one.value)}"
        made.add_row(
            f"       {_VERBS.get(one.does, one.does)} {name}{key}", outcome, _where(one.step)
        )
    yield from made.lines()


def _where(step: Step | None) -> str:
    if step is None:
        return ""
    return f"{escape(step.source.file.rpartition('/')[2])}:{step.source.line}"


def _step_lines(one: MemberWalk, *, verbose: bool) -> Iterator[Line]:
    if not one.steps:
        yield Line("     no lines: its object has none (compiled without -g)", "dim")
        return
    made = Table("     line", "source")
    rows = list(_rows(one))
    hidden = 0 if verbose else len(rows) - _FIRST - _LAST
    if one.lost:
        made.add_row("       ...", f"({one.lost:,} branches before are lost)")
    for number, (where, text) in enumerate(rows):
        if hidden > 0 and number == _FIRST:
            made.add_row("       ...", f"({hidden:,} more; -v shows all)")
        if hidden <= 0 or not _FIRST <= number < _FIRST + hidden:
            made.add_row(f"       {where}", text)
    yield from made.lines()


def _rows(one: MemberWalk) -> Iterator[tuple[str, str]]:
    """The lines with what was compared on them, in the order in which they ran."""
    waiting = [each for each in one.decisions if each.step]
    at = 0
    program = one.program
    for step in one.steps:
        if step.program != program:
            program = step.program
            yield "", f"in {escape(program)}:"
        said = []
        while at < len(waiting):
            other = waiting[at].step
            if other is None or place(other) != place(step):
                break
            if waiting[at].compared and (words := because(waiting[at])):
                said.append(words)
            at += 1
        text = " ".join(step.source.text.split())
        why = f"  ({'; '.join(dict.fromkeys(said))})" if said else ""
        yield _where(step), escape(text) + why
