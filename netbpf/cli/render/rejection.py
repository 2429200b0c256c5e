"""What is shown of a program that the verifier refused: the line of C, the story, the way out."""

import os
import sys
from typing import Any

import click

from netbpf.errors import VerifierError
from netbpf.explain import Explanation, Place, explain
from netbpf.explain.source import short
from netbpf.text import escape

_WIDEST = 160  # characters of a line of source or log
_INDENT = "      "


def rejection_json(found: Explanation) -> dict[str, Any]:
    """The key ``explanation`` of a JSON error."""
    return {
        "id": found.id or None,
        "reason": found.reason,
        "source": _place_json(found.excerpt.place) if found.excerpt else None,
        "function": found.excerpt.function if found.excerpt else None,
        "instruction": found.insn,
        "registers": [
            {"subject": one.subject, "value": one.what, "instruction": one.insn, "source": _place_json(one.place)}
            for one in found.trace
        ],
        "advice": found.advice or None,
        "code": found.code or None,
        "verifier": list(found.words),
    }  # fmt: skip


def _place_json(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    return {"file": place.file, "line": place.line, "text": place.text.strip()}


def print_rejection(error: VerifierError, *, verbose: bool) -> None:
    """Print the explanation of a rejection, after the whole log where it is asked for, to standard error."""
    if verbose and error.log:
        for line in error.log.rstrip("\n").split("\n"):
            click.echo(_plain(line), err=True)
        click.echo(err=True)
    if not error.log:
        return
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    for line in rejection_lines(explain(error)):
        click.echo(line if color else click.unstyle(line), err=True)
    click.echo(err=True)


def rejection_lines(found: Explanation) -> list[str]:
    """An explanation as lines for a terminal, with colours; whatever came from outside is escaped."""
    return [*_source(found), *_story(found), *_advice(found), *_words(found)]


def _plain(text: str) -> str:
    # The test costs nothing, escaping each character of a log of 16 MiB seconds.
    return text if text.isprintable() else escape(text.replace("\t", "    "))


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _source(found: Explanation) -> list[str]:
    excerpt = found.excerpt
    if excerpt is None:
        if found.insn is None:
            return []
        text = f"  instruction {found.insn}: {_plain(found.insn_text)}".rstrip(": ")
        return [_cut(text), ""]
    place = excerpt.place
    where = f"{_plain(short(place.file))}:{place.line}" if place.line else _plain(short(place.file))
    head = ", ".join(
        filter(None, (where, f"in {_plain(excerpt.function)}()" if excerpt.function else ""))
    )
    lines = [_cut(f"  {head}")]
    last = 0
    for number, text in _level(excerpt.lines):
        if last and number > last + 1:
            lines.append(f"{_INDENT} ...")
        last = number
        line = _cut(f"{number or '':>5}  {text}".rstrip())
        lines.append(click.style(f"> {line}", bold=True) if number == place.line else f"  {line}")
    return [*lines, ""]


def _level(lines: tuple[tuple[int, str], ...]) -> list[tuple[int, str]]:
    """The lines without the blanks that they all begin with; tabs become four."""
    texts = [(number, _plain(text.rstrip().replace("\t", "    "))) for number, text in lines]
    margin = min((len(text) - len(text.lstrip()) for _, text in texts if text), default=0)
    return [(number, text[margin:]) for number, text in texts]


def _story(found: Explanation) -> list[str]:
    if not found.trace:
        return []
    lines = []
    width = max(len(one.subject) for one in found.trace)
    for one in found.trace:
        lines.append(_cut(f"{_INDENT} {one.subject:<{width}}  {_plain(one.what)}"))
        if one.place and one.place.text.strip():
            number = f"{one.place.line}: " if one.place.line else ""
            text = _plain(one.place.text.strip())
            lines.append(click.style(_cut(f"{_INDENT} {'':<{width}}    {number}{text}"), dim=True))
    return [*lines, ""]


def _advice(found: Explanation) -> list[str]:
    if not found.code:
        return []
    first, *rest = found.code.replace("\t", "    ").split("\n")
    return [f"  write  {first}", *(f"         {line}".rstrip() for line in rest), ""]


def _words(found: Explanation) -> list[str]:
    words = [_cut(_plain(word)) for word in found.words]
    if not found.known:
        return [f"  {found.reason}:", *(f"    {word}" for word in words)]
    return [
        f"  {'verifier' if not at else '        '}  {word}" for at, word in enumerate(words[-3:])
    ]
