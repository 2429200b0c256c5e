"""``netbpf upgrade`` and ``netbpf rollback``."""

from typing import TYPE_CHECKING

import click

from netbpf.cli.options import (
    common_options,
    confirm_options,
    direction_options,
    hooks_of,
    lock_option,
    source_options,
)

if TYPE_CHECKING:
    from netbpf.compiler.result import Options

reset_option = click.option(
    "--reset", metavar="MAP", multiple=True,
    help="Let this map, or section of variables, start anew instead of carrying it over.",
)  # fmt: skip
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Only say what would be carried over."
)


@click.command("upgrade", short_help="Put a new object in the place of a running program.")
@click.argument("words", metavar="[xdp|tc] IFACE [MEMBER] OBJECT", nargs=-1)
@direction_options
@click.option(
    "-n", "--program", metavar="NAME",
    help="Which program of the object [default: the one of the same name].",
)  # fmt: skip
@click.option(
    "--set", "settings", metavar="VAR=VALUE", multiple=True,
    help="Set a global variable before loading; what was set before stays set.",
)  # fmt: skip
@reset_option
@dry_run_option
@source_options
@confirm_options
@lock_option
@common_options
def upgrade_command(
    words: tuple[str, ...],
    direction: str | None,
    program: str | None,
    settings: tuple[str, ...],
    reset: tuple[str, ...],
    dry_run: bool,
    compiler: "Options",
    confirm: float | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Put a new object in the place of a running program, in one step, with what it has gathered.

    Maps and variables that are the same go on; what has grown or moved is carried over; what cannot be carried over
    is refused, unless --reset lets it start anew. MEMBER may be left out where only one program runs.

    \b
    netbpf upgrade xdp eth0 acl acl.o --dry-run
    netbpf upgrade eth0 acl.o
    """
    from netbpf import api
    from netbpf.cli.progress import patience
    from netbpf.cli.render.upgrade import print_upgrade

    hooks, named = hooks_of(words, direction, 3)
    given = [one for one in named if one is not None]
    if len(given) < 2:
        raise click.UsageError(
            "name the interface and the object: netbpf upgrade IFACE [MEMBER] OBJECT"
        )
    member = given[1] if len(given) == 3 else None
    with patience("the verifier is working"):
        done = api.upgrade(
            given[0],
            given[-1],
            member,
            hooks,
            program=program,
            settings=settings,
            reset=reset,
            dry_run=dry_run,
            confirm=confirm,
            netns=netns,
            compiler=compiler,
            lock_timeout=lock_timeout,
        )
    print_upgrade(done, dry_run=dry_run, as_json=as_json)


@click.command("rollback", short_help="Go back to the object before the last upgrade.")
@click.argument("words", metavar="[xdp|tc] IFACE [MEMBER]", nargs=-1)
@direction_options
@reset_option
@dry_run_option
@confirm_options
@lock_option
@common_options
def rollback_command(
    words: tuple[str, ...],
    direction: str | None,
    reset: tuple[str, ...],
    dry_run: bool,
    confirm: float | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Go back to the object before the last upgrade, by the rules of an upgrade.

    A second rollback undoes the first. MEMBER may be left out where only one program runs.
    """
    from netbpf import api
    from netbpf.cli.render.upgrade import print_upgrade

    hooks, (interface, member) = hooks_of(words, direction, 2)
    if interface is None:
        raise click.UsageError("name the interface: netbpf rollback IFACE [MEMBER]")
    done = api.rollback(
        interface,
        member,
        hooks,
        reset=reset,
        dry_run=dry_run,
        confirm=confirm,
        netns=netns,
        lock_timeout=lock_timeout,
    )
    print_upgrade(done, dry_run=dry_run, as_json=as_json)
