"""``netbpf map``."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from netbpf.cli.groups import Group, ValuesCommand
from netbpf.cli.options import json_option

_Command = TypeVar("_Command", bound=Callable[..., Any])

_all_netns = click.option(
    "-a", "--all-netns", is_flag=True, help="Interfaces of all network namespaces, not only of this one."
)  # fmt: skip
_which = click.argument("which", metavar="ID|NAME|PIN", nargs=-1, required=True)


@click.group("map", cls=Group, short_help="Maps of the kernel.")
def map_command() -> None:
    """List and show the maps that the kernel has, whoever made them, and read and write them.

    A map is named by its id, name or the path of a pin.
    """


@map_command.command("list", short_help="All maps.")
@_all_netns
@json_option
def list_command(all_netns: bool, as_json: bool) -> None:
    """List all maps: type, sizes, the programs that use them and who holds them."""
    from netbpf import api
    from netbpf.cli.render.map import print_maps

    print_maps(api.maps(all_netns=all_netns), as_json=as_json)


@map_command.command("show", short_help="Maps by id, name or pin.")
@_which
@_all_netns
@json_option
def show_command(which: tuple[str, ...], all_netns: bool, as_json: bool) -> None:
    """Show everything about the maps of an id, name or pin, except their entries."""
    from netbpf import api
    from netbpf.cli.render.map import print_maps

    print_maps(api.maps(which, all_netns=all_netns), as_json=as_json, detail=True)


_one = click.argument("which", metavar="MAP")


def _words(metavar: str) -> Callable[[_Command], _Command]:
    return click.argument("words", metavar=metavar, nargs=-1, required=True)


def _taken(words: tuple[str, ...], *wanted: str) -> tuple[tuple[str, ...], list[str]]:
    """The map, which may have bpftool's word before it (``name 17``), and what follows. UsageError for more or less."""
    count = 2 if len(words) == len(wanted) + 2 and words[0] in ("id", "name", "pinned") else 1
    rest = list(words[count:])
    if len(rest) < len(wanted):
        raise click.UsageError(f"Missing argument {wanted[len(rest)]!r}.")
    if len(rest) > len(wanted):
        raise click.UsageError(f"Got unexpected extra argument ({rest[len(wanted)]})")
    return words[:count], rest


@map_command.command("dump", short_help="All entries of a map.")
@_which
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many entries.")
@json_option
def dump_command(which: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """Print all entries of one map, as they come, with the types of its BTF; without BTF in hex.

    The value of a per-CPU map is the sum; with --json the values of each CPU stand beside it.
    """
    from netbpf import api
    from netbpf.cli.render import entries as render

    with api.map_entries(which) as found:
        render.print_dump(found, limit, as_json=as_json)


@map_command.command("lookup", cls=ValuesCommand, short_help="One entry.")
@_words("MAP KEY")
@json_option
def lookup_command(words: tuple[str, ...], as_json: bool) -> None:
    """Print the entry of a key, which is written as its type has it: 53, 10.0.0.1, '{src: 10.0.0.1, port: 53}'."""
    from netbpf import api
    from netbpf.cli.render import entries as render

    which, (key,) = _taken(words, "KEY")
    with api.map_entries(which) as found:
        render.print_entry(found, found.lookup(key), as_json=as_json)


@map_command.command("update", cls=ValuesCommand, short_help="Write an entry.")
@_words("MAP KEY VALUE")
@click.option("--new", is_flag=True, help="Only if there is no such entry.")
@click.option("--existing", is_flag=True, help="Only if there is such an entry.")
@json_option
def update_command(words: tuple[str, ...], new: bool, existing: bool, as_json: bool) -> None:
    """Write an entry; members of a struct that VALUE does not mention keep what they have.

    A per-CPU map takes a list with a value for each CPU, or all:VALUE.

    \b
    netbpf map update rules '{src: 10.0.0.0/8}' drop
    """
    if new and existing:
        raise click.UsageError("--new and --existing cannot both be meant")
    from netbpf import api
    from netbpf.cli.render import entries as render
    from netbpf.insight.entries import ANY, EXIST, NOEXIST

    which, (key, value) = _taken(words, "KEY", "VALUE")
    with api.map_entries(which) as found:
        found.update(key, value, NOEXIST if new else EXIST if existing else ANY)
        if as_json:
            render.print_entry(found, found.lookup(key), as_json=True)


@map_command.command("delete", cls=ValuesCommand, short_help="Remove an entry.")
@_words("MAP KEY")
@json_option
def delete_command(words: tuple[str, ...], as_json: bool) -> None:
    """Remove the entry of a key."""
    from netbpf import api
    from netbpf.cli.render import entries as render

    which, (key,) = _taken(words, "KEY")
    with api.map_entries(which) as found:
        found.delete(key)
        if as_json:
            render.print_deleted(found, key)


@map_command.command("pin", short_help="Give a map a name in a bpffs.")
@_one
@click.argument("path")
@json_option
def pin_command(which: str, path: str, as_json: bool) -> None:
    """Give a map a name in a bpffs, by which it stays when its programs are gone. rm takes the name away."""
    from netbpf import api
    from netbpf.cli.output import print_json

    place = api.pin_map(which, path)
    if as_json:
        print_json("map_pin", {"pinned": str(place)})
