"""How operations name what they find on a hook."""

import time

from netbpf.constants import Hook
from netbpf.model import Attachment, Interface
from netbpf.text import ago, escape, word


def where(interface: Interface, hook: Hook) -> str:
    """``eth0 tc/ingress``."""
    return f"{escape(interface.name)} {hook}"


def occupant_text(one: Attachment) -> str:
    """``xdp_drop (program 12, native, managed by netbpf)``; of others' programs also since when, and who holds them."""
    occupant = one.occupant
    by = f"managed by {one.manager}" if one.manager else "not managed by netbpf"
    name = escape(one.called) or "a program without a name"
    if not one.managed:
        by += _whose(one)
    return f"{name} (program {one.program.id}, {occupant.mode}{' link' if occupant.link_id else ''}, {by})"


def _whose(one: Attachment) -> str:
    """What the kernel shows of where a program came from."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - one.program.loaded_at_ns / 1e9
    user = f" by user {one.program.uid}" if one.program.uid else ""
    words = f", loaded {ago(max(age, 0))} ago{user}"
    if one.occupant.link_id:
        from netbpf.bpf.holders import link_holders  # only a link has them

        holders = str(link_holders(one.occupant.link_id))
        words += f", held by {holders}" if holders else ""
    return words


def hook_words(hook: Hook) -> str:
    """How a hook is written on a command line before the interface: ``xdp``, ``tc``."""
    return hook.value.partition("/")[0]


def upgrade_command(interface: Interface, hook: Hook, member: str) -> str:
    """The command that brings a member up to date."""
    direction = " --egress" if hook is Hook.TC_EGRESS else ""
    return (
        f"netbpf upgrade {hook_words(hook)} {word(interface.name)} {word(member)} OBJECT{direction}"
    )


def detach_command(one: Attachment, *, by_id: bool = False) -> str:
    """The command that takes it off; ``by_id`` where it is not alone on its hook."""
    occupant = one.occupant
    kind = "xdp" if occupant.hook is Hook.XDP else "tc"
    direction = "" if occupant.hook is Hook.XDP else f" --{occupant.hook.value.partition('/')[2]}"
    namespace = f" --netns {word(one.netns_name)}" if one.netns_name else ""
    force = "" if one.managed else " --force"
    number = f" --id {one.program.id}" if by_id else ""
    return (
        f"netbpf detach {kind} {word(occupant.interface.name)}{direction}{number}{force}{namespace}"
    )
