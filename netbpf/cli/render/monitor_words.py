"""What went wrong, in a few words: where, in which program, what."""

from netbpf.listen.monitor import error_name
from netbpf.listen.monitor_model import Happening, Kind
from netbpf.model import Interface
from netbpf.text import escape


def where(happening: Happening, here: int) -> str:
    """The interface, with its network namespace unless that is ``here`` (an inode)."""
    if happening.interface is None:
        return f"cpumap {_map(happening)}"
    return _place(happening.interface, happening.netns, here)


def program(happening: Happening) -> str:
    """The program, with the members of a chain that may have done it; "" where nothing tells."""
    suspect = happening.program
    if suspect is None:
        return ""
    shown = f"{escape(suspect.name)} (program {suspect.id})"
    if not suspect.members:
        return shown
    names = " or ".join(escape(name) for name in suspect.members)
    return f"{names} of {shown}"


def what(happening: Happening, here: int) -> str:
    """What happened."""
    error = error_name(happening.errno)
    target = _place(happening.target, happening.target_netns, here) if happening.target else ""
    match happening.kind:
        case Kind.EXCEPTION:
            if happening.verdict.startswith("XDP_"):
                return happening.verdict
            return f"verdict {happening.verdict if happening.alike else 'unknown'}"
        case Kind.REDIRECT:
            through = f" through map {_map(happening)}" if happening.map_id else ""
            to = f" to {target}" if target else ""
            return f"redirect{to}{through}: {error}"
        case Kind.BULK_TX:
            return f"XDP_TX: {error or 'not all sent'}"
        case Kind.DEVMAP_XMIT:
            return f"sending to {target or '?'}: {error or 'not all sent'}"
        case Kind.CPUMAP_ENQUEUE:
            return f"queue of CPU {happening.cpu} full"
        case Kind.CPUMAP_KTHREAD:
            return f"no memory on CPU {happening.cpu}"
        case Kind.CPUMAP_PROGRAM:
            return f"dropped by the program on CPU {happening.cpu}"
        case Kind.DROP:
            by = f" in {escape(happening.function)}" if happening.function else ""
            return f"drop: {happening.reason}{by}"


def _place(interface: Interface, netns: str | None, here: int) -> str:
    name = escape(interface.name) or f"interface {interface.index}"
    if interface.netns == here:
        return name
    return f"{name} (netns {escape(netns) if netns else interface.netns})"


def _map(happening: Happening) -> str:
    return escape(happening.map_name) or str(happening.map_id)
