"""``netbpf get`` and ``netbpf set``."""

from typing import TYPE_CHECKING

import click

from netbpf.cli.options import common_options
from netbpf.constants import Hook
from netbpf.model import Attachment

if TYPE_CHECKING:
    from netbpf.bpf.btf.values import Value

hook_option = click.option(
    "--hook",
    type=click.Choice([hook.value for hook in Hook]),
    help="Only the programs on this hook.",
)


def _attachments(interface: str, hook: str | None, netns: str | None) -> list[Attachment]:
    from netbpf import api

    return [
        one for one in api.status(interface, netns=netns) if hook in (None, one.occupant.hook.value)
    ]


@click.command("get", short_help="Print variables or map entries.")
@click.argument("interface", metavar="IFACE")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@hook_option
@common_options
def get_command(
    interface: str,
    names: tuple[str, ...],
    hook: str | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Print global variables or map entries of the programs on an interface.

    \b
    netbpf get eth0 packets                 a variable
    netbpf get eth0 cfg.port 'ports[2]'     parts of variables
    netbpf get eth0 'rules[10.0.0.0/8]'     a map entry
    netbpf get eth0 rules                   a whole map
    netbpf get eth0 xdp_count.verdict       of one program, if several have it
    """
    from netbpf.bpf.btf.values import format_value
    from netbpf.cli.output import print_json
    from netbpf.live.access import Access
    from netbpf.text import escape

    with Access(_attachments(interface, hook, netns), interface) as access:
        values = {name: access.get(name) for name in names}
        maps = {name for name in names if access.is_map(name)}
    if as_json:
        print_json("get", {"variables": values})
        return
    for name, value in values.items():
        if name in maps:
            _print_entries(name, value)
        elif len(values) == 1:
            click.echo(format_value(value))
        else:
            click.echo(f"{escape(name)} = {format_value(value)}")


def _print_entries(name: str, value: "Value") -> None:
    """A whole map, an entry a line, each as ``set`` takes it."""
    from netbpf.bpf.btf.values import format_value
    from netbpf.cli.render.ordering import in_order
    from netbpf.text import escape

    assert isinstance(value, list)
    pairs = [(entry["key"], entry["value"]) for entry in value if isinstance(entry, dict)]
    for key, content in in_order(pairs):
        click.echo(f"{escape(name)}[{format_value(key)}] = {format_value(content)}")
    if not pairs:
        click.echo(f"{escape(name)} is empty", err=True)


@click.command("set", short_help="Write variables or map entries.")
@click.argument("interface", metavar="IFACE")
@click.argument("changes", metavar="NAME=VALUE...", nargs=-1, required=True)
@hook_option
@common_options
def set_command(
    interface: str,
    changes: tuple[str, ...],
    hook: str | None,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Write global variables or map entries while the program runs. All are checked before the first is written.

    \b
    netbpf set eth0 limit=5 'ports[2]=80'
    netbpf set eth0 'src4[10.0.0.0/8]={action: drop, rule: 7}'
    """
    from netbpf.bpf.btf.path import parse_assignment
    from netbpf.bpf.btf.values import format_value
    from netbpf.cli.output import print_json
    from netbpf.live.access import Access
    from netbpf.text import escape

    with Access(_attachments(interface, hook, netns), interface) as access:
        access.set(changes)
        names = [str(parse_assignment(change).path) for change in changes]
        values = {name: access.get(name) for name in names}
    if as_json:
        print_json("set", {"variables": values})
        return
    for name, value in values.items():
        click.echo(f"{escape(name)} = {format_value(value)}")
