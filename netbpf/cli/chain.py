"""``netbpf chain`` and ``netbpf chain set``."""

import click

from netbpf.cli.options import (
    OptionalValueCommand,
    common_options,
    direction_options,
    hooks_of,
    lock_option,
)


@click.command(
    "chain", cls=OptionalValueCommand, short_help="Show or change the members of a hook."
)
@click.argument("words", metavar="[set] [xdp|tc] [IFACE [MEMBER]]", nargs=-1)
@direction_options
@click.option(
    "--priority", type=click.IntRange(0, 65535), metavar="N",
    help="set: the member's new place; lower runs first.",
)  # fmt: skip
@click.option(
    "--proceed-on", metavar="VERDICT,...",
    help="set: the verdicts with which the member hands the packet to the next.",
)  # fmt: skip
@click.option(
    "--watch", "-w", is_flag=False, flag_value=1.0, default=None, type=click.FloatRange(min=0.05),
    metavar="[SECONDS]", help="Show rates, again and again (every second).",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="With --watch: end after N rounds."
)
@lock_option
@common_options
def chain_command(
    words: tuple[str, ...],
    direction: str | None,
    priority: int | None,
    proceed_on: str | None,
    watch: float | None,
    count: int | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Show the programs that netbpf runs on a hook, in order, with the packets each got and its verdicts.

    With `set`, change one while it runs: its counters and maps stay.

    \b
    netbpf chain eth0
    netbpf chain set eth0 acl --priority 10 --proceed-on pass,tx
    """
    from netbpf import api
    from netbpf.cli.render import chain as render

    changing = bool(words) and words[0] == "set"
    hooks, (interface, member) = hooks_of(words[1:] if changing else words, direction, 2)
    if not changing:
        for value, option in ((priority, "--priority"), (proceed_on, "--proceed-on")):
            if value is not None:
                raise click.UsageError(f"{option} is for: netbpf chain set IFACE MEMBER")
        if count is not None and watch is None:
            raise click.UsageError("--count is for --watch")
        show = render.Chains(interface, hooks, member, netns)
        if watch is not None:
            render.watch_chains(show, watch, count, as_json=as_json)
        else:
            render.print_chains(show, as_json=as_json)
        return
    if watch is not None:
        raise click.UsageError("--watch is for: netbpf chain IFACE")
    if interface is None or member is None:
        raise click.UsageError("name the interface and the member: netbpf chain set IFACE MEMBER")
    attachment = api.set_member(
        interface,
        member,
        hooks,
        priority=priority,
        proceed_on=proceed_on.split(",") if proceed_on is not None else None,
        netns=netns,
        lock_timeout=lock_timeout,
    )
    render.print_set(attachment, member, as_json=as_json)
