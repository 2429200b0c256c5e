"""The ``netbpf`` command: finds the subcommand, and turns every outcome into an exit code and at most one line."""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import MappingProxyType
from typing import Any, NoReturn

import click

from netbpf.errors import CompileError, ExitCode, NetbpfError, PacketTextError, VerifierError
from netbpf.text import did_you_mean, escape

# name: (module of netbpf.cli, one line for --help). A module is imported only when its command runs.
COMMANDS = {
    "attach": ("attach", "Attach a program to a hook of one or more interfaces."),
    "detach": ("detach", "Take a program off its hook."),
    "confirm": ("confirm", "Keep a change that waits for its confirmation, or go back."),
    "chain": ("chain", "Show or change the programs that share a hook."),
    "upgrade": ("upgrade", "Put a new object in the place of a running program."),
    "rollback": ("upgrade", "Go back to the object before the last upgrade."),
    "status": ("status", "Show what runs on which hook, and who put it there."),
    "stats": ("stats", "Show counters, variables and maps of attached programs."),
    "events": ("events", "Show what programs report in ring and perf buffers."),
    "trace": ("trace", "Show what programs print with bpf_printk()."),
    "monitor": ("monitor", "Show what goes wrong: exceptions, redirects, drops by reason."),
    "get": ("variables", "Print variables or map entries of an attached program."),
    "set": ("variables", "Write variables or map entries of an attached program."),
    "capture": ("capture", "Show packets at a hook with the verdict they got."),
    "load": ("load", "Load programs into the kernel, on no hook."),
    "unload": ("load", "Take away what load loaded."),
    "run": ("run", "Send one packet through a program, without a network."),
    "replay": ("replay", "Send every packet of a capture through a program."),
    "diff": ("diff", "Compare two programs on the packets of a capture."),
    "test": ("test", "Run a table of cases: packets, verdicts, counters."),
    "explain": ("explain", "Tell what an interface's programs do to a packet, and why."),
    "send": ("send", "Send packets or a capture out of an interface."),
    "inspect": ("inspect", "Show what an object file holds and needs."),
    "prog": ("prog", "List, show and dump the programs of the kernel."),
    "map": ("map", "List, show and dump the maps of the kernel."),
    "link": ("link", "List the links of the kernel."),
    "btf": ("btf", "List and dump types: of the kernel, of programs, maps and objects."),
    "doctor": (
        "doctor",
        "Check the host and an interface: what is in the way of XDP and TC programs.",
    ),
    "features": ("features", "Show what this kernel has: program and map types, helpers, kfuncs."),
    "compile": ("compile", "Compile C sources (clang, or BCC's dialect) to objects."),
}
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


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code (table in ``errors.py``)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    code = 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the locale cannot write is shown escaped, instead of ending everything.
            stream.reconfigure(errors="backslashreplace")
    _end_orderly()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, ClosedPipeError):
        # The reader (`| head`) has what it wanted.
        _discard_output()
        code = 128 + signal.SIGPIPE
    except OSError as error:
        _discard_output()
        code = code or _fail(
            False, ExitCode.OTHER, "OSError", f"cannot write: {error.strerror}", None
        )
    if argv is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End the process here and now: to take Python apart, module by module, takes 6 ms.

    Not where somebody else has yet to do something: threads, debuggers, whoever looks for leaks (``python -X dev``).
    """
    observed = sys.gettrace() or sys.getprofile() or sys.flags.dev_mode or sys.flags.inspect
    if observed or threading.active_count() > 1:
        return
    import atexit

    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter does at this point
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _open_streams() -> None:
    """Put /dev/null where a standard stream is closed (``>&-``), or the next file opened would be in its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    # None is what Python makes of a stream that was closed.
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _end_orderly() -> None:
    """SIGTERM and SIGHUP undo what is half done and remove temporary files, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup(1) ignores SIGHUP
            signal.signal(number, lambda number, _: sys.exit(128 + number))


def _discard_output() -> None:
    """Nothing may be written at exit any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    json = "--json" in arguments
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
        return _fail(
            json,
            ExitCode.USAGE,
            "UsageError",
            _one_line(error.format_message()),
            f"see: {where} --help",
        )
    except click.ClickException as error:
        return _fail(json, ExitCode.USAGE, "UsageError", _one_line(error.format_message()), None)
    except NetbpfError as error:
        _show_detail(error, verbose="-v" in arguments or "--verbose" in arguments)
        kind = type(error).__name__
        return _fail(json, error.exit_code, kind, error.message, error.hint, _explanation(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError):  # it may be the output that failed
            _fail(json, ExitCode.OTHER, "OSError", *_system_words(error))
        return ExitCode.OTHER
    except (KeyboardInterrupt, click.Abort):
        click.echo("netbpf: interrupted", err=True)
        return 128 + signal.SIGINT


def _system_words(error: OSError) -> tuple[str, str | None]:
    """Message and hint of what the system refused at a place where nothing better is known."""
    what = f"{escape(str(error.filename))}: " if error.filename else "cannot go on: "
    files = error.errno in (errno.EMFILE, errno.ENFILE)
    return f"{what}{error.strerror or error}", "allow more: ulimit -n 1024" if files else None


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _show_detail(error: NetbpfError, *, verbose: bool) -> None:
    if isinstance(error, CompileError) and error.output:
        click.echo(error.output.rstrip("\n"), err=True)
    if isinstance(error, PacketTextError):
        from netbpf.packets.marked import marked

        for line in marked(error.text, error.at, error.length):
            click.echo(f"  {line}", err=True)
    if isinstance(error, VerifierError):
        from netbpf.cli.render.rejection import print_rejection

        print_rejection(error, verbose=verbose)


def _explanation(error: NetbpfError) -> dict[str, Any]:
    """More keys of a JSON error: ``explanation`` where there is something to explain, ``text`` and the place in it."""
    if isinstance(error, PacketTextError):
        return {"text": error.text, "at": error.at, "length": error.length}
    if not isinstance(error, VerifierError):
        return {}
    from netbpf.cli.render.rejection import rejection_json
    from netbpf.explain import explain

    return {"explanation": rejection_json(explain(error))}


def _fail(
    json: bool,
    code: int,
    kind: str,
    message: str,
    hint: str | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    # One line, whatever was typed or found: names from outside may hold anything.
    click.echo(escape(f"netbpf: error: {message}" + (f"; {hint}" if hint else "")), err=True)
    if json:
        from netbpf.cli.output import print_json

        content = {"code": int(code), "type": kind, "message": message, "hint": hint, **more}
        print_json("error", {"error": content})
    return int(code)
