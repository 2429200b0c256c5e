"""``netbpf link``."""

import click

from netbpf.cli.groups import Group
from netbpf.cli.options import json_option


@click.group("link", cls=Group, short_help="Links of the kernel.")
def link_command() -> None:
    """List the links that the kernel has: what holds programs on their hooks, whoever made it."""


@link_command.command("list", short_help="All links, or one.")
@click.argument("which", metavar="[ID|PIN]", nargs=-1)
@click.option(
    "-a", "--all-netns", is_flag=True, help="Interfaces of all network namespaces, not only of this one."
)  # fmt: skip
@json_option
def list_command(which: tuple[str, ...], all_netns: bool, as_json: bool) -> None:
    """List links: type, program, what they are on, and who holds them."""
    from netbpf import api
    from netbpf.cli.render.link import print_links

    print_links(api.links(which or None, all_netns=all_netns), as_json=as_json)
