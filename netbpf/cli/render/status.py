"""What ``netbpf status`` prints."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.json_values import hook_json
from netbpf.model import Attachment, Member, Neighbour, Tap
from netbpf.text import ago, escape

if TYPE_CHECKING:
    from netbpf.manager.autopins import CompanionSet
    from netbpf.manager.loadpins import LoadedSet
    from netbpf.manager.pending_list import Waiting


def print_status(
    found: list[Attachment],
    interface: str | None,
    companions: "list[CompanionSet]",
    loaded: "list[LoadedSet]",
    waiting: "Waiting",
    *,
    as_json: bool,
    all_netns: bool = False,
) -> None:
    """A table with a line per program, in running order, or ``netbpf.status/1``.

    ``companions`` have a table of their own, and so has what is ``loaded`` and held by pins.
    ``waiting`` are changes that wait for their confirmation, and those that went back.
    """
    if as_json:
        auto = [_set_json(one) for one in companions]
        hooks = [hook_json(one) for one in found]
        pinned = _loaded_json(loaded)
        content = {"hooks": hooks, "auto": auto, "loaded": pinned, **_waiting_json(waiting)}
        print_json("status", content)
        return
    _print_hooks(found, interface, all_netns=all_netns)
    if companions:
        from netbpf.cli.render.auto import table

        say([Line(""), *table(companions)])
    if loaded:
        from netbpf.cli.render.load import table as loaded_table

        say([Line(""), *loaded_table(loaded)])
    if any(waiting):
        from netbpf.cli.render.confirm import status_lines

        say([Line(""), *map(Line, status_lines(*waiting))])


def _waiting_json(waiting: "Waiting") -> dict[str, Any]:
    if not any(waiting):
        return {"pending": [], "went_back": []}
    from netbpf.cli.render.confirm import word_json
    from netbpf.cli.render.json_values import pending_json

    return {
        "pending": list(map(pending_json, waiting.pending)),
        "went_back": list(map(word_json, waiting.went_back)),
    }


def _loaded_json(loaded: "list[LoadedSet]") -> list[dict[str, Any]]:
    if not loaded:
        return []
    from netbpf.cli.render.load import set_json

    return [set_json(one) for one in loaded]


def _set_json(one: "CompanionSet") -> dict[str, Any]:
    from netbpf.cli.render.auto import set_json

    return set_json(one)


def _print_hooks(found: list[Attachment], interface: str | None, *, all_netns: bool) -> None:
    if not found:
        where = f" on {escape(interface)}" if interface else ""
        click.echo(f"no XDP or TC program{where}")
        return
    columns = (["NETNS"] if all_netns else []) + [
        "INTERFACE", "HOOK", "MODE", "PROGRAM", "ID", "TAG", "MANAGER", "SINCE", "OBJECT",
    ]  # fmt: skip
    made = Table(*columns, right=("ID",))
    for one in found:
        made.add_row(*([escape(one.netns_name or "-")] if all_netns else []), *_cells(one))
        for position, member in enumerate(one.members if one.is_chain else (), 1):
            made.add_row(*([""] if all_netns else []), *_member_cells(position, member))
        for tap in one.taps:
            made.add_row(*([""] if all_netns else []), *_tap_cells(tap))
        for beside in one.neighbours:
            made.add_row(*([""] if all_netns else []), *_neighbour_cells(beside))
    say(made.lines())
    say(Line(words) for one in found for words in _ended(one, all_netns=all_netns))


def _ended(one: Attachment, *, all_netns: bool) -> Iterator[str]:
    at = one.occupant
    place = f"{escape(one.netns_name)}: " if all_netns and one.netns_name else ""
    for tap in one.taps:
        if tap.name in one.ended:
            yield (
                f"{place}{escape(at.interface.name)} {at.hook}: the capture by process {tap.pid} has ended; "
                "the next netbpf command that changes something takes it off"
            )


def _cells(one: Attachment) -> list[str]:
    occupant, program = one.occupant, one.program
    return [
        escape(occupant.interface.name),
        occupant.hook.value,
        occupant.mode.value + (" link" if occupant.link_id else ""),
        escape(one.called) or "-",
        str(program.id),
        program.tag,
        one.manager or "-",
        ago(since(one)),
        escape(shown_path(one.object.path)) if one.object else "-",
    ]


def _member_cells(position: int, member: Member) -> list[str]:
    age = max(time.time() - member.added_at, 0)
    name = f"  {position}. {escape(member.name)}"
    path = escape(shown_path(member.object.path))
    return ["", "", "", name, "", member.tag, "", ago(age), path]


def _tap_cells(one: Tap) -> list[str]:
    member = f" of {escape(one.member)}" if one.member else ""
    what = escape(one.filter) or "all packets"
    age = ago(max(time.time() - one.since, 0))
    return ["", "", "", f"  capture{member}", "", "", f"pid {one.pid}", age, what]


def _neighbour_cells(one: Neighbour) -> list[str]:
    name = f"  {one.position + 1}. {escape(one.name) or '?'}"
    words = [] if one.priority is None else [f"priority {one.priority}"]
    if one.proceed_on is not None:
        words.append(f"proceeds on {', '.join(one.proceed_on) or 'nothing'}")
    return ["", "", "", name, str(one.prog_id or ""), one.tag, "", "", ", ".join(words)]


def since(one: Attachment) -> float:
    """Seconds since it was attached, where netbpf knows, else since it was loaded."""
    if one.attached_at is not None:
        return max(time.time() - one.attached_at, 0)
    return max(time.clock_gettime(time.CLOCK_BOOTTIME) - one.program.loaded_at_ns / 1e9, 0)


def shown_path(path: str) -> str:
    """A path as short as it can be typed: relative below the current directory, shipped programs by their name."""
    if Path(path).parent.name == "_objects":
        return f"builtin:{Path(path).name.removesuffix('.bpf.o')}"
    try:
        here = os.path.relpath(path)
    except (OSError, ValueError):
        return path
    return path if here.startswith("..") else here
