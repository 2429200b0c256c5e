"""``netbpf detach``."""

import click

from netbpf.cli.options import common_options, direction_options, lock_option
from netbpf.constants import Hook


@click.command("detach", short_help="Take a program off its hook.")
@click.argument("words", metavar="[xdp|tc] [IFACE]", nargs=-1)
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
@lock_option
@common_options
def detach_command(
    words: tuple[str, ...],
    direction: str | None,
    everything: bool,
    prog_id: int | None,
    force: bool,
    missing_ok: bool,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Take a program off its hook, and check that it is gone.

    Only what netbpf attached, unless --force is given. Without arguments: the one managed attachment there is;
    if there are several, they are listed. What vanished with its interface or namespace counts as detached.
    """
    from netbpf import api
    from netbpf.cli.render.detach import print_detached

    hooks, interface = _meant(words, direction)
    if force and interface is None:
        raise click.UsageError("--force needs an interface: it removes programs of others")
    found = api.detach(
        interface,
        hooks,
        everything=everything,
        prog_id=prog_id,
        force=force,
        missing_ok=missing_ok,
        netns=netns,
        lock_timeout=lock_timeout,
    )
    print_detached(found, as_json=as_json)


def _meant(words: tuple[str, ...], direction: str | None) -> tuple[tuple[Hook, ...], str | None]:
    """Hooks and interface of ``[xdp|tc] [IFACE]``."""
    kind, rest = (words[0], words[1:]) if words and words[0] in ("xdp", "tc") else (None, words)
    if len(rest) > 1:
        raise click.UsageError(f"too many arguments: {' '.join(rest[1:])}")
    if kind == "xdp" and direction:
        raise click.UsageError(f"--{direction} is for tc")
    interface = rest[0] if rest else None
    if kind == "xdp":
        return (Hook.XDP,), interface
    if direction:
        return (Hook.TC_EGRESS if direction == "egress" else Hook.TC_INGRESS,), interface
    tc = (Hook.TC_INGRESS, Hook.TC_EGRESS)
    return (tc if kind == "tc" else (Hook.XDP, *tc)), interface
