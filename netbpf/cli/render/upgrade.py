"""What ``netbpf upgrade`` and ``netbpf rollback`` print."""

from collections.abc import Iterator

import click

from netbpf.carry import Action, Item
from netbpf.cli.output import Line, print_json, say
from netbpf.cli.render.json_values import hook_json, pending_json
from netbpf.cli.render.status import shown_path
from netbpf.manager.upgrade import Upgraded
from netbpf.text import escape

_WORDS = {
    Action.CARRIED: ("goes on as it is", "would go on as it is"),
    Action.VARIABLES: ("carried over by name", "would be carried over by name"),
    Action.ENTRIES: ("carried over entry by entry", "would be carried over entry by entry"),
    Action.NEW: ("new", "would be new"),
    Action.RESET: ("started anew", "would start anew"),
    Action.DROPPED: ("not used any more", "would not be used any more"),
}


def print_upgrade(done: Upgraded, *, dry_run: bool, as_json: bool) -> None:
    """What was put in whose place and what came along, or ``netbpf.upgrade/1``."""
    for note in done.notes:
        click.echo(f"netbpf: note: {escape(note)}", err=True)
    if as_json:
        print_json("upgrade", {
            "dry_run": dry_run,
            "member": done.after.name,
            "before": {"path": done.before.object.path, "sha256": done.before.object.sha256},
            "after": {"path": done.after.object.path, "sha256": done.after.object.sha256},
            "maps": [one.as_dict() for one in done.plan.items],
            "merged": [one.as_dict() for one in done.merged],
            "hook": None if dry_run else hook_json(done.attachment),
            "pending": pending_json(done.pending),
        })  # fmt: skip
        return
    say(_lines(done, dry_run=dry_run))
    if done.pending:
        from netbpf.cli.render.confirm import pending_line

        click.echo(pending_line(done.pending))


def _lines(done: Upgraded, *, dry_run: bool) -> Iterator[Line]:
    occupant = done.attachment.occupant
    before, after = (escape(shown_path(one.object.path)) for one in (done.before, done.after))
    program = "" if dry_run else f" (program {done.attachment.program.id})"
    back = done.before.previous == done.after.object
    words = ("would be " if dry_run else "") + ("rolled back" if back else "upgraded")
    yield Line(
        f"{escape(occupant.interface.name)} {occupant.hook}: {escape(done.after.name)} {words} "
        f"from {before} to {after}{program}",
        "bold",
    )
    for item in done.plan.items:
        yield from _item(item, dry_run=dry_run)


def _item(item: Item, *, dry_run: bool) -> Iterator[Line]:
    yield Line(f"  {escape(item.name)}: {_WORDS[item.action][dry_run]}")
    for line in item.lines:
        yield Line(f"    {escape(line)}", "dim")
