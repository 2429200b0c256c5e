"""What tests call a verdict, and what becomes of a packet that gets it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, TypeAlias

from netbpf.constants import Hook, TcAction, XdpAction
from netbpf.packets.verdicts import verdict_name, verdict_numbers, verdict_words
from netns_fixtures.errors import TrafficError
from netns_fixtures.kinds import AttachKind

Fate = Literal["pass", "drop", "back", "redirect"]
# "pass", "drop", "tx", "XDP_ABORTED", "shot" ...; XdpAction.TX, a number; or one of these for each family.
Verdict: TypeAlias = str | int | dict[str, "str | int"]

_XDP: Final[dict[int, Fate]] = {
    XdpAction.PASS: "pass", XdpAction.TX: "back", XdpAction.REDIRECT: "redirect",
}  # fmt: skip
_TC: Final[dict[int, Fate]] = {
    TcAction.SHOT: "drop", TcAction.STOLEN: "drop", TcAction.QUEUED: "drop", TcAction.TRAP: "drop",
    TcAction.REDIRECT: "redirect",
}  # fmt: skip


def fate(hook: Hook, verdict: int) -> Fate:
    """What becomes of the packet; of what is no verdict XDP makes a drop, and TC no opinion."""
    if hook is Hook.XDP:
        return _XDP.get(verdict, "drop")
    return _TC.get(verdict, "pass")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The verdicts that a test accepts, what they come to, and what it calls them."""

    numbers: frozenset[int]
    fate: Fate
    words: str


def wanted(kind: AttachKind, verdict: Verdict) -> Wanted:
    """Read what a test asks for. TrafficError for a verdict that the hook does not have."""
    if isinstance(verdict, dict):
        if kind.family not in verdict:
            raise TrafficError(f"{verdict!r} says nothing of {kind.family}")
        verdict = verdict[kind.family]
    hook = Hook(kind.hook)
    if not isinstance(verdict, str):
        number = int(verdict)
        words = verdict.name.lower() if isinstance(verdict, IntEnum) else verdict_name(hook, number)
        return Wanted(frozenset({number}), fate(hook, number), words)
    numbers = verdict_numbers(hook, verdict)
    if not numbers:
        raise TrafficError(
            f"{verdict!r} is no verdict of {kind.family}; there are {', '.join(verdict_words(hook))}"
        )
    return Wanted(numbers, fate(hook, min(numbers)), verdict)
