"""What runs on which hook: the kernel's answer, with what netbpf's records and others' habits add to it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from netbpf.bpf.program import Program
from netbpf.constants import CHAIN_NAME, Mode
from netbpf.errors import InterfaceNotFoundError, NotAttachedError
from netbpf.manager.owner import BPFMAN, LIBXDP, NETBPF, owner
from netbpf.model import Attachment, Member, Neighbour, Occupant, ProgramInfo
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace, all_namespaces
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state import taps as lives
from netbpf.state.codec import revive
from netbpf.state.records import Generation, Record


class Records:
    """All records of this host, found by the place of a hook or by the program on it."""

    def __init__(self, known: Iterable[Record] | None = None) -> None:
        self.all = list(records.read_all() if known is None else known)
        self._by_place = {(one.netns, one.ifindex, one.hook): one for one in self.all}

    def find(self, occupant: Occupant) -> tuple[Record, Generation] | None:
        """The record that speaks of what is on a hook, if any.

        An interface that moved to another namespace takes its XDP program along (measured on Linux 6.18), so a
        record of the same hook and program elsewhere counts too.
        """
        here = occupant.interface
        at = self._by_place.get((here.netns, here.index, occupant.hook))
        candidates = [at] if at else []
        candidates += [one for one in self.all if one is not at and one.hook is occupant.hook]
        for record in candidates:
            generation = record.generation(occupant.prog_id)
            if generation and generation.mode is occupant.mode:
                return record, generation
        return None

    def generation(self, occupant: Occupant, info: ProgramInfo) -> Generation | None:
        """What netbpf runs on a hook: by its record, or by what a chain says of itself where that is lost."""
        found = self.find(occupant)
        if found:
            return found[1]
        return recalled(info, occupant.mode) if info.name == CHAIN_NAME else None


def recalled(info: ProgramInfo, mode: Mode) -> Generation | None:
    """What a chain says of itself, or None where it does not."""
    from netbpf.bpf.chain.description import read  # only where a record is lost

    said = read(info)
    if said is None:
        return None
    counters, data = said
    try:
        members = tuple(revive(Member, one) for one in data)
    except (ValueError, TypeError, AttributeError):
        return None
    if len(members) < 2:
        return None
    attached_at = max(one.added_at for one in members)
    return Generation(info.id, info.tag, info.name, mode, attached_at, members, counters)


def describe(
    occupant: Occupant, known: Records, netns_name: str | None = None
) -> Attachment | None:
    """An occupant with its program and its manager; None where the program is gone already."""
    try:
        with Program.by_id(occupant.prog_id) as program:
            info: ProgramInfo = program.info
    except NotAttachedError:
        return None
    found = known.generation(occupant, info)
    if found is None:
        return _foreign(occupant, info, netns_name)
    alone = found.members[0].object if len(found.members) == 1 else None
    return Attachment(
        occupant, info, True, NETBPF, alone, netns_name, found.attached_at, found.members,
        found.counters, taps=found.taps,
        ended=tuple(one.name for one in found.taps if not lives.alive(one.name)),
    )  # fmt: skip


def _foreign(occupant: Occupant, info: ProgramInfo, netns_name: str | None) -> Attachment:
    manager = owner(occupant, info)
    beside: tuple[Neighbour, ...] = ()
    if manager in (LIBXDP, BPFMAN):
        from netbpf.manager.neighbours import neighbours  # only where there is a dispatcher

        beside = neighbours(occupant, info)
    return Attachment(occupant, info, False, manager, netns_name=netns_name, neighbours=beside)


def reached_by(namespace: Namespace) -> str | None:
    """What ``--netns`` takes to get to a namespace: its name, or the path or process it was opened by.

    None for the calling thread's own, unless it has a name, and for one that only this process can reach.
    """
    if namespace.name or namespace.is_current():
        return namespace.name
    return namespace.label if "/" in namespace.label or namespace.label.startswith("pid:") else None


@contextmanager
def opened(netns: str | Namespace | None) -> Iterator[Namespace]:
    """The namespace of a name or path, or the current one; closed afterwards unless it was open before."""
    if isinstance(netns, Namespace):
        yield netns
        return
    # An empty name is an error, not the current namespace: it comes from a shell's empty variable.
    with Namespace.current() if netns is None else Namespace.open(netns) as namespace:
        yield namespace


def status(
    interface: str | None = None, *, netns: str | Namespace | None = None, all_netns: bool = False
) -> list[Attachment]:
    """Every XDP, clsact and TCX program, by interface and in running order.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError (CAP_SYS_ADMIN to read programs by
    their id; CAP_NET_ADMIN is not needed).
    """
    known = Records()
    if all_netns:
        found: list[Attachment] = []
        for namespace in all_namespaces():
            with namespace:
                found += _in_namespace(namespace, interface, known, strict=False)
        return found
    with opened(netns) as namespace:
        return _in_namespace(namespace, interface, known, strict=True)


def _in_namespace(
    namespace: Namespace, interface: str | None, known: Records, *, strict: bool
) -> list[Attachment]:
    with Session(namespace) as session:
        ifindex: int | None = None
        if interface is not None:
            try:
                ifindex = resolve(session, interface).index
            except InterfaceNotFoundError:
                if strict:
                    raise
                return []
        return list(described(occupants(session, ifindex), known, reached_by(namespace)))


def described(
    found: Iterable[Occupant], known: Records, netns_name: str | None
) -> Iterator[Attachment]:
    """Every occupant with its program and manager, without those that vanish meanwhile."""
    for occupant in found:
        attachment = describe(occupant, known, netns_name)
        if attachment:
            yield attachment
