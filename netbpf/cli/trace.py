"""``netbpf trace``."""

import click

from netbpf.cli.options import common_options


@click.command("trace", short_help="Show what programs print with bpf_printk().")
@click.argument("interface", metavar="[IFACE]", required=False)
@click.option(
    "--program",
    metavar="ID|NAME",
    help="Only this program: its id or name, a function of it, or a member of a chain.",
)
@click.option("-c", "--count", type=click.IntRange(min=1), metavar="N", help="End after N lines.")
@common_options
def trace_command(
    interface: str | None,
    program: str | None,
    count: int | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Show what programs print with bpf_printk(), until Ctrl-C: of all programs, or of those on an interface.

    Each line comes with the program, function and source line that printed it, and the hooks the program is on. No line
    is taken from other readers of trace_pipe, and nothing has to be mounted. -v shows task and CPU too.

    \b
    netbpf trace
    netbpf trace eth0 --program acl --json
    """
    from netbpf import api
    from netbpf.cli.render.trace import show_trace

    with api.trace(interface, program=program, netns=netns) as found:
        show_trace(found, count, as_json=as_json, verbose=verbose)
