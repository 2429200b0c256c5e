"""Detaching: find what is meant, take exactly that off, verify, forget."""

import errno
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from netbpf._sys.bpf import fd_by_id
from netbpf.constants import Hook
from netbpf.errors import (
    InterfaceNotFoundError,
    KernelError,
    NamespaceNotFoundError,
    NetbpfError,
    NotAttachedError,
    NotManagedError,
    UsageError,
)
from netbpf.manager import mechanism
from netbpf.manager.status import Records, described, opened
from netbpf.manager.words import detach_command, occupant_text, where
from netbpf.model import Attachment
from netbpf.net.interfaces import by_index, resolve
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from netbpf.state.records import Record
from netbpf.text import escape

TC_HOOKS = (Hook.TC_INGRESS, Hook.TC_EGRESS)


@dataclass(frozen=True, slots=True)
class DetachRequest:
    """One detach.

    ``hooks``, ``interface`` and ``prog_id`` narrow what is meant; ``force`` includes what netbpf did not attach.
    """

    hooks: tuple[Hook, ...] = (Hook.XDP, *TC_HOOKS)
    interface: str | None = None
    everything: bool = False
    force: bool = False
    missing_ok: bool = False
    prog_id: int | None = None
    lock_timeout: float = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Detached:
    """What was taken off. ``gone`` says why nothing was left to do: the interface or the namespace is gone."""

    interface: str
    hook: Hook
    program: str
    prog_id: int
    gone: str | None = None


def detach(request: DetachRequest, netns: str | Namespace | None = None) -> list[Detached]:
    """Carry out a request; what is gone with its interface or namespace counts as detached, and is said.

    Raises NotAttachedError, NotManagedError, UsageError where several are meant, and what net.xdp and net.tc raise.
    """
    with locked(request.lock_timeout):
        try:
            with ExitStack() as stack:
                namespace = stack.enter_context(opened(netns))
                session = stack.enter_context(Session(namespace))
                found = _Detaching(request, namespace, session).run()
        except NamespaceNotFoundError as error:
            found = _with_namespace(request, str(netns))
            if not found:
                raise error from None
        records.sweep(alive)
        return found


def alive(prog_id: int) -> bool:
    """Whether the kernel still has a program."""
    try:
        fd_by_id("PROG", prog_id).close()
    except KernelError as error:
        return error.errno != errno.ENOENT
    return True


def _with_namespace(request: DetachRequest, name: str) -> list[Detached]:
    """The namespace is gone, and every attachment in it: forget the records that were made under its name."""
    gone = [
        record
        for record in records.read_all()
        if record.netns_name == name
        and record.hook in request.hooks
        and request.interface in (None, record.interface)
    ]
    return [_forget(record, f"network namespace {escape(name)} is gone") for record in gone]


def _forget(record: Record, why: str) -> Detached:
    records.remove(record)
    last = record.generations[-1]
    return Detached(record.interface, record.hook, last.name, last.prog_id, why)


class _Detaching:
    """One request while the lock is held."""

    def __init__(self, request: DetachRequest, namespace: Namespace, session: Session) -> None:
        self.request, self.namespace, self.session = request, namespace, session
        self.known = Records()

    def run(self) -> list[Detached]:
        request = self.request
        try:
            ifindex = resolve(self.session, request.interface).index if request.interface else None
        except InterfaceNotFoundError:
            stale = self._stale(one for one in self.known.all if one.interface == request.interface)
            if stale or request.missing_ok:
                return stale
            raise
        found = [
            one
            for one in described(occupants(self.session, ifindex), self.known, self.namespace.name)
            if one.occupant.hook in request.hooks and request.prog_id in (None, one.program.id)
        ]
        wanted = found if request.force else [one for one in found if one.managed]
        if not wanted:
            return self._nothing(found, ifindex)
        if len(wanted) > 1 and not request.everything:
            listed = "; ".join(
                f"{where(one.occupant.interface, one.occupant.hook)}: {occupant_text(one)}"
                for one in wanted[:10]
            )
            more = f"; and {len(wanted) - 10} more" if len(wanted) > 10 else ""
            raise UsageError(
                f"{len(wanted)} attachments are meant: {listed}{more}",
                hint=f"name one, such as: {detach_command(wanted[0])}; or take off all of them with --all",
            )
        return [self._take(one) for one in wanted]

    def _take(self, one: Attachment) -> Detached:
        occupant = one.occupant
        mechanism.take(self.session, occupant)
        left = occupants(self.session, occupant.interface.index)
        if any(same.hook is occupant.hook and same.prog_id == occupant.prog_id for same in left):
            raise NetbpfError(
                f"{where(occupant.interface, occupant.hook)} still runs {occupant_text(one)} after it was taken off",
                hint="something attaches it again, or it is attached twice: netbpf status",
            )
        found = self.known.find(occupant)
        if found:
            records.remove(found[0])
        return Detached(occupant.interface.name, occupant.hook, one.program.name, one.program.id)

    # --- nothing to take off ---

    def _nothing(self, found: list[Attachment], ifindex: int | None) -> list[Detached]:
        request = self.request
        stale = self._stale(
            record for record in self.known.all if ifindex is None or record.ifindex == ifindex
        )
        if stale and not found:
            return stale
        on = f" on {escape(request.interface)}" if request.interface else ""
        if found:
            one = found[0]
            raise NotManagedError(
                f"{where(one.occupant.interface, one.occupant.hook)} runs {occupant_text(one)}: "
                "netbpf did not attach it",
                hint=f"use the tool that did, or: {detach_command(one)}",
            )
        if request.missing_ok:
            return []
        kinds = "/".join(dict.fromkeys(hook.value.split("/")[0] for hook in request.hooks))
        raise NotAttachedError(
            f"no {kinds} program is attached{on}", hint="netbpf status shows what runs where"
        )

    def _stale(self, candidates: Iterable[Record]) -> list[Detached]:
        """Records of this namespace whose interface is gone, or whose program the kernel no longer shows."""
        result = []
        for record in candidates:
            if record.netns != self.namespace.inode or record.hook not in self.request.hooks:
                continue
            name = escape(record.interface)
            interface = by_index(self.session, record.ifindex)
            why = f"{name} had lost it already" if interface else f"interface {name} is gone"
            result.append(_forget(record, why))
        return result
