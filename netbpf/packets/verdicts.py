"""Verdicts: their names, and what a hook would do with a number that has none."""

from netbpf.constants import Hook, TcAction, XdpAction

_TOP = 1 << 31


def verdict_of(hook: Hook, returned: int) -> int:
    """The verdict in what TEST_RUN returns, a u32: TC's are signed (TC_ACT_UNSPEC is -1)."""
    return returned if hook is Hook.XDP or returned < _TOP else returned - 2 * _TOP


def verdict_name(hook: Hook, verdict: int) -> str:
    """ "pass", "drop", "shot" ...; a number that is no verdict as it is."""
    try:
        return (XdpAction(verdict) if hook is Hook.XDP else TcAction(verdict)).name.lower()
    except ValueError:
        return str(verdict)


def verdict_number(hook: Hook, name: str) -> int | None:
    """The verdict of a name, also in capitals and with its prefix (XDP_PASS, TC_ACT_OK), or None."""
    upper = name.upper().removeprefix("XDP_").removeprefix("TC_ACT_")
    actions = XdpAction if hook is Hook.XDP else TcAction
    return next((int(one) for one in actions if one.name == upper), None)


# What the words of XDP mean at TC, where a program says as much in several ways.
_AT_TC = {
    "drop": frozenset({int(TcAction.SHOT)}),
    "pass": frozenset({int(TcAction.OK), int(TcAction.UNSPEC), int(TcAction.PIPE)}),
}


def verdict_numbers(hook: Hook, name: str) -> frozenset[int]:
    """The verdicts a test means by a name: one, but for TC's "pass" (ok, unspec, pipe); none where it is no verdict."""
    if hook is not Hook.XDP and name in _AT_TC:
        return _AT_TC[name]
    number = verdict_number(hook, name)
    return frozenset() if number is None else frozenset({number})


def verdict_words(hook: Hook) -> list[str]:
    """The names that ``verdict_numbers`` knows."""
    actions = XdpAction if hook is Hook.XDP else TcAction
    words = [] if hook is Hook.XDP else [*_AT_TC]
    return list(dict.fromkeys([*words, *(one.name.lower() for one in actions)]))


def fate(hook: Hook, verdict: int) -> str:
    """What a real hook does with a number that is no verdict; "" for those that are.

    net/core/filter.c bpf_warn_invalid_xdp_action; net/sched/cls_bpf.c cls_bpf_exec_opcode.
    """
    if not verdict_name(hook, verdict).lstrip("-").isdigit():
        return ""
    return "dropped, as aborted" if hook is Hook.XDP else "handled as unspec"
