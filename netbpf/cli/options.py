"""Options that several commands share."""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from netbpf.cli.duration import Duration
from netbpf.constants import Hook
from netbpf.errors import UsageError

if TYPE_CHECKING:
    from netbpf.compiler.result import Frontend, Options

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
)
netns_option = click.option(
    "--netns", metavar="NS", help="Network namespace: a name, a path, or pid:NUMBER."
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show the detail, such as the whole verifier log."
)
lock_option = click.option(
    "--lock-timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="SECONDS",
    help="How long to wait for another netbpf that is changing hooks.",
)  # fmt: skip

TRY = 60.0  # seconds


class OptionalValueCommand(click.Command):
    """A command some of whose options take a value or none: ``--watch``, ``--watch 5``.

    What follows such an option and is no value of it is an argument: ``stats --watch eth0``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As ever; where the value is refused and all makes sense without it, there was none."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as refused:
            option = refused.param
            if not isinstance(option, click.Option) or not _needs_no_value(option):
                raise
            ctx.params.clear()
            try:
                return super().parse_args(ctx, list(_with_value(given, option)))
            except click.BadParameter:
                raise
            except (click.UsageError, UsageError):
                raise refused from None


def _needs_no_value(option: click.Option) -> bool:
    # Where there is no such value, click has None or, since 8.3, a word of its own.
    return not option.is_flag and isinstance(option.flag_value, str | float)


def _with_value(args: list[str], option: click.Option) -> Iterator[str]:
    for one in args:
        yield one
        if one in option.opts:
            yield str(option.flag_value)


def source_options(function: F) -> F:
    """How a C source is compiled, as the parameter ``compiler``."""

    @functools.wraps(function)
    def called(
        *args: Any,
        include_dirs: tuple[str, ...],
        defines: tuple[str, ...],
        frontend: "Frontend",
        clang: str | None,
        **named: Any,
    ) -> Any:
        from netbpf.compiler.result import Options

        compiler = Options(include_dirs, defines, clang, frontend, color=sys.stderr.isatty())
        return function(*args, compiler=compiler, **named)

    options = (
        click.option(
            "-I", "include_dirs", metavar="DIR", multiple=True, help="C source: header directory."
        ),
        click.option("-D", "defines", metavar="X=Y", multiple=True, help="C source: define a macro."),
        click.option(
            "--frontend", type=click.Choice(["auto", "clang", "bcc"]), default="auto",
            help="C source: which compiler.",
        ),
        click.option(
            "--clang", metavar="CLANG", help="C source: clang to use, a command or a path."
        ),
    )  # fmt: skip
    made: Callable[..., Any] = called
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[return-value]


class Making(TypedDict):
    """What is made of an object when it is loaded, as ``api.attach``, ``attach_auto`` and ``load`` take it."""

    settings: tuple[str, ...]
    map_sizes: tuple[str, ...]
    tail_calls: tuple[str, ...]
    share: tuple[str, ...]
    maps: tuple[str, ...]
    pin_maps: Path | None
    compiler: "Options"
    kernel_btf: Path | None


def object_options(function: F) -> F:
    """What is made of an object: its variables and maps, its compiler, its relocation, as the parameter ``making``.

    The log is the parameter ``log_file``.
    """

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        making = {name: named.pop(name) for name in Making.__annotations__}
        return function(*args, making=making, **named)

    path = click.Path(path_type=Path)
    options = (
        click.option(
            "--set", "settings", metavar="VAR=VALUE", multiple=True,
            help="Set a global variable before loading.",
        ),
        click.option(
            "--map-size", "map_sizes", metavar="MAP=N", multiple=True,
            help="Make a map with N entries (ring buffers: bytes) instead of what the object says; N may be 'cpus'.",
        ),
        click.option(
            "--share", metavar="MAP=IFACE/HOOK/MEMBER[/MAP]", multiple=True,
            help="Use the map of a program on a hook (xdp, tc/ingress, tc/egress; NETNS:IFACE/... elsewhere).",
        ),
        click.option(
            "--map", "maps", metavar="MAP=pinned:PATH|id:N", multiple=True,
            help="Use a map that exists, by its pin or its id.",
        ),
        click.option(
            "--tail-call", "tail_calls", metavar="MAP[INDEX]=PROGRAM", multiple=True,
            help="Put another program of the object into a prog array.",
        ),
        click.option(
            "--pin-maps", metavar="DIR", type=path,
            help="Share maps marked LIBBPF_PIN_BY_NAME through pins in this directory of a BPF file system: "
            "what is there is used, the rest is pinned, and stays after detach. Without it such maps are not shared.",
        ),
        source_options,
        click.option(
            "--btf", "kernel_btf", metavar="FILE", type=path,
            help="Kernel types to relocate against.",
        ),
        click.option(
            "--log", "log_file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
            help="Write the whole verifier log to a file if the verifier rejects the program.",
        ),
    )  # fmt: skip
    made: Callable[..., Any] = called
    for option in reversed(options):
        made = option(made)
    return made  # type: ignore[return-value]


def confirm_options(function: F) -> F:
    """``--confirm`` and ``--try`` as the parameter ``confirm``: seconds, or None."""

    @functools.wraps(function)
    def called(*args: Any, confirm: float | None, trying: bool, **named: Any) -> Any:
        if trying and confirm is None:
            confirm = TRY
        return function(*args, confirm=confirm, **named)

    option = click.option(
        "--confirm", type=Duration(), metavar="TIME",
        help="Go back by itself after this time (30s, 5m, 1h30m) unless netbpf confirm comes before.",
    )  # fmt: skip
    trying = click.option("--try", "trying", is_flag=True, help="The same as --confirm 60s.")
    return option(trying(called))  # type: ignore[return-value]


def direction_options(function: F) -> F:
    """``--ingress`` and ``--egress`` as the parameter ``direction``."""
    function = click.option(
        "--ingress", "direction", flag_value="ingress", help="TC: packets that come in (default)."
    )(function)
    return click.option(
        "--egress", "direction", flag_value="egress", help="TC: packets that go out."
    )(function)


def common_options(function: F) -> F:
    """What every command takes: ``--json``, ``--netns``, ``-v``."""
    return json_option(netns_option(verbose_option(function)))


def hook_of(kind: str, direction: str | None) -> Hook:
    """The hook of ``xdp|tc`` and a direction; click.UsageError where they contradict."""
    if kind == "xdp":
        if direction:
            raise click.UsageError(
                f"--{direction} is for tc; XDP programs run on incoming packets only"
            )
        return Hook.XDP
    return Hook.TC_EGRESS if direction == "egress" else Hook.TC_INGRESS


def hooks_of(
    words: Sequence[str], direction: str | None, most: int
) -> tuple[tuple[Hook, ...], list[str | None]]:
    """The hooks of ``[xdp|tc] WORD...``, and the words after it, ``most`` of them, None where there are fewer.

    click.UsageError for more words than that, and for a direction of xdp.
    """
    kind, rest = (words[0], words[1:]) if words and words[0] in ("xdp", "tc") else (None, words)
    if len(rest) > most:
        raise click.UsageError(f"too many arguments: {' '.join(rest[most:])}")
    if kind == "xdp" and direction:
        raise click.UsageError(f"--{direction} is for tc")
    named = [*rest, *[None] * (most - len(rest))]
    if kind == "xdp":
        return (Hook.XDP,), named
    if direction:
        return (Hook.TC_EGRESS if direction == "egress" else Hook.TC_INGRESS,), named
    tc = (Hook.TC_INGRESS, Hook.TC_EGRESS)
    return (tc if kind == "tc" else (Hook.XDP, *tc)), named
