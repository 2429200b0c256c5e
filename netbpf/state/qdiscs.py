"""Which clsact qdiscs netbpf created, and so may remove.

A mark is written when an interface has no such qdisc, directly before netbpf makes it, and removed when the qdisc
is. So a crash in between leaves a mark too many, never a qdisc that nobody answers for. Numbers of namespaces and
interfaces are used again by the kernel: a mark also holds the namespace's cookie (SO_NETNS_COOKIE, Linux 5.14),
which is not, and the boot it was made in.
"""

from collections.abc import Iterator

from netbpf import layout
from netbpf.model import Interface
from netbpf.state.files import discard, files_in, read_small, write_whole
from netbpf.state.records import boot_id

_LIMIT = 200  # bytes


def mark(interface: Interface, cookie: int) -> None:
    """Say that the qdisc of an interface is netbpf's, or will be in a moment. NetbpfError."""
    write_whole(layout.qdisc_file(interface.netns, interface.index), _content(cookie))


def made(interface: Interface, cookie: int) -> bool:
    """Whether the qdisc of an interface, if there is one, is netbpf's."""
    path = layout.qdisc_file(interface.netns, interface.index)
    return read_small(path, _LIMIT) == _content(cookie)


def forget(netns: int, ifindex: int) -> None:
    """Remove the mark, if there is one."""
    discard(layout.qdisc_file(netns, ifindex))


def marked() -> Iterator[tuple[int, int]]:
    """The places with a mark: inode of the namespace, and ifindex. What is no mark is removed."""
    for path in files_in(layout.qdisc_file(0, 0).parent):
        netns, _, ifindex = path.name.partition("-")
        if netns.isdecimal() and ifindex.isdecimal():
            yield int(netns), int(ifindex)
        else:
            discard(path)


def _content(cookie: int) -> bytes:
    return f"{cookie} {boot_id()}\n".encode()
