"""Running a compiler: an argument list, never a shell; a crash is an error with a name."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from netbpf.errors import CompileError, ToolMissingError
from netbpf.manager.undo import uninterrupted
from netbpf.text import escape


def run(
    command: Sequence[str], source: str, tool: str, *, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a compiler on ``source`` and return its exit status and what it said.

    ``tool`` names it in messages. Its input is /dev/null. Ctrl-C reaches it as well, and it has ended before
    KeyboardInterrupt leaves here. Raises ToolMissingError where it cannot be started and CompileError where a
    signal ends it.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        # Ctrl-C between the fork and the assignment would leave a compiler that nobody knows.
        with uninterrupted():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
            )
        raw, _ = process.communicate()
    except OSError as error:
        raise ToolMissingError(f"cannot run {escape(command[0])}: {error.strerror}") from None
    finally:
        if process is not None:
            _end(process)
    output = raw.decode(errors="backslashreplace")
    if process.returncode < 0:
        name = _signal(-process.returncode)
        raise CompileError(
            f"{tool} was ended by {name} while compiling {escape(source)}", output=output
        )
    return process.returncode, output


def _end(process: "subprocess.Popen[bytes]") -> None:
    """See to it that it has ended, and is reaped, however that was."""
    if process.stdout:
        process.stdout.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def python() -> str:
    """An interpreter for scripts that need only the standard library."""
    return sys.executable or "/usr/bin/python3"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
