"""``netbpf diff``."""

from typing import TYPE_CHECKING

import click

from netbpf.cli.replay import capture_options, remark
from netbpf.errors import ExitCode, NetbpfError

if TYPE_CHECKING:
    from netbpf.compiler.result import Options

DIFFERENT = 1


@click.command("diff", short_help="Compare two programs on the packets of a capture.")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.argument("capture", metavar="CAPTURE")
@click.option("-n", "--program", metavar="NAME", help="Which program of the objects.")
@click.option(
    "--new-program", metavar="NAME", help="Its name in the new object, where that is another."
)
@click.option(
    "--ignore", metavar="FIELD[,FIELD...]", multiple=True,
    help="Fields of what comes out whose difference does not count, such as ip.ttl,ip.checksum.",
)  # fmt: skip
@click.option(
    "-w", "--write", "output", metavar="FILE",
    help="Write the packets that differ, as they came in, with both verdicts (pcapng).",
)  # fmt: skip
@capture_options
def diff_command(
    old: str,
    new: str,
    capture: str,
    program: str | None,
    new_program: str | None,
    ignore: tuple[str, ...],
    output: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    limit: int | None,
    samples: int,
    as_json: bool,
    kernel_btf: str | None,
    verbose: bool,
    compiler: "Options",
) -> int:
    """Send the packets of a capture through two programs, and show where verdict or output differ.

    Packets that differ are grouped by their verdicts, their protocol and the fields that came out otherwise. The exit
    code is 0 without a difference, 1 with one, and 2 or more where the comparison could not be made.

    \b
    netbpf diff old.o new.o in.pcap
    netbpf diff old.o new.o in.pcap --ignore ip.ttl,ip.checksum -w differences.pcapng
    """
    from netbpf import api
    from netbpf.cli.progress import capture_bar
    from netbpf.cli.render.diff import print_diff

    fields = [field for one in ignore for field in one.split(",") if field]
    try:
        with capture_bar("diff") as progress:
            result = api.diff(
                old,
                new,
                capture,
                program=program,
                new_program=new_program,
                hook=api.hook_of(kind) if kind else None,  # type: ignore[arg-type]
                settings=settings,
                ignore=fields,
                limit=limit,
                output=output,
                samples=samples,
                compiler=compiler,
                kernel_btf=kernel_btf,
                progress=progress,
            )
    except NetbpfError as error:
        if error.exit_code == ExitCode.OTHER:
            # 1 says that there is a difference, as it does for diff(1).
            error.exit_code = ExitCode.USAGE
        raise
    remark(result.notes, result.warnings)
    print_diff(result, as_json=as_json)
    return DIFFERENT if result.different else 0
