"""How a command says that it failed: one line, as JSON too where that was asked for; without click."""

import errno
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from netbpf.errors import CompileError, NetbpfError, PacketTextError, VerifierError
from netbpf.text import escape


def system_words(error: OSError) -> tuple[str, str | None]:
    """Message and hint of what the system refused at a place where nothing better is known."""
    what = f"{escape(str(error.filename))}: " if error.filename else "cannot go on: "
    files = error.errno in (errno.EMFILE, errno.ENFILE)
    return f"{what}{error.strerror or error}", "allow more: ulimit -n 1024" if files else None


def one_line(text: str) -> str:
    """Text as part of a line, without the dot at its end."""
    return " ".join(text.split()).rstrip(".")


def show_detail(error: NetbpfError, *, verbose: bool) -> None:
    """What belongs to an error and does not fit on its line: a compiler's output, a verifier's reasons."""
    if isinstance(error, CompileError) and error.output:
        import click

        click.echo(
            error.output.rstrip("\n"), err=True
        )  # without colours where nobody would see them
    if isinstance(error, PacketTextError):
        from netbpf.packets.marked import marked

        for line in marked(error.text, error.at, error.length):
            say_error(f"  {line}")
    if isinstance(error, VerifierError):
        from netbpf.cli.render.rejection import print_rejection

        print_rejection(error, verbose=verbose)


def explanation(error: NetbpfError) -> dict[str, Any]:
    """More keys of a JSON error: ``explanation`` where there is something to explain, ``text`` and the place in it."""
    if isinstance(error, PacketTextError):
        return {"text": error.text, "at": error.at, "length": error.length}
    if not isinstance(error, VerifierError):
        return {}
    from netbpf.cli.render.rejection import rejection_json
    from netbpf.explain import explain

    return {"explanation": rejection_json(explain(error))}


def say_error(line: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def fail(
    json: bool,
    code: int,
    kind: str,
    message: str,
    hint: str | None,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Say it, on standard error and for ``--json`` on standard output; the exit code."""
    # One line, whatever was typed or found: names from outside may hold anything.
    say_error(escape(f"netbpf: error: {message}" + (f"; {hint}" if hint else "")))
    if json:
        from netbpf.cli.output import print_json

        content = {"code": int(code), "type": kind, "message": message, "hint": hint, **more}
        print_json("error", {"error": content})
    return int(code)
