"""``netbpf inspect``."""

import click

from netbpf.cli.options import json_option


@click.command("inspect", short_help="Show what an object file holds and needs.")
@click.argument("object_", metavar="OBJECT")
@click.option(
    "-n", "--program", "names", multiple=True, metavar="NAME",
    help="With --source: only this function or section. May be given several times.",
)  # fmt: skip
@click.option("-S", "--source", is_flag=True, help="Disassemble, with the lines of C.")
@click.option("--opcodes", is_flag=True, help="With --source: the bytes of each instruction.")
@click.option("--headers", is_flag=True, help="ELF header, sections and symbols, as readelf.")
@json_option
def inspect_command(
    object_: str,
    names: tuple[str, ...],
    source: bool,
    opcodes: bool,
    headers: bool,
    as_json: bool,
) -> None:
    """Show the programs, maps and variables of an object, and whether this kernel has what it needs.

    OBJECT is an object file, a C source, which is compiled, or builtin:NAME. Nothing of it is loaded.

    \b
    netbpf inspect prog.o
    netbpf inspect prog.o --source -n xdp_main
    """
    if (names or opcodes) and not source:
        raise click.UsageError(f"{'-n' if names else '--opcodes'} is for --source")
    if source and headers:
        raise click.UsageError("--source and --headers are two questions; ask them one by one")
    from netbpf import api
    from netbpf.cli.render import inspect as render

    if headers:
        render.print_headers(api.elf_headers(object_), as_json=as_json)
    elif source:
        found = api.disassemble(object_, names=names)
        render.print_listings(found, opcodes=opcodes, as_json=as_json)
    else:
        render.print_report(api.inspect(object_), as_json=as_json)
