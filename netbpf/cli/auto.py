"""``netbpf attach auto`` and ``netbpf detach auto``: programs that are on no interface."""

from pathlib import Path
from typing import Any

import click

from netbpf.cli.options import (
    Making,
    common_options,
    json_option,
    lock_option,
    object_options,
    verbose_option,
)


class WithAuto(click.Command):
    """A command whose first word may be ``auto``: then another command takes the rest, with options of its own."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse, with the command that is meant."""
        if args[:1] == ["auto"]:
            command = {"attach": attach_auto_command, "detach": detach_auto_command}[str(self.name)]
            return command.make_context(f"{info_name} auto", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("auto")
@click.argument("source", metavar="OBJECT")
@click.option(
    "-n", "--program", "programs", metavar="NAME[,NAME...]", multiple=True,
    help="Only these programs, by function or section name.",
)  # fmt: skip
@object_options
@click.option(
    "--cgroup", metavar="DIR", type=click.Path(path_type=Path),
    help="Where cgroup programs go: a directory of cgroup v2 (default: its root).",
)  # fmt: skip
@lock_option
@common_options
def attach_auto_command(
    source: str,
    programs: tuple[str, ...],
    cgroup: Path | None,
    making: Making,
    log_file: Path | None,
    lock_timeout: float,
    as_json: bool,
    netns: str | None,
    verbose: bool,
) -> None:
    """Attach the programs of an object that are on no interface to the hooks that their sections name.

    Tracepoints, raw tracepoints, kprobes, kernel functions, iterators, cgroups, network namespaces. Programs for
    sockets are loaded and pinned, for a process to use. All are attached, or none; they stay until detach auto.

    \b
    netbpf attach auto companions.bpf.o
    netbpf attach auto companions.bpf.o -n count_drops --share flows=eth0/xdp/acl
    netbpf detach auto companions.bpf.o
    """
    from netbpf import api
    from netbpf.cli.attach import log_kept
    from netbpf.cli.progress import patience
    from netbpf.cli.render.auto import print_attached

    with log_kept(log_file), patience("the verifier is working"):
        result = api.attach_auto(
            source,
            [name for text in programs for name in text.split(",") if name],
            cgroup=cgroup,
            netns=netns,
            lock_timeout=lock_timeout,
            **making,
        )
    print_attached(result, as_json=as_json)


@click.command("auto")
@click.argument("which", metavar="[OBJECT|NUMBER]", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="All that match, not just one.")
@click.option(
    "--ignore-missing", "missing_ok", is_flag=True, help="It is fine if nothing is attached."
)
@lock_option
@json_option
@verbose_option
def detach_auto_command(
    which: str | None,
    everything: bool,
    missing_ok: bool,
    lock_timeout: float,
    as_json: bool,
    verbose: bool,
) -> None:
    """Take off what attach auto attached: by its number in netbpf status, by its object, or the only one there is."""
    from netbpf import api
    from netbpf.cli.render.auto import print_detached

    found = api.detach_auto(
        which, everything=everything, missing_ok=missing_ok, lock_timeout=lock_timeout
    )
    print_detached(found, as_json=as_json)
