"""What ``netbpf attach`` prints: a line per interface."""

import click

from netbpf.cli.output import print_json
from netbpf.cli.render.json_values import hook_json, pending_json
from netbpf.errors import ExitCode
from netbpf.manager.request import AttachResult
from netbpf.text import escape


def print_results(results: list[AttachResult], *, as_json: bool) -> int:
    """Print a line per interface, errors to standard error; the exit code of the first error, or 0."""
    failed = [result for result in results if result.error]
    for result in results:
        if result.error:
            hint = f"; {result.error.hint}" if result.error.hint else ""
            click.echo(f"netbpf: error: {escape(result.error.message + hint)}", err=True)
        elif not as_json:
            click.echo(_line(result))
        for note in result.notes:
            click.echo(f"netbpf: note: {note}", err=True)
    pending = next((one.pending for one in results if one.pending), None)
    if pending and not as_json:
        from netbpf.cli.render.confirm import pending_line

        click.echo(pending_line(pending))
    if as_json:
        print_json("attach", {
            "hooks": [
                hook_json(result.attachment) | {"replaced": result.replaced}
                for result in results if result.attachment
            ],
            "errors": [
                {
                    "interface": result.interface.name, "code": int(result.error.exit_code),
                    "type": type(result.error).__name__, "message": result.error.message, "hint": result.error.hint,
                }
                for result in failed if result.error
            ],
            "pending": pending_json(pending),
        })  # fmt: skip
    first = failed[0].error if failed else None
    return int(first.exit_code) if first else int(ExitCode.OK)


def _line(result: AttachResult) -> str:
    assert result.attachment is not None
    attachment = result.attachment
    occupant, program = attachment.occupant, attachment.program
    how = f"{occupant.mode}, link {occupant.link_id}" if occupant.link_id else occupant.mode.value
    instead = f", replaces program {result.replaced}" if result.replaced else ""
    where = f"{escape(occupant.interface.name)} {occupant.hook}"
    if not attachment.is_chain:
        return f"{where}: {escape(program.name)} attached ({how}, program {program.id}{instead})"
    names = [one.name for one in attachment.members]
    added = ", ".join(
        f"{escape(name)} {_th(names.index(name) + 1)}" for name in names if name in result.added
    )
    return f"{where}: {added} of {len(names)} members ({how}, program {program.id})"


def _th(number: int) -> str:
    """``1st``, ``2nd``, ``11th``."""
    ending = (
        {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        if number % 100 not in (11, 12, 13)
        else "th"
    )
    return f"{number}{ending}"
