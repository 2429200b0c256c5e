"""Clearing away what interrupted operations and vanished interfaces left: pins, records, objects, qdiscs.

Changes that nobody confirmed, and whose watcher was killed, go back here.

Nothing here is needed for the next operation to succeed: what is left behind never counts, because the kernel does
not confirm it. It is memory, and an empty qdisc, that would be wasted.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from netbpf._sys.bpf import fd_by_id
from netbpf._sys.info import link_info
from netbpf.bpf import pin
from netbpf.constants import Hook
from netbpf.errors import KernelError, NetbpfError, PermissionDeniedError
from netbpf.manager import mappinned, mechanism, pending
from netbpf.model import Interface
from netbpf.net.interfaces import by_index
from netbpf.net.netns import all_namespaces
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as stored
from netbpf.state import qdiscs, records, taps
from netbpf.state.records import Record
from netbpf.text import escape


def alive(prog_id: int) -> bool:
    """Whether the kernel still has a program; yes where it may not be asked."""
    try:
        fd_by_id("PROG", prog_id).close()
    except KernelError as error:
        return error.errno != errno.ENOENT
    return True


def repair(session: Session) -> tuple[str, ...]:
    """Clear away, with the lock held; what was found in the way that somebody should know of."""
    notes = pending.repair(session)
    if taps.names():
        from netbpf.manager.taps import sweep  # it loads programs: that is not for every command

        notes += sweep(session)
    released = drop_defunct_pins()

    def dead(record: Record, prog_id: int) -> bool:
        place = (record.netns, record.ifindex, record.hook.value, prog_id)
        return place in released or not alive(prog_id)

    with _later():
        mappinned.sweep(dead)
    left = records.sweep(dead, stored.needed_records())
    kept = {(one.netns, one.ifindex) for one in left if one.hook is not Hook.XDP}
    return (*notes, *_unused_qdiscs(session, kept))


def drop_defunct_pins() -> set[tuple[int, int, str, int]]:
    """Remove pins of links that are on nothing: their interface is gone, or a detach was interrupted.

    The places they stood for with the programs they held: the kernel lets go of these a moment later.
    """
    released = set()
    for path in mechanism.pins():
        with _later():
            link = pin.open_pin(path)
            if link is None:
                continue
            with link:
                info = link_info(link.fileno())
            if info.ifindex == 0:
                pin.unpin(path)
                netns, ifindex, hook = (*path.name.split("-", 2), "", "")[:3]
                if netns.isdecimal() and ifindex.isdecimal():
                    released.add((int(netns), int(ifindex), hook.replace("-", "/"), info.prog_id))
    return released


@contextmanager
def _later() -> Iterator[None]:
    """What the kernel does not tell now (no memory) stays where it is, and keeps nothing else from being cleared."""
    try:
        yield
    except PermissionDeniedError:
        raise
    except KernelError:
        pass


def tidy(session: Session) -> None:
    """Clear away after a change that has been made: whether or not that goes well, the change stays."""
    with suppress(NetbpfError):
        repair(session)


def _unused_qdiscs(session: Session, kept: set[tuple[int, int]]) -> list[str]:
    """Remove the clsact qdiscs that netbpf made and nobody uses, and the marks of those that are gone.

    ``kept`` are the places (inode of the namespace, ifindex) where netbpf still runs something.
    """
    left = [place for place in qdiscs.marked() if place not in kept]
    notes: list[str] = []
    elsewhere: dict[int, list[int]] = {}
    for netns, ifindex in left:
        if netns == session.namespace.inode:
            notes += _unused_qdisc(session, ifindex)
        else:
            elsewhere.setdefault(netns, []).append(ifindex)
    if elsewhere:  # only after a crash, or when a namespace was deleted
        for namespace in all_namespaces():
            indexes = elsewhere.pop(namespace.inode, [])
            try:
                if indexes:
                    with Session(namespace) as other:
                        for ifindex in indexes:
                            notes += _unused_qdisc(other, ifindex)
            except NetbpfError:
                continue  # it may not be entered: its marks stay
        for netns, indexes in elsewhere.items():
            for ifindex in indexes:
                qdiscs.forget(netns, ifindex)
    return notes


def _unused_qdisc(session: Session, ifindex: int) -> list[str]:
    netns = session.namespace.inode
    interface = by_index(session, ifindex) or Interface("", ifindex, netns)
    if not interface.name or not qdiscs.made(interface, session.cookie()):
        qdiscs.forget(netns, ifindex)
        return []
    if mechanism.drop_clsact(session, interface):
        return [f"{escape(interface.name)}: removed a clsact qdisc that netbpf had left behind"]
    return []
