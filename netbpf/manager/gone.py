"""Records of what is not where it was: the interface or the namespace vanished, moved, or got another name."""

from collections.abc import Iterable

from netbpf.constants import Mode
from netbpf.errors import InterfaceNotFoundError, NamespaceNotFoundError, NetbpfError
from netbpf.manager.repair import alive
from netbpf.manager.status import Records
from netbpf.model import Occupant
from netbpf.net.interfaces import by_index
from netbpf.net.netns import Namespace, all_namespaces
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.records import Record
from netbpf.text import escape


def stale(session: Session, candidates: Iterable[Record]) -> list[tuple[Record, str]]:
    """Those whose program is on no hook any more, with the reason; they are forgotten.

    Raises InterfaceNotFoundError for one that still runs elsewhere: its interface was renamed or moved to another
    namespace (XDP and TCX programs move along, clsact filters do not; measured on Linux 6.18).
    """
    found = []
    for record in candidates:
        name = escape(record.interface)
        interface = by_index(session, record.ifindex)
        here = occupants(session, record.ifindex) if interface else []
        if interface and any(_speaks_of(record, one) for one in here):
            if interface.name == record.interface:
                continue
            raise InterfaceNotFoundError(
                f"interface {name} is called {escape(interface.name)} now",
                hint=f"netbpf detach {escape(interface.name)}",
            )
        moved = _elsewhere(record)
        if moved is not None:
            namespace, one = moved
            raise InterfaceNotFoundError(
                f"interface {name} is not in this network namespace any more, and took its program "
                f"{one.prog_id} along to {escape(namespace)}",
                hint=f"netbpf detach {escape(one.interface.name)} --netns {escape(namespace)}",
            )
        why = f"{name} had lost it already" if interface else f"interface {name} is gone"
        records.remove(record)
        found.append((record, why))
    return found


def with_namespace(name: str, candidates: Iterable[Record]) -> list[tuple[Record, str]]:
    """Records made in a namespace called ``name``, which is gone with all that ran in it; they are forgotten.

    Raises NamespaceNotFoundError if it has lost its name only: a process is still in it.
    """
    found = []
    for record in candidates:
        survivor = _elsewhere(record)
        if survivor is not None:
            namespace, one = survivor
            raise NamespaceNotFoundError(
                f"network namespace {escape(name)} is gone, but interface {escape(one.interface.name)} still runs "
                f"program {one.prog_id} in {escape(namespace)}",
                hint=f"netbpf detach {escape(one.interface.name)} --netns {escape(namespace)}",
            )
        records.remove(record)
        found.append((record, f"network namespace {escape(name)} is gone"))
    return found


def _elsewhere(record: Record) -> tuple[str, Occupant] | None:
    """Where a record's program runs now, if in a namespace that can be seen: its name, and the place.

    A program can be on several interfaces; a place that has a record of its own is not this one's.
    """
    ids = {one.prog_id for one in record.generations if one.mode is not Mode.CLSACT}
    if not any(map(alive, ids)):
        return None
    others = Records(one for one in records.read_all() if one != record)
    for namespace in all_namespaces():
        for one in _seen(namespace):
            if _speaks_of(record, one) and others.find(one) is None:
                return namespace.label, one
    return None


def _seen(namespace: Namespace) -> list[Occupant]:
    try:
        with Session(namespace) as session:
            return occupants(session)
    except NetbpfError:
        return []  # it may not be entered


def _speaks_of(record: Record, one: Occupant) -> bool:
    generation = record.generation(one.prog_id)
    return one.hook is record.hook and generation is not None and generation.mode is one.mode
