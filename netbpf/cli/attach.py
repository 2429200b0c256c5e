"""``netbpf attach``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from netbpf.cli.auto import WithAuto
from netbpf.cli.options import (
    Making,
    common_options,
    confirm_options,
    direction_options,
    hook_of,
    lock_option,
    object_options,
)
from netbpf.errors import VerifierError
from netbpf.text import escape


@contextmanager
def log_kept(path: Path | None) -> Iterator[None]:
    """Write the log of a rejection to a file; a file that cannot be written is noted, the rejection stays the error."""
    try:
        yield
    except VerifierError as error:
        if path is not None:
            try:
                path.write_text(error.log, errors="replace")
            except OSError as failed:
                click.echo(
                    f"netbpf: note: cannot write {escape(str(path))}: {failed.strerror}", err=True
                )
        raise


@click.command("attach", cls=WithAuto, short_help="Attach a program to a hook.")
@click.argument("kind", metavar="xdp|tc", type=click.Choice(["xdp", "tc"]))
@click.argument("interface", metavar="IFACE[,IFACE...]")
@click.argument("sources", metavar="OBJECT...", nargs=-1, required=True)
@click.option(
    "-n",
    "--program",
    metavar="NAME",
    help="Which program of the object, by function or section name.",
)
@click.option(
    "-m", "--mode", metavar="MODE",
    type=click.Choice(["native", "skb", "hw", "auto", "drv", "driver", "generic", "offload"]),
    help="XDP: native (default), skb, hw; auto tries native, then skb, and says what it got.",
)  # fmt: skip
@direction_options
@object_options
@click.option(
    "--redirect", "redirects", metavar="MAP[KEY]=TARGET[:PROGRAM]", multiple=True,
    help="xdp: fill a devmap (TARGET: interface) or cpumap (TARGET: queue size; KEY may be *), and run PROGRAM there.",
)  # fmt: skip
@click.option(
    "--replace", is_flag=True, help="Swap netbpf's own program on the hook, without a gap."
)
@click.option("--link", is_flag=True, help="Attach by a pinned bpf_link (XDP) or TCX (tc).")
@click.option("--atomic", is_flag=True, help="Several interfaces: all of them or none.")
@click.option(
    "--priority", type=click.IntRange(0, 65535), metavar="N",
    help="Place among netbpf's programs on the hook: lower runs first [default: 50].",
)  # fmt: skip
@click.option(
    "--proceed-on", metavar="VERDICT,...",
    help="The verdicts that hand the packet to the next program [xdp: pass; tc: unspec,pipe].",
)  # fmt: skip
@click.option(
    "--name", metavar="MEMBER", help="What to call it on the hook [default: its program]."
)
@click.option(
    "--pref", type=click.IntRange(1, 65535), metavar="N",
    help="tc: run beside foreign filters, at this priority (lower runs first).",
)  # fmt: skip
@confirm_options
@lock_option
@common_options
def attach_command(
    kind: str,
    interface: str,
    sources: tuple[str, ...],
    program: str | None,
    mode: str | None,
    direction: str | None,
    redirects: tuple[str, ...],
    replace: bool,
    link: bool,
    atomic: bool,
    priority: int | None,
    proceed_on: str | None,
    name: str | None,
    pref: int | None,
    making: Making,
    log_file: Path | None,
    confirm: float | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> int:
    """Attach programs to a hook of one or more interfaces.

    Where netbpf runs something already, they join it as members of a chain (see netbpf chain). OBJECT is an object
    file, a C source (compiled on the fly, BCC's dialect too), or builtin:NAME for a program shipped with netbpf.
    IFACE may be a list or a quoted glob: eth0,eth1 or 'veth*'; the interfaces then share one loaded program and its
    maps.

    \b
    netbpf attach xdp eth0 prog.o
    netbpf attach xdp eth0 acl.o count.o --priority 20
    netbpf attach tc eth0 prog.bpf.c --egress --set limit=5
    netbpf attach xdp 'veth*' builtin:xdp_count --mode auto --atomic

    Programs that are on no interface (tracepoints, cgroups and the like): netbpf attach auto OBJECT, which has
    a help of its own.
    """
    from netbpf import api
    from netbpf.cli.progress import patience
    from netbpf.cli.render.attach import print_results

    with log_kept(log_file), patience("the verifier is working"):
        attached = api.attach(
            hook_of(kind, direction),
            interface,
            sources,
            program=program,
            mode=mode,
            redirects=redirects,
            replace=replace,
            link=link,
            atomic=atomic,
            name=name,
            priority=priority,
            proceed_on=proceed_on.split(",") if proceed_on is not None else None,
            pref=pref,
            netns=netns,
            confirm=confirm,
            lock_timeout=lock_timeout,
            **making,
        )
    attached.close()
    return print_results(attached.results, as_json=as_json)
