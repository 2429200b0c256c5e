"""``netbpf replay``."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from netbpf.cli.coverage import Wanted, coverage_options
from netbpf.cli.options import F, json_option, netns_option, source_options, verbose_option
from netbpf.text import escape

if TYPE_CHECKING:
    from netbpf.compiler.result import Options

_SOURCE_OPTIONS = (
    click.option(
        "--hook", "kind", type=click.Choice(["xdp", "tc"]),
        help="What the program is for, where its section does not say.",
    ),
    click.option("--set", "settings", metavar="VAR=VALUE", multiple=True, help="Set a global variable before loading."),
    click.option("--btf", "kernel_btf", metavar="FILE", help="Kernel types to relocate against."),
    click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Only the first N packets."),
    click.option(
        "--samples", type=click.IntRange(0, 1000), default=3, show_default=True, metavar="N",
        help="How many packets to show of each kind.",
    ),
)  # fmt: skip


def capture_options(function: F) -> F:
    """What the commands on captures have in common."""
    for option in reversed((*_SOURCE_OPTIONS, json_option, verbose_option)):
        function = option(function)
    return source_options(function)


def remark(notes: Iterable[str], warnings: Iterable[str]) -> None:
    """Notes of the compiler and warnings about the capture, on standard error."""
    for note in notes:
        click.echo(f"netbpf: note: {escape(note)}", err=True)
    for warning in warnings:
        click.echo(f"netbpf: warning: {warning}", err=True)


@click.command("replay", short_help="Send a capture through a program.")
@click.argument("words", metavar="[OBJECT] CAPTURE", nargs=-1, required=True)
@click.option(
    "--on", metavar="IFACE",
    help="Instead of an object: a copy of what netbpf runs on an interface, one program or a chain.",
)  # fmt: skip
@click.option("-n", "--program", metavar="NAME", help="Which program of the object.")
@click.option(
    "-w", "--write", "output", metavar="FILE",
    help="Write every packet as it came out, with its verdict (pcapng).",
)  # fmt: skip
@click.option(
    "--dropped", metavar="FILE", help="Write the packets that were dropped, as they came in (pcapng)."
)  # fmt: skip
@coverage_options
@netns_option
@capture_options
def replay_command(
    words: tuple[str, ...],
    on: str | None,
    program: str | None,
    output: str | None,
    dropped: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    limit: int | None,
    samples: int,
    as_json: bool,
    netns: str | None,
    kernel_btf: str | None,
    verbose: bool,
    compiler: "Options",
    coverage: Wanted,
) -> None:
    """Send every packet of a capture through a program, which is attached to nothing.

    OBJECT is an object file, a C source or builtin:NAME. CAPTURE is a pcap or pcapng of Ethernet frames, also
    gzipped; - is standard input. The program's maps live as long as the capture lasts.

    \b
    netbpf replay prog.o in.pcap
    netbpf replay prog.o in.pcap.gz -w out.pcapng --dropped drop.pcapng
    netbpf replay --on eth0 in.pcap
    """
    from netbpf import api
    from netbpf.cli.progress import capture_bar
    from netbpf.cli.render.replay import print_replay

    if len(words) != (2 if on is None else 1):
        raise click.UsageError("expected OBJECT CAPTURE, or --on IFACE CAPTURE")
    with capture_bar("replay") as progress, coverage.collecting():
        result = api.replay(
            words[0] if on is None else None,
            words[-1],
            on=on,
            netns=netns,
            program=program,
            hook=api.hook_of(kind) if kind else None,  # type: ignore[arg-type]
            settings=settings,
            limit=limit,
            output=output,
            dropped=dropped,
            samples=samples,
            compiler=compiler,
            kernel_btf=kernel_btf,
            progress=progress,
        )
    remark(result.notes, result.warnings)
    print_replay(result, as_json=as_json, more=coverage.json())
    coverage.show(as_json=as_json, verbose=verbose)
