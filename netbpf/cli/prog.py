"""``netbpf prog``."""

import click

from netbpf.cli.groups import Group
from netbpf.cli.options import OptionalValueCommand, json_option

_all_netns = click.option(
    "-a", "--all-netns", is_flag=True, help="Interfaces of all network namespaces, not only of this one."
)  # fmt: skip
_which = click.argument("which", metavar="ID|NAME|TAG|PIN", nargs=-1, required=True)


@click.group("prog", cls=Group, short_help="Programs of the kernel.")
def prog_command() -> None:
    """List, show and dump the programs that the kernel has, whoever loaded them.

    A program is named by its id, name, tag or the path of a pin.

    \b
    netbpf prog
    netbpf prog show xdp_count
    netbpf prog dump 17 --xlated
    """


@prog_command.command("list", short_help="All programs.")
@_all_netns
@json_option
def list_command(all_netns: bool, as_json: bool) -> None:
    """List all programs: type, name, tag, size, where they run and who holds them."""
    from netbpf import api
    from netbpf.cli.render.prog import print_programs

    print_programs(api.programs(all_netns=all_netns), as_json=as_json)


@prog_command.command("show", short_help="Programs by id, name, tag or pin.")
@_which
@_all_netns
@json_option
def show_command(which: tuple[str, ...], all_netns: bool, as_json: bool) -> None:
    """Show everything about the programs of an id, name, tag or pin.

    A name that is a number: netbpf prog show name 17.
    """
    from netbpf import api
    from netbpf.cli.render.prog import print_programs

    print_programs(api.programs(which, all_netns=all_netns), as_json=as_json, detail=True)


def _one(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    from netbpf.insight.choose import parse

    parse(words)
    return words


@prog_command.command("dump", cls=OptionalValueCommand, short_help="The code of a program.")
@click.argument("which", metavar="ID|NAME|TAG|PIN", nargs=-1, required=True, callback=_one)
@click.option("--xlated", is_flag=True, help="As the verifier left it (default).")
@click.option(
    "--jited", is_flag=True, help="As machine code; disassembled where objdump is installed."
)
@click.option("--opcodes", is_flag=True, help="The bytes of each instruction, too.")
@click.option(
    "--cfg", is_flag=False, flag_value="dot", default=None, type=click.Choice(["dot", "svg"]),
    metavar="[dot|svg]", help="The control flow as a graph for Graphviz, or drawn by it.",
)  # fmt: skip
@json_option
def dump_command(
    which: tuple[str, ...],
    xlated: bool,
    jited: bool,
    opcodes: bool,
    cfg: str | None,
    as_json: bool,
) -> None:
    """Show the code of one program, with the lines of C it was made of."""
    if jited and (xlated or cfg):
        raise click.UsageError(f"--jited and {'--xlated' if xlated else '--cfg'} are two questions")
    if cfg and as_json:
        raise click.UsageError("--cfg is a picture; --json has no form for it")
    from netbpf import api
    from netbpf.cli.render import prog_code as render

    if jited:
        render.print_machine_code(api.program_machine_code(which), opcodes=opcodes, as_json=as_json)
        return
    found = api.program_code(which)
    if cfg:
        render.print_graph(found, cfg)
    else:
        render.print_code(found, opcodes=opcodes, as_json=as_json)
