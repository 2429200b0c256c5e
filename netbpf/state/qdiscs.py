"""Which clsact qdiscs netbpf created, and so may remove.

A mark says "creating" before the qdisc is made and "created" afterwards. After a crash in between nobody can tell
whose an existing qdisc is: it then counts as somebody else's and stays.
"""

from netbpf import layout
from netbpf.model import Interface
from netbpf.state.files import write_whole

_CREATING, _CREATED = b"creating\n", b"created\n"


def mark_creating(interface: Interface) -> None:
    """Say that netbpf is about to create the qdisc of an interface."""
    write_whole(layout.qdisc_file(interface.netns, interface.index), _CREATING)


def mark_created(interface: Interface) -> None:
    """Say that netbpf created it."""
    write_whole(layout.qdisc_file(interface.netns, interface.index), _CREATED)


def created(interface: Interface) -> bool:
    """Whether netbpf created it."""
    try:
        return layout.qdisc_file(interface.netns, interface.index).read_bytes() == _CREATED
    except OSError:
        return False


def forget(interface: Interface) -> None:
    """Remove the mark, if there is one."""
    layout.qdisc_file(interface.netns, interface.index).unlink(missing_ok=True)
