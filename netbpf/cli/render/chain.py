"""What ``netbpf chain`` prints."""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import click

from netbpf import api
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.json_values import hook_json, member_json
from netbpf.cli.render.rounds import rounds
from netbpf.cli.render.status import shown_path
from netbpf.constants import Hook
from netbpf.errors import NotAttachedError
from netbpf.live.members import ChainCounts
from netbpf.model import Attachment
from netbpf.text import escape


class Chains(NamedTuple):
    """What is asked for: the hooks of an interface, or of all, and one member or all."""

    interface: str | None
    hooks: tuple[Hook, ...]
    member: str | None
    netns: str | None

    def read(self) -> list[ChainCounts]:
        """What runs there now. NotAttachedError where nothing of netbpf's does."""
        found = [
            one
            for one in api.chain(self.interface, self.hooks, netns=self.netns)
            if self.member is None or any(m.name == self.member for m in one.attachment.members)
        ]
        if not found:
            on = f" on {escape(self.interface)}" if self.interface else ""
            what = f"member {escape(self.member)}" if self.member else "program of netbpf's"
            raise NotAttachedError(f"no {what}{on}", hint="netbpf status shows what runs where")
        return found


def print_chains(wanted: Chains, *, as_json: bool) -> None:
    """A tree per hook, or ``netbpf.chain/1``."""
    found = wanted.read()
    if as_json:
        print_json("chain", {"hooks": [_json(one) for one in found]})
    else:
        say(_trees(found, wanted.member, {}))


def print_set(attachment: Attachment, member: str, *, as_json: bool) -> None:
    """What a member is now."""
    if as_json:
        print_json("chain", {"hooks": [_json(ChainCounts.of(attachment))]})
        return
    one = next(each for each in attachment.members if each.name == member)
    occupant = attachment.occupant
    position = attachment.members.index(one) + 1
    click.echo(
        f"{escape(occupant.interface.name)} {occupant.hook}: {escape(one.name)} is {position} of "
        f"{len(attachment.members)}, priority {one.priority}, proceeds on {_proceeds(one.proceed_on)}"
    )


def watch_chains(wanted: Chains, seconds: float, count: int | None, *, as_json: bool) -> None:
    """Again and again until Ctrl-C or ``count`` rounds: what came to each member per second since the last round."""
    before: dict[tuple[object, ...], int] = {}
    taken_at = 0.0
    with suppress(KeyboardInterrupt):
        for number in rounds(seconds, count):
            found, now = wanted.read(), time.monotonic()
            totals = {_key(one, name): n for one in found for name, n in one.packets.items()}
            elapsed = now - taken_at
            rates = {
                key: max(n - before[key], 0) / elapsed for key, n in totals.items() if key in before
            }
            if as_json:
                print_json("chain", {"hooks": [_json(one, rates) for one in found]})
            elif number:  # the first reading has no rates yet
                say(_trees(found, wanted.member, rates))
            sys.stdout.flush()
            before, taken_at = totals, now


def _key(one: ChainCounts, name: str) -> tuple[object, ...]:
    occupant = one.attachment.occupant
    return (occupant.interface.index, occupant.hook, name)


def _json(one: ChainCounts, rates: dict[tuple[object, ...], float] | None = None) -> dict[str, Any]:
    attachment = one.attachment
    members = []
    for position, member in enumerate(attachment.members):
        verdicts = one.verdicts.get(member.name)
        rate = (rates or {}).get(_key(one, member.name))
        members.append(
            member_json(member, position, attachment.program)
            | {
                "packets": None if verdicts is None else sum(verdicts.values()),
                "verdicts": verdicts or {},
            }
            | ({} if rates is None else {"packets_per_second": rate})
        )
    return hook_json(attachment) | {"members": members}


# --- text ---


def _trees(
    found: list[ChainCounts], only: str | None, rates: dict[tuple[object, ...], float]
) -> Iterator[Line]:
    for index, one in enumerate(found):
        if index:
            yield Line("")
        yield from _tree(one, only, rates)


def _tree(
    one: ChainCounts, only: str | None, rates: dict[tuple[object, ...], float]
) -> Iterator[Line]:
    occupant, members = one.attachment.occupant, one.attachment.members
    how = f"{occupant.mode} link" if occupant.link_id else occupant.mode.value
    what = f"{len(members)} members" if len(members) > 1 else "one program"
    yield Line(
        f"{escape(occupant.interface.name)} {occupant.hook} ({how}): {what}, "
        f"program {one.attachment.program.id}",
        "bold",
    )
    branch, last = _glyphs()
    columns = ["   MEMBER", "PRIORITY", "PROCEEDS ON", "PACKETS", "DROPPED", "VERDICTS", "OBJECT"]
    if rates:
        columns.insert(4, "PER SECOND")
    made = Table(*columns, right=("PRIORITY", "PACKETS", "PER SECOND", "DROPPED"))
    for position, member in enumerate(members):
        if only not in (None, member.name):
            continue
        counts = one.verdicts.get(member.name)
        cells = [
            f"{last if position == len(members) - 1 else branch} {escape(member.name)}",
            str(member.priority),
            _proceeds(member.proceed_on),
            "-" if counts is None else f"{sum(counts.values()):,}",
            "-" if counts is None else _share(counts),
            "-" if counts is None else ", ".join(f"{name} {n:,}" for name, n in counts.items()),
            escape(shown_path(member.object.path)),
        ]
        if rates:
            cells.insert(4, f"{rates.get(_key(one, member.name), 0.0):,.0f}")
        made.add_row(*cells)
    yield from made.lines()
    if not one.verdicts:
        yield Line("   (a program that runs alone is not counted by netbpf)", "dim")


def _share(counts: dict[str, int]) -> str:
    """The share of packets that the member dropped."""
    total = sum(counts.values())
    dropped = sum(counts.get(name, 0) for name in ("drop", "aborted", "shot"))
    return f"{100 * dropped / total:.1f}%" if total else "-"


def _proceeds(names: tuple[str, ...]) -> str:
    return ",".join(names) or "nothing"


def _glyphs() -> tuple[str, str]:
    """The branches of a tree, in what the output can write."""
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    return ("├─", "└─") if encoding == "utf8" else ("|-", "`-")
