"""``netbpf detach``."""

import click

from netbpf.cli.auto import WithAuto
from netbpf.cli.options import (
    common_options,
    confirm_options,
    direction_options,
    hooks_of,
    lock_option,
)


@click.command("detach", cls=WithAuto, short_help="Take a program off its hook.")
@click.argument("words", metavar="[xdp|tc] [IFACE [MEMBER]]", nargs=-1)
@direction_options
@click.option("-a", "--all", "everything", is_flag=True, help="All that match, not just one.")
@click.option(
    "--id", "prog_id", type=click.IntRange(min=1), metavar="ID",
    help="The program with this id, where several run on one hook.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Also what netbpf did not attach.")
@click.option(
    "--ignore-missing", "missing_ok", is_flag=True, help="It is fine if nothing is attached."
)
@confirm_options
@lock_option
@common_options
def detach_command(
    words: tuple[str, ...],
    direction: str | None,
    everything: bool,
    prog_id: int | None,
    force: bool,
    missing_ok: bool,
    confirm: float | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Take a program off its hook, and check that it is gone.

    Only what netbpf attached, unless --force is given. MEMBER takes one program out of a chain. Without arguments:
    the one managed attachment there is; if there are several, they are listed. What vanished with its interface or
    namespace counts as detached.
    """
    from netbpf import api
    from netbpf.cli.render.detach import print_detached

    hooks, (interface, member) = hooks_of(words, direction, 2)
    if force and interface is None:
        raise click.UsageError("--force needs an interface: it removes programs of others")
    found = api.detach(
        interface,
        hooks,
        everything=everything,
        prog_id=prog_id,
        member=member,
        force=force,
        missing_ok=missing_ok,
        netns=netns,
        confirm=confirm,
        lock_timeout=lock_timeout,
    )
    print_detached(found, as_json=as_json)
