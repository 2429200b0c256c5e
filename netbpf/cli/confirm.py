"""``netbpf confirm``."""

import click

from netbpf.cli.options import common_options, direction_options, hooks_of, lock_option


@click.command("confirm", short_help="Keep a change that waits for its confirmation.")
@click.argument("words", metavar="[IFACE [xdp|tc]]", nargs=-1)
@direction_options
@click.option("-a", "--all", "everything", is_flag=True, help="All that match, not just one.")
@click.option("--undo", is_flag=True, help="Go back now instead.")
@lock_option
@common_options
def confirm_command(
    words: tuple[str, ...],
    direction: str | None,
    everything: bool,
    undo: bool,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Keep what attach, detach or upgrade did with --confirm, or go back now with --undo.

    Without arguments: the one change that waits; if there are several, they are listed. A command that changed
    several interfaces is confirmed as a whole.

    \b
    netbpf attach xdp eth0 acl.o --confirm 30s
    netbpf confirm
    """
    from netbpf import api
    from netbpf.cli.render.confirm import print_confirmed

    # The kind may stand behind the interface, as people think of it, or before, as in other commands.
    kinds = [word for word in words[1:] if word in ("xdp", "tc")]
    if kinds and words[0] not in ("xdp", "tc"):
        rest = list(words)
        rest.remove(kinds[0])
        words = (kinds[0], *rest)
    hooks, (interface,) = hooks_of(words, direction, 1)
    found = api.confirm(
        interface, hooks, everything=everything, undo=undo, netns=netns, lock_timeout=lock_timeout
    )
    print_confirmed(found, as_json=as_json)
