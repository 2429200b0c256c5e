"""What ``netbpf confirm`` prints, and what other commands say of changes that wait for a confirmation."""

import math
from typing import Any

import click

from netbpf.cli.output import print_json
from netbpf.cli.render.json_values import pending_json
from netbpf.manager.confirm import Confirmed, places
from netbpf.manager.pending import clock, in_words, span
from netbpf.state.pending import Pending, WentBack
from netbpf.text import escape


def print_confirmed(found: list[Confirmed], *, as_json: bool) -> None:
    """A line per change, or ``netbpf.confirm/1``."""
    if as_json:
        print_json("confirm", {
            "changes": [
                {**(pending_json(one.pending) or {}), "kept": not one.undone,
                 "went_back": [word_json(word) for word in one.undone]}
                for one in found
            ]
        })  # fmt: skip
        return
    for one in found:
        if not one.undone:
            click.echo(f"{places(one.pending)}: {one.pending.what} confirmed, it stays")
        for word in one.undone:
            place = f"{escape(word.interface.name)} {word.hook}"
            verb = "could not go back" if word.failed else "went back"
            rest = f" ({word.result})" if word.result else ""
            click.echo(f"{place}: {word.what} {verb}{rest}")


def word_json(word: WentBack) -> dict[str, Any]:
    """A hook that went back."""
    return {
        "interface": word.interface.name,
        "hook": word.hook.value,
        "netns": word.netns_name,
        "what": word.what,
        "at": word.at,
        "why": word.why,
        "result": word.result,
        "failed": word.failed,
    }


def pending_line(pending: Pending) -> str:
    """What to do about it, said by the command that did it."""
    confirm = command(pending)
    return (
        f"it goes back in {span(pending.seconds)}, at {clock(pending.since + pending.seconds)}, "
        f"unless confirmed: {confirm}"
    )


def command(pending: Pending) -> str:
    """The command that keeps it."""
    from shlex import quote

    namespace = f" --netns {quote(escape(pending.netns_name))}" if pending.netns_name else ""
    return f"netbpf confirm{namespace}"


def status_lines(waiting: list[Pending], gone: list[WentBack]) -> list[str]:
    """What ``status`` says below its table."""
    lines = []
    for one in waiting:
        if one.watched():
            left = f"goes back in {span(math.ceil(one.left))}"
        else:
            left = (
                f"should go back at {clock(one.since + one.seconds)}, but the process that waited for that was "
                "killed: the next netbpf command that changes something does it"
            )
        lines.append(f"{places(one)}: {one.what} {left} unless confirmed: {command(one)}")
    return [*lines, *map(in_words, gone)]
