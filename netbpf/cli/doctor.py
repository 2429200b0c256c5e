"""``netbpf doctor``."""

import click

from netbpf.cli.options import common_options


@click.command("doctor", short_help="Check the host and an interface.")
@click.argument("interface", metavar="[IFACE]", required=False)
@click.option(
    "--repair", is_flag=True, help="First clear away what interrupted runs of netbpf left."
)
@common_options
def doctor_command(
    interface: str | None, repair: bool, as_json: bool, netns: str | None, verbose: bool
) -> int:
    """Check what XDP and TC programs need: kernel, rights, settings, compilers, netbpf's own state, one interface.

    Each line is ok, a warning or a problem, with the command that fixes it where there is one. Nothing is changed
    without --repair. Exit code 5 where there is a problem, 0 for warnings.

    \b
    netbpf doctor
    netbpf doctor eth0
    """
    from netbpf import api
    from netbpf.cli.progress import patience
    from netbpf.cli.render.doctor import print_report

    with patience("looking at this host"):
        found = api.doctor(interface, netns=netns, repair=repair)
    return print_report(found, as_json=as_json)
