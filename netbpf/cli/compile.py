"""``netbpf compile``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netbpf.cli.options import json_option, verbose_option

if TYPE_CHECKING:
    from netbpf.compiler.result import Frontend


@click.command("compile", short_help="Compile C sources to objects.")
@click.argument(
    "sources", metavar="SRC...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Object file, or a directory for several.",
)
@click.option(
    "-I",
    "include_dirs",
    metavar="DIR",
    multiple=True,
    help="Header directory; netbpf's own is found anyway.",
)
@click.option("-D", "defines", metavar="X=Y", multiple=True, help="Define a macro.")
@click.option(
    "--frontend",
    type=click.Choice(["auto", "clang", "bcc"]),
    default="auto",
    help="Which compiler; auto recognises BCC's dialect.",
)
@click.option(
    "--clang",
    metavar="CLANG",
    help="clang to use, a command or a path (default: the newest installed).",
)
@verbose_option
@json_option
def compile_command(
    sources: tuple[Path, ...],
    output: Path | None,
    include_dirs: tuple[str, ...],
    defines: tuple[str, ...],
    frontend: "Frontend",
    clang: str | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Compile C sources to BPF objects with types (BTF): plain BPF C with clang, BCC's dialect with BCC.

    \b
    netbpf compile drop.bpf.c                writes drop.bpf.o
    netbpf compile a.bpf.c b.bpf.c -o build/
    """
    from netbpf import api
    from netbpf.cli.output import print_json
    from netbpf.compiler.result import Options
    from netbpf.text import escape

    color = sys.stderr.isatty()
    results = api.compile(
        sources, output, Options(include_dirs, defines, clang, frontend, color=color)
    )
    for result in results:
        if result.warnings:
            click.echo(result.warnings.rstrip("\n"), err=True)
        for note in result.notes:
            click.echo(f"netbpf: note: {note}", err=True)
    if as_json:
        print_json("compile", {
            "objects": [
                {"source": str(one.source), "output": str(one.output), "compiler": one.compiler,
                 "frontend": one.frontend, "size": one.size, "seconds": round(one.seconds, 3)}
                for one in results
            ]
        })  # fmt: skip
        return
    for one in results:
        click.echo(
            f"{escape(str(one.source))} -> {escape(str(one.output))} "
            f"({one.size:,} bytes, {one.compiler}, {one.seconds:.2f} s)"
        )
