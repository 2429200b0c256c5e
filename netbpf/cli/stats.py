"""``netbpf stats``."""

import click

from netbpf.cli.options import OptionalValueCommand, common_options


@click.command("stats", cls=OptionalValueCommand, short_help="Show counters, variables and maps.")
@click.argument("interface", metavar="IFACE")
@click.option(
    "--watch", "-w", is_flag=False, flag_value=1.0, default=None, type=click.FloatRange(min=0.05),
    metavar="[SECONDS]", help="Show rates, again and again (every second).",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="With --watch: end after N rounds."
)
@click.option(
    "-a", "--all", "everything", is_flag=True, help="Every map entry, and the values of each CPU."
)
@common_options
def stats_command(
    interface: str,
    watch: float | None,
    count: int | None,
    everything: bool,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Show what the programs on an interface counted: runs, verdicts, protocols, global variables, maps.

    Works for any program, whoever attached it. Values have the types of the program's BTF; without BTF they are
    shown in hex. The values of a per-CPU map are sums; --all shows the parts.
    """
    if count is not None and watch is None:
        raise click.UsageError("--count is for --watch")
    from netbpf import api
    from netbpf.cli.render import stats as render
    from netbpf.live.reader import read_hooks

    if watch is not None:
        from netbpf.cli.render.watch import watch_stats
        from netbpf.manager.status import opened

        with opened(netns) as namespace:
            watch_stats(
                lambda: api.status(interface, netns=namespace),
                interface,
                watch,
                count,
                as_json=as_json,
            )
        return
    attachments = api.status(interface, netns=netns)
    limit = None if everything else render.ENTRIES
    found = read_hooks(
        attachments, limit=limit, skip_zeros=not as_json and not everything, parts=everything
    )
    render.print_stats(found, interface, as_json=as_json, everything=everything)
