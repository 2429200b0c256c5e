"""``netbpf monitor``."""

from typing import TYPE_CHECKING

import click

from netbpf.cli.options import common_options

if TYPE_CHECKING:
    from netbpf.listen.monitor import Drops


@click.command("monitor", short_help="Show what goes wrong, as it does.")
@click.argument("interface", metavar="[IFACE]", required=False)
@click.option(
    "-A", "--all-netns", is_flag=True, help="Every network namespace with a name or a process."
)
@click.option(
    "--drops", type=click.Choice(["programs", "all", "none"]), default="programs", show_default=True,
    help="Packets that the kernel drops: of interfaces with a program, of all, or none.",
)  # fmt: skip
@click.option(
    "--interval", type=click.FloatRange(min=0.05), default=1.0, show_default=True, metavar="SECONDS",
    help="How often to look.",
)  # fmt: skip
@click.option(
    "-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after N events or more."
)
@click.option(
    "--duration", type=click.FloatRange(min=0.05), metavar="SECONDS", help="End after this time."
)
@common_options
def monitor_command(
    interface: str | None,
    all_netns: bool,
    drops: "Drops",
    interval: float,
    count: int | None,
    duration: float | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Show XDP exceptions, failed redirects, packets that could not be sent, and drops by reason.

    Each with its interface and program, what it means and what to do about it. Whatever happens often is one line
    with a count, and counts are exact. Ctrl-C ends it with a summary; --json prints one object per line.
    """
    from netbpf import api
    from netbpf.cli.render.monitor import watch

    with api.monitor(interface, netns=netns, all_netns=all_netns, drops=drops) as watching:
        watch(watching, interval, count, duration, as_json=as_json)
