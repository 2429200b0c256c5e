"""``netbpf status``."""

import click

from netbpf.cli.options import common_options


@click.command("status", short_help="Show what runs on which hook.")
@click.argument("interface", metavar="[IFACE]", required=False)
@click.option(
    "-A", "--all-netns", is_flag=True, help="Every network namespace with a name or a process."
)
@common_options
def status_command(
    interface: str | None, all_netns: bool, as_json: bool, netns: str | None, verbose: bool
) -> None:
    """Show every XDP, clsact and TCX program.

    Where it runs and in which mode, since when, from which object, and who put it there. Without IFACE also what
    netbpf attach auto has attached elsewhere, and what netbpf load has loaded. Below it: changes that wait for netbpf
    confirm, and those that went back within a day.
    """
    if all_netns and netns:
        raise click.UsageError("--all-netns and --netns contradict each other")
    from netbpf import api
    from netbpf.cli.render.status import print_status

    found = api.status(interface, netns=netns, all_netns=all_netns)
    # Companions are on no interface.
    companions = api.companions() if interface is None else []
    loaded = api.loaded() if interface is None else []
    waiting = api.pending(interface, netns=netns, all_netns=all_netns)
    print_status(
        found, interface, companions, loaded, waiting, as_json=as_json, all_netns=all_netns
    )
