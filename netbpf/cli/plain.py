"""Command lines without options but ``--json``, of commands that look: run without click.

To import click takes 15 ms, a third of what ``netbpf prog`` takes besides Python's own start. Whatever is not written
here word for word goes to click, which says what is wrong with it; what a command does is the same both ways.
"""

from collections.abc import Callable
from functools import partial


def plain(arguments: list[str]) -> Callable[[], None] | None:
    """What to call for a command line; None where click is to look at it."""
    if arguments == ["--version"]:
        return _version
    words = [one for one in arguments if one != "--json"]
    if arguments[:1] != words[:1] or any(one.startswith("-") or not one for one in words):
        return None
    as_json = len(words) < len(arguments)
    if as_json and len(words) > 1 and arguments[1] == "--json" and words[0] != "inspect":
        return None  # an option before a group's command means "list" to click, and the command is too much
    match words:
        case ["prog"] | ["prog", "list"]:
            return partial(_programs, as_json=as_json)
        case ["map"] | ["map", "list"]:
            return partial(_maps, as_json=as_json)
        case ["link"] | ["link", "list"]:
            return partial(_links, as_json=as_json)
        case ["map", "dump", *which] if which:
            return partial(_dump, tuple(which), as_json=as_json)
        case ["inspect", path]:
            return partial(_inspect, path, as_json=as_json)
    return None


def _version() -> None:
    import sys

    from netbpf import __version__

    sys.stdout.write(f"netbpf {__version__}\n")


def _programs(*, as_json: bool) -> None:
    from netbpf.api.inside import programs
    from netbpf.cli.render.prog import print_programs

    print_programs(programs(), as_json=as_json)


def _maps(*, as_json: bool) -> None:
    from netbpf.api.inside import maps
    from netbpf.cli.render.map import print_maps

    print_maps(maps(), as_json=as_json)


def _links(*, as_json: bool) -> None:
    from netbpf.api.inside import links
    from netbpf.cli.render.link import print_links

    print_links(links(), as_json=as_json)


def _dump(which: tuple[str, ...], *, as_json: bool) -> None:
    from netbpf.api.inside import map_entries
    from netbpf.cli.render.entries import print_dump

    with map_entries(which) as found:
        print_dump(found, None, as_json=as_json)


def _inspect(path: str, *, as_json: bool) -> None:
    from netbpf.api.inside import inspect
    from netbpf.cli.render.inspect import print_report

    print_report(inspect(path), as_json=as_json)
