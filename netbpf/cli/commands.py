"""The commands, as click has them: found by name, imported when they run."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from netbpf.cli.failing import fail, one_line
from netbpf.cli.main import COMMANDS
from netbpf.errors import ExitCode
from netbpf.text import did_you_mean

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ClosedPipeError(Exception):
    """The reader of the output has gone. Not an OSError, for which click would end the process with exit code 1."""


@contextmanager
def _pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ClosedPipeError from None


class Commands(click.Group):
    """A group that knows its commands' help without importing them."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse; ``--help`` is printed here."""
        with _pipe():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _pipe():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"netbpf.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command to run; a UsageError with near names for an unknown one."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            hint = did_you_mean(args[0], COMMANDS, "the commands are")
            raise click.UsageError(f"no command {args[0]!r}" + (f"; {hint}" if hint else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from netbpf import __version__

        click.echo(f"netbpf {__version__}")
        ctx.exit()


@click.command(cls=Commands, context_settings=CONTEXT, no_args_is_help=True)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version.",
)
def cli() -> None:
    """Attach, observe and test XDP and TC eBPF programs.

    \b
    netbpf attach xdp eth0 prog.o      netbpf status
    netbpf stats eth0                  netbpf detach xdp eth0
    """


def run(arguments: list[str], *, json: bool) -> int:
    """Run what the words of a command line say; the exit code. What a command itself raises goes on."""
    try:
        result = cli.main(args=arguments, prog_name="netbpf", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as shown:
        click.echo(shown.format_message(), err=True)
        return ExitCode.USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "netbpf"
        words = one_line(error.format_message())
        return fail(json, ExitCode.USAGE, "UsageError", words, f"see: {where} --help")
    except click.ClickException as error:
        return fail(json, ExitCode.USAGE, "UsageError", one_line(error.format_message()), None)
    except click.Abort:
        raise KeyboardInterrupt from None
    except ClosedPipeError:
        raise BrokenPipeError from None
