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


def fate(hook: Hook, verdict: int) -> str:
    """What a real hook does with a number that is no verdict; "" for those that are.

    net/core/filter.c bpf_warn_invalid_xdp_action; net/sched/cls_bpf.c cls_bpf_exec_opcode.
    """
    if not verdict_name(hook, verdict).lstrip("-").isdigit():
        return ""
    return "dropped, as aborted" if hook is Hook.XDP else "handled as unspec"
