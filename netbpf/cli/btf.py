"""``netbpf btf``."""

from pathlib import Path

import click

from netbpf.cli.groups import Group
from netbpf.cli.options import json_option


@click.group("btf", cls=Group, short_help="Types of the kernel, of programs, maps and objects.")
def btf_command() -> None:
    """List the BTF objects of the kernel, and show types: as they are, or as a C header.

    \b
    netbpf btf dump vmlinux --c >vmlinux.h
    netbpf btf dump map flows --c
    """


@btf_command.command("list", short_help="All BTF objects, or one.")
@click.argument("which", metavar="[ID]", type=click.IntRange(min=1), required=False)
@json_option
def list_command(which: int | None, as_json: bool) -> None:
    """List BTF objects: size, and the programs and maps that have their types there."""
    from netbpf import api
    from netbpf.cli.render.btf import print_btfs

    print_btfs(api.btfs(which), as_json=as_json)


@btf_command.command("dump", short_help="Types one by one, or as a C header.")
@click.argument("words", metavar="WHOSE", nargs=-1, required=True)
@click.option("--c", "as_c", is_flag=True, help="As a C header that compiles.")
@click.option(
    "-t", "--type", "names", metavar="NAME", multiple=True,
    help="Only this type and what it needs: flow, 'struct flow'. May be given several times.",
)  # fmt: skip
@click.option(
    "-B", "--base", metavar="FILE", type=click.Path(path_type=Path),
    help="The types that those of a file continue (split BTF), such as vmlinux's of a module's.",
)  # fmt: skip
@json_option
def dump_command(
    words: tuple[str, ...], as_c: bool, names: tuple[str, ...], base: Path | None, as_json: bool
) -> None:
    """Show types.

    WHOSE is vmlinux or the name of a module, an object file, C source or builtin:NAME, the id of a BTF, or prog or map
    with an id, name, tag or pin. Of a map the types of key and value are shown, or what is said behind it: key,
    value, all.

    \b
    netbpf btf dump vmlinux --c -t 'struct sk_buff'
    netbpf btf dump prog.bpf.o
    netbpf btf dump map flows value --json
    """
    if as_c and as_json:
        raise click.UsageError("--c is C; --json has no form for it")
    from netbpf import api
    from netbpf.cli.render import btf as render

    found = api.types(words, names=names, base=base)
    if as_c:
        render.print_header(found)
    else:
        render.print_types(found, as_json=as_json)
