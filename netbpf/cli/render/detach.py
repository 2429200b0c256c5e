"""What ``netbpf detach`` prints."""

import click

from netbpf.cli.output import print_json
from netbpf.cli.render.json_values import pending_json
from netbpf.manager.detach import Detached
from netbpf.text import escape


def print_detached(found: list[Detached], *, as_json: bool) -> None:
    """A line per attachment, or ``netbpf.detach/1``."""
    pending = next((one.pending for one in found if one.pending), None)
    if as_json:
        print_json("detach", {
            "hooks": [
                {
                    "interface": one.interface,
                    "hook": one.hook.value,
                    "program": {"id": one.prog_id, "name": one.program},
                    "gone": one.gone,
                    "left": list(one.left),
                }
                for one in found
            ],
            "pending": pending_json(pending),
        })  # fmt: skip
        return
    for one in found:
        end = f"nothing to detach: {one.gone}" if one.gone else "detached"
        if one.left:
            names = ", ".join(map(escape, one.left))
            click.echo(
                f"{escape(one.interface)} {one.hook}: {escape(one.program)} taken out; {names} "
                f"{'runs' if len(one.left) == 1 else 'run'} on"
            )
            continue
        click.echo(
            f"{escape(one.interface)} {one.hook}: {escape(one.program)} {end} (program {one.prog_id})"
        )
    if pending:
        from netbpf.cli.render.confirm import pending_line

        click.echo(pending_line(pending))
    if not found:
        click.echo("nothing is attached")
