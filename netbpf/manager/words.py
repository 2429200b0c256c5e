"""How operations name what they find on a hook."""

from netbpf.constants import Hook
from netbpf.model import Attachment, Interface
from netbpf.text import escape


def where(interface: Interface, hook: Hook) -> str:
    """``eth0 tc/ingress``."""
    return f"{escape(interface.name)} {hook}"


def occupant_text(one: Attachment) -> str:
    """``xdp_drop (program 12, native, managed by netbpf)``."""
    occupant = one.occupant
    by = f"managed by {one.manager}" if one.manager else "not managed by netbpf"
    name = escape(one.program.name) or "a program without a name"
    return f"{name} (program {one.program.id}, {occupant.mode}{' link' if occupant.link_id else ''}, {by})"


def hook_words(hook: Hook) -> str:
    """How a hook is written on a command line before the interface: ``xdp``, ``tc``."""
    return hook.value.partition("/")[0]


def upgrade_command(interface: Interface, hook: Hook, member: str) -> str:
    """The command that brings a member up to date."""
    direction = " --egress" if hook is Hook.TC_EGRESS else ""
    return f"netbpf upgrade {hook_words(hook)} {_word(interface.name)} {_word(member)} OBJECT{direction}"


def detach_command(one: Attachment, *, by_id: bool = False) -> str:
    """The command that takes it off; ``by_id`` where it is not alone on its hook."""
    occupant = one.occupant
    kind = "xdp" if occupant.hook is Hook.XDP else "tc"
    direction = "" if occupant.hook is Hook.XDP else f" --{occupant.hook.value.partition('/')[2]}"
    namespace = f" --netns {_word(one.netns_name)}" if one.netns_name else ""
    force = "" if one.managed else " --force"
    number = f" --id {one.program.id}" if by_id else ""
    return f"netbpf detach {kind} {_word(occupant.interface.name)}{direction}{number}{force}{namespace}"


def _word(text: str) -> str:
    """One word of a command line: an interface may be called ``a;b``."""
    from shlex import quote

    return quote(escape(text))
