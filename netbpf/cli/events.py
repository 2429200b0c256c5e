"""``netbpf events``."""

import click

from netbpf.cli.options import common_options


@click.command("events", short_help="Show what programs report, as it comes.")
@click.argument("where", metavar="IFACE|ID|PIN")
@click.argument("names", metavar="[MAP]...", nargs=-1)
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option(
    "--type",
    "types",
    metavar="[MAP=]NAME",
    multiple=True,
    help="The type of the records: a struct of the program's BTF.",
)
@click.option("--hex", "as_hex", is_flag=True, help="Do not decode: bytes in hex.")
@click.option(
    "--take",
    is_flag=True,
    help="Take the records though another process reads them; it will miss them.",
)
@click.option(
    "--scale",
    type=click.Choice(["bcc", "log2", "linear"]),
    help="Histograms: which numbers slot N stands for.",
)
@click.option(
    "--every",
    type=click.FloatRange(min=0.05),
    metavar="SECONDS",
    help="Histograms: draw again and again.",
)
@common_options
def events_command(
    where: str,
    names: tuple[str, ...],
    count: int | None,
    types: tuple[str, ...],
    as_hex: bool,
    take: bool,
    scale: str | None,
    every: float | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Show the records of ring buffers and perf buffers as they come, until Ctrl-C; or draw a map that is a histogram.

    Of all such buffers of the programs on an interface, or of the MAPs; of members of chains as MEMBER.MAP. Or of one
    map by its id or the path of its pin.

    A record's type is the one of --type, else the one that the map's definition names in the program's BTF
    (__type(value, struct event)), else the only struct of the record's size. Otherwise it is shown in hex. Which it is,
    and what was lost, stands on standard error.

    \b
    netbpf events eth0
    netbpf events eth0 acl.events --json | jq .value.src
    netbpf events eth0 latency --scale linear
    """
    if as_hex and types:
        raise click.UsageError("--hex and --type cannot both be meant")
    from netbpf.cli.render import events as render
    from netbpf.listen.buffers import find
    from netbpf.listen.events import Events

    with find(where, names, netns=netns) as found:
        if any(one.kind for one in found):
            if scale or every:
                raise click.UsageError("--scale and --every are for histograms")
            with Events(found, types=types, take=take) as events:
                render.show_events(events, count, as_json=as_json, as_hex=as_hex)
        else:
            if types or as_hex or take:
                raise click.UsageError(
                    "a map with entries is drawn as a histogram: no --type, --hex, --take"
                )
            render.show_histograms(found, scale, every, count, as_json=as_json)
