"""``netbpf features``."""

import click

from netbpf.cli.options import json_option


@click.command("features", short_help="Show what this kernel has of BPF.")
@click.option("--programs", is_flag=True, help="Program types.")
@click.option("--maps", is_flag=True, help="Map types.")
@click.option(
    "--helpers", metavar="TYPE", help="The helpers of a program type (xdp, tc ...), or all."
)
@click.option("--kfuncs", metavar="TYPE", help="The kernel functions of a program type, or all.")
@click.option("--attach", is_flag=True, help="Ways to attach.")
@click.option("--misc", is_flag=True, help="Instructions, sizes, loops.")
@click.option(
    "--has", metavar="NAME", multiple=True,
    help="Only whether it has NAME: a helper, kernel function, program or map type, way to attach; exit code 5 if not.",
)  # fmt: skip
@json_option
def features_command(
    programs: bool,
    maps: bool,
    helpers: str | None,
    kfuncs: str | None,
    attach: bool,
    misc: bool,
    has: tuple[str, ...],
    as_json: bool,
) -> int:
    """Show the program types, map types, helpers, kernel functions and ways to attach of this kernel.

    The kernel is asked for each: programs of two instructions are loaded, maps of one entry are made, and thrown away.
    Nothing is guessed from its version. Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, and CAP_SYS_ADMIN for some.

    \b
    netbpf features --helpers xdp
    netbpf features --has bpf_xdp_load_bytes && echo yes
    """
    if has and (programs or maps or attach or misc or (helpers and kfuncs)):
        raise click.UsageError("--has goes with --helpers TYPE or --kfuncs TYPE, or alone")
    from netbpf import api
    from netbpf.cli.progress import patience
    from netbpf.cli.render import features as render

    if has:
        asked = helpers or kfuncs
        with patience("asking the kernel"):
            answers = api.has(has, program_type=None if asked in (None, "all") else asked)
        return render.print_has(answers, as_json=as_json)
    parts = render.Parts(programs, maps, helpers, kfuncs, attach, misc)
    with patience("asking the kernel"), api.features() as here:
        found = render.collected(here, parts)
    render.print_features(found, parts, as_json=as_json)
    return 0
