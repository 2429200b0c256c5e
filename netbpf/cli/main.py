"""The ``netbpf`` command: finds the subcommand, and turns every outcome into an exit code and at most one line."""

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from netbpf.cli.failing import explanation, fail, say_error, show_detail, system_words
from netbpf.cli.plain import plain
from netbpf.errors import ExitCode, NetbpfError

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
    except BrokenPipeError:
        # The reader (`| head`) has what it wanted.
        _discard_output()
        code = 128 + signal.SIGPIPE
    except OSError as error:
        _discard_output()
        code = code or fail(
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
        if command := plain(arguments):
            command()
            return ExitCode.OK
        from netbpf.cli.commands import run

        return run(arguments, json=json)
    except NetbpfError as error:
        show_detail(error, verbose="-v" in arguments or "--verbose" in arguments)
        kind = type(error).__name__
        return fail(json, error.exit_code, kind, error.message, error.hint, explanation(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError):  # it may be the output that failed
            fail(json, ExitCode.OTHER, "OSError", *system_words(error))
        return ExitCode.OTHER
    except KeyboardInterrupt:
        say_error("netbpf: interrupted")
        return 128 + signal.SIGINT
