"""What ``attach auto``, ``detach auto`` and ``status`` print of programs that are on no interface."""

import time
from typing import Any

import click

from netbpf.cli.output import Line, Table, print_json
from netbpf.cli.render.json_values import program_json
from netbpf.manager.autopins import Companion, CompanionSet
from netbpf.manager.companions import AutoResult
from netbpf.text import ago, escape

_UNKNOWN = "-"


def print_attached(result: AutoResult, *, as_json: bool) -> None:
    """A line per program, or ``netbpf.attach/1`` with the key ``auto``."""
    for note in result.notes:
        click.echo(f"netbpf: note: {note}", err=True)
    if as_json:
        print_json("attach", {"hooks": [], "errors": [], "auto": [set_json(result.attached)]})
        return
    for one in result.attached.programs:
        how = f"link {one.link_id}, " if one.link_id else ""
        what = "attached" if one.link_id else f"waits at {one.pin} for who attaches it"
        click.echo(f"{_hook(one)}: {escape(one.name)} {what} ({how}program {one.program.id})")


def print_detached(found: list[CompanionSet], *, as_json: bool) -> None:
    """A line per program, or ``netbpf.detach/1`` with the key ``auto``."""
    if as_json:
        print_json("detach", {"hooks": [], "auto": [set_json(one) for one in found]})
        return
    for group in found:
        for one in group.programs:
            what = "nothing to detach: what it was on is gone" if one.gone else "detached"
            click.echo(f"{_hook(one)}: {escape(one.name)} {what} (program {one.program.id})")
    if not found:
        click.echo("nothing is attached")


def set_json(one: CompanionSet) -> dict[str, Any]:
    """One set of ``netbpf.status/1``."""
    return {
        "number": one.number,
        "object": {"path": one.object.path, "sha256": one.object.sha256} if one.object else None,
        "attached_at": one.attached_at,
        "programs": [
            {
                "name": member.name,
                "section": member.section,
                "hook": member.hook,
                "link_id": member.link_id or None,
                "gone": member.gone,
                "pin": str(member.pin),
                "program": program_json(member.program),
            }
            for member in one.programs
        ],
    }


def table(found: list[CompanionSet]) -> list[Line]:
    """The lines for ``status``: a program each."""
    from netbpf.cli.render.status import shown_path

    made = Table("AUTO", "HOOK", "PROGRAM", "ID", "TAG", "SINCE", "OBJECT", right=("AUTO", "ID"))
    for group in found:
        since = max(time.time() - group.attached_at, 0) if group.attached_at is not None else None
        for one in group.programs:
            made.add_row(
                str(group.number),
                _hook(one) + (" (gone)" if one.gone else ""),
                escape(one.name),
                str(one.program.id),
                one.program.tag,
                _UNKNOWN if since is None else ago(since),
                escape(shown_path(group.object.path)) if group.object else _UNKNOWN,
            )
    return made.lines()


def _hook(one: Companion) -> str:
    return escape(one.hook) or _UNKNOWN
