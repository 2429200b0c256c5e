"""``netbpf load`` and ``netbpf unload``."""

from pathlib import Path

import click

from netbpf.cli.options import Making, common_options, lock_option, object_options


@click.command("load", short_help="Load programs without attaching them.")
@click.argument("source", metavar="OBJECT")
@click.option(
    "-n", "--program", "programs", metavar="NAME[,NAME...]", multiple=True,
    help="Only these programs, by function or section name.",
)  # fmt: skip
@click.option(
    "--pin", metavar="DIR", type=click.Path(path_type=Path),
    help="The directory for the pins, in a BPF file system (default: /sys/fs/bpf/netbpf/loaded/NAME).",
)  # fmt: skip
@click.option(
    "--type", "kind", metavar="SECTION",
    help="What the programs are, where their sections do not say: xdp, tc, socket, cgroup_skb/egress ...",
)  # fmt: skip
@object_options
@lock_option
@common_options
def load_command(
    source: str,
    programs: tuple[str, ...],
    pin: Path | None,
    kind: str | None,
    making: Making,
    log_file: Path | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Load the programs of an object into the kernel, on no hook.

    The kernel keeps a program only as long as something holds it, so programs and their maps are pinned: under
    /sys/fs/bpf/netbpf/loaded, or in the directory given with --pin. All are loaded, or none. netbpf unload takes the
    pins away.

    \b
    netbpf load hello.bpf.o
    netbpf prog show hello
    netbpf attach xdp eth0 pinned:/sys/fs/bpf/netbpf/loaded/hello
    netbpf unload hello
    """
    from netbpf import api
    from netbpf.cli.attach import log_kept
    from netbpf.cli.progress import patience
    from netbpf.cli.render.load import print_loaded

    with log_kept(log_file), patience("the verifier is working"):
        result = api.load(
            source,
            [name for text in programs for name in text.split(",") if name],
            pin=pin,
            type=kind,
            netns=netns,
            lock_timeout=lock_timeout,
            **making,
        )
    print_loaded(result, as_json=as_json)


@click.command("unload", short_help="Take away what load loaded.")
@click.argument("which", metavar="[NAME|DIR|PIN|OBJECT]", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="All that match, not just one.")
@click.option(
    "--ignore-missing", "missing_ok", is_flag=True, help="It is fine if nothing is loaded."
)
@lock_option
@common_options
def unload_command(
    which: str | None,
    everything: bool,
    missing_ok: bool,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Remove the pins that netbpf load made, and no others.

    A program that is on a hook, or that something else holds, stays in the kernel: what holds it is shown. Without an
    argument the only object that is loaded is meant.
    """
    from netbpf import api
    from netbpf.cli.render.load import print_unloaded

    found = api.unload(
        which, everything=everything, missing_ok=missing_ok, netns=netns, lock_timeout=lock_timeout
    )
    print_unloaded(found, as_json=as_json)
