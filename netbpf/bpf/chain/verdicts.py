"""Verdicts by name: what hands a packet on, and what the dispatcher counts.

Names are those of the kernel without their prefix (``enum xdp_action``, include/uapi/linux/bpf.h; ``TC_ACT_*``,
include/uapi/linux/pkt_cls.h). The kernel's full names are understood too, and the words of tc(8).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from netbpf.constants import Hook, TcAction, XdpAction
from netbpf.errors import UsageError
from netbpf.text import did_you_mean, escape

COUNTER = 8  # bytes
OTHER = "other"  # what the counters call a number that is no verdict of the hook
_NONE = "none"  # said alone: no verdict hands the packet on


@dataclass(frozen=True, slots=True)
class Layout:
    """One slot of counters: verdict v is counted at index v + ``shift`` of ``count``; what has none, at the last."""

    shift: int
    count: int

    @property
    def stride(self) -> int:
        """Bytes of one slot."""
        return self.count * COUNTER

    def index(self, verdict: int) -> int:
        """Where a verdict is counted."""
        at = verdict + self.shift
        return at if 0 <= at < self.count else self.count - 1


# Sixteen slots of XDP fill as many cache lines; those of TC, one and a half each.
XDP_LAYOUT = Layout(0, 8)  # XDP_ABORTED 0 ... XDP_REDIRECT 4
TC_LAYOUT = Layout(1, 12)  # TC_ACT_UNSPEC -1 ... TC_ACT_TRAP 8

# In the order in which they are shown and tried: what hands packets on usually comes first.
_XDP = {
    one.name.lower(): one.value for one in sorted(XdpAction, key=lambda a: a is not XdpAction.PASS)
}
_TC_FIRST = [TcAction.UNSPEC, TcAction.PIPE, TcAction.OK]
_TC = {
    one.name.lower(): one.value
    for one in [*_TC_FIRST, *(a for a in TcAction if a not in _TC_FIRST)]
}
_TC_WORDS = {"continue": "unspec", "pass": "ok", "drop": "shot"}  # tc-actions(8)


def layout(hook: Hook) -> Layout:
    """How the verdicts of a hook are counted."""
    return XDP_LAYOUT if hook is Hook.XDP else TC_LAYOUT


def known(hook: Hook) -> dict[str, int]:
    """The verdicts of a hook by name, as numbers."""
    return dict(_XDP if hook is Hook.XDP else _TC)


def default(hook: Hook) -> tuple[str, ...]:
    """What hands a packet on unless something else is said: XDP ``pass``; TC ``unspec`` and ``pipe``."""
    return ("pass",) if hook is Hook.XDP else ("unspec", "pipe")


def names(hook: Hook, given: Iterable[str] | None) -> tuple[str, ...]:
    """Verdicts as netbpf writes them, each once, in one order; None gives the hook's default, "none" alone nothing.

    Raises UsageError for a name that is no verdict of the hook; it lists those that are.
    """
    if given is None:
        return default(hook)
    words = [one.strip().lower() for one in given]
    if words == [_NONE]:
        return ()
    asked = {_name(hook, word) for word in words}
    return tuple(one for one in known(hook) if one in asked)


def _name(hook: Hook, word: str) -> str:
    table = known(hook)
    short = word.removeprefix("xdp_" if hook is Hook.XDP else "tc_act_")
    if hook is not Hook.XDP:
        short = _TC_WORDS.get(short, short)
    if short not in table:
        kind = "XDP" if hook is Hook.XDP else "TC"
        raise UsageError(
            f"{escape(word)!r} is no {kind} verdict",
            hint=f"the verdicts are {', '.join(table)}; or none alone"
            if not word
            else did_you_mean(short, table, "the verdicts are"),
        )
    return short


def numbers(hook: Hook, given: Iterable[str] | None) -> tuple[int, ...]:
    """The same as the kernel's numbers, in the order of ``names``."""
    table = known(hook)
    return tuple(table[one] for one in names(hook, given))
