"""What waits for a confirmation, and what went back, for those who only look."""

from typing import NamedTuple

from netbpf.manager.status import opened
from netbpf.net.netns import Namespace
from netbpf.state import pending as store
from netbpf.state.pending import Pending, WentBack


class Waiting(NamedTuple):
    """Changes that wait, by their deadline, and hooks that went back within a day, the latest last."""

    pending: list[Pending]
    went_back: list[WentBack]


def waiting(
    interface: str | None = None, *, netns: str | Namespace | None = None, all_netns: bool = False
) -> Waiting:
    """Those of a namespace, of all with ``all_netns``; with ``interface`` only what touches it.

    An operation that runs at this moment waits for nothing yet, and is left out.
    """
    pending = sorted(store.waiting(), key=lambda one: one.deadline)
    gone = sorted(store.went_back(), key=lambda one: one.at)
    if pending or gone:
        if not all_netns:
            with opened(netns) as namespace:
                inode = namespace.inode
            pending = [one for one in pending if one.netns == inode]
            gone = [one for one in gone if one.interface.netns == inode]
        if interface is not None:
            pending = [
                one for one in pending if any(s.interface.name == interface for s in one.steps)
            ]
            gone = [one for one in gone if one.interface.name == interface]
    return Waiting(pending, gone)
