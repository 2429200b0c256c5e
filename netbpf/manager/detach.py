"""Detaching: find what is meant, take exactly that off, verify, forget."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from netbpf.constants import Hook
from netbpf.errors import (
    InterfaceNotFoundError,
    NamespaceNotFoundError,
    NetbpfError,
    NotAttachedError,
    NotManagedError,
    UsageError,
)
from netbpf.manager import gone, mechanism, pending
from netbpf.manager import members as on_hook
from netbpf.manager.guard import UNGUARDED, Guard, guarded
from netbpf.manager.mappinned import release
from netbpf.manager.members import Members
from netbpf.manager.repair import repair
from netbpf.manager.status import Records, described, opened, reached_by
from netbpf.manager.undo import Undo, uninterrupted
from netbpf.manager.words import detach_command, occupant_text, where
from netbpf.model import Attachment, Member
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace, name_of
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from netbpf.state.pending import Pending
from netbpf.state.records import Record
from netbpf.state.taps import alive
from netbpf.text import did_you_mean, escape

TC_HOOKS = (Hook.TC_INGRESS, Hook.TC_EGRESS)


@dataclass(frozen=True, slots=True)
class DetachRequest:
    """One detach.

    ``hooks``, ``interface`` and ``prog_id`` narrow what is meant; ``force`` includes what netbpf did not attach.
    ``member`` takes one out of what runs there, ``added_at`` only if it was added at that time. Where ``confirm`` is
    given, it goes back by itself after so many seconds unless it is confirmed.
    """

    hooks: tuple[Hook, ...] = (Hook.XDP, *TC_HOOKS)
    interface: str | None = None
    everything: bool = False
    force: bool = False
    missing_ok: bool = False
    prog_id: int | None = None
    member: str | None = None
    added_at: float | None = None
    confirm: float | None = None
    lock_timeout: float = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Detached:
    """What was taken off. ``gone`` says why nothing was left to do: the interface or the namespace is gone.

    ``left`` are the members that still run on the hook. ``pending`` is set where it has to be confirmed.
    """

    interface: str
    hook: Hook
    program: str
    prog_id: int
    gone: str | None = None
    left: tuple[str, ...] = ()
    pending: Pending | None = None


def detach(request: DetachRequest, netns: str | Namespace | None = None) -> list[Detached]:
    """Carry out a request; what is gone with its interface or namespace counts as detached, and is said.

    Raises NotAttachedError, NotManagedError, UsageError where several are meant, and what net.xdp and net.tc raise.
    """
    with ExitStack() as before:
        guard = before.enter_context(_guarded(request, netns))
        return _detach(request, netns, guard)


@contextmanager
def _guarded(request: DetachRequest, netns: str | Namespace | None) -> Iterator[Guard]:
    """A guard that is ready before the lock is taken."""
    if request.confirm is None:
        yield UNGUARDED
        return
    with opened(netns) as namespace, guarded(request.confirm, "detach", namespace) as guard:
        yield guard


def _detach(request: DetachRequest, netns: str | Namespace | None, guard: Guard) -> list[Detached]:
    with locked(request.lock_timeout), uninterrupted() as checkpoint, ExitStack() as stack:
        try:
            namespace = stack.enter_context(opened(netns))
        except NamespaceNotFoundError as error:
            found = _with_namespace(request, str(netns))
            if not found:
                raise error from None
            namespace = stack.enter_context(Namespace.current())
            return _repaired(stack.enter_context(Session(namespace)), found)
        session = stack.enter_context(Session(namespace))
        try:
            pending.repair(session)  # what is due has to be back before anybody asks what is there
            found = _Detaching(request, namespace, session, guard).run(checkpoint)
        except NetbpfError:
            _repaired(session, [])
            raise
        return _repaired(session, found)


def _repaired(session: Session, found: list[Detached]) -> list[Detached]:
    # What has been taken off stays off, whether or not all of its traces can be removed.
    with suppress(NetbpfError):
        repair(session)
    return found


def _with_namespace(request: DetachRequest, spec: str) -> list[Detached]:
    """The namespace is gone, and every attachment in it: the records that were made under its name."""
    name = name_of(spec)
    candidates = [
        record
        for record in records.read_all()
        if record.netns_name == name
        and record.hook in request.hooks
        and request.interface in (None, record.interface)
    ]
    return [_forgotten(*one) for one in gone.with_namespace(name, candidates)] if name else []


def _forgotten(record: Record, why: str) -> Detached:
    last = record.generations[-1]
    names = ", ".join(one.name for one in last.members)
    return Detached(record.interface, record.hook, names, last.prog_id, why)


class _Detaching:
    """One request while the lock is held."""

    def __init__(
        self, request: DetachRequest, namespace: Namespace, session: Session, guard: Guard
    ) -> None:
        self.request, self.namespace, self.session = request, namespace, session
        self.guard = guard
        self.known = Records()

    def run(self, checkpoint: Callable[[], None]) -> list[Detached]:
        """Take off what is meant; ``checkpoint`` lets Ctrl-C through between one and the next."""
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
            for one in described(
                occupants(self.session, ifindex), self.known, reached_by(self.namespace)
            )
            if one.occupant.hook in request.hooks and request.prog_id in (None, one.program.id)
        ]
        wanted = found if request.force else [one for one in found if one.managed]
        if request.member is not None:
            wanted = [one for one in wanted if self._member(one)]
            if not wanted and any(one.managed for one in found):
                return self._no_member([one for one in found if one.managed])
        if not wanted:
            return self._nothing(found, ifindex)
        if len(wanted) > 1 and not request.everything:
            listed = "; ".join(
                f"{where(one.occupant.interface, one.occupant.hook)}: {occupant_text(one)}"
                for one in wanted[:10]
            )
            more = f"; and {len(wanted) - 10} more" if len(wanted) > 10 else ""
            places = [(one.occupant.interface.index, one.occupant.hook) for one in wanted]
            command = detach_command(wanted[0], by_id=places.count(places[0]) > 1)
            raise UsageError(
                f"{len(wanted)} attachments are meant: {listed}{more}",
                hint=f"name one, such as: {command}; or take off all of them with --all",
            )
        if not request.everything and request.member is None and request.prog_id is None:
            self._refuse_chain(wanted[0])
        try:
            done, failed = self._take_all(wanted, checkpoint)
            waiting = self.guard.settle()
        except BaseException:
            self.guard.give_up(self.session)
            raise
        if failed:
            if len(wanted) > 1:
                failed[0].message += f"; {len(done)} of {len(wanted)} were detached"
            raise failed[0]
        return [replace(one, pending=waiting) for one in done]

    def _take_all(
        self, wanted: list[Attachment], checkpoint: Callable[[], None]
    ) -> tuple[list[Detached], list[NetbpfError]]:
        """What was taken off, and what failed: one that fails does not keep the others on."""
        done: list[Detached] = []
        failed: list[NetbpfError] = []
        for one in wanted:
            checkpoint()
            try:
                done.append(self._take(one))
            except NetbpfError as error:
                failed.append(error)
        return done, failed

    def _take(self, one: Attachment) -> Detached:
        occupant = one.occupant
        member = self._member(one)
        if member and one.is_chain:
            left = self._rebuilt(one, on_hook.without(one.members, member))
            name = occupant.interface.name
            return Detached(
                name, occupant.hook, member.name, one.program.id, left=tuple(m.name for m in left)
            )
        names = [each.name for each in one.members] if one.is_chain else [one.called]
        if one.members and any(not each.member and alive(each.name) for each in one.taps):
            # Who looks on goes on looking on, at a hook that lets everything pass.
            self._rebuilt(one, ())
            return Detached(
                occupant.interface.name, occupant.hook, ", ".join(names), one.program.id
            )
        found = self.known.find(occupant)
        with Undo() as undo:
            at = occupant.interface, occupant.hook
            self.guard.before(self.session, at, occupant, 0, self._was(one), undo)
            mechanism.take(self.session, occupant)
            present = occupants(self.session, occupant.interface.index)
            if any(
                same.hook is occupant.hook and same.prog_id == occupant.prog_id for same in present
            ):
                raise NetbpfError(
                    f"{where(*at)} still runs {occupant_text(one)} after it was taken off",
                    hint="something attaches it again, or it is attached twice: netbpf status",
                )
        if found:
            records.remove(found[0])
            release(number for each in found[0].generations for number in each.pinned)
        return Detached(occupant.interface.name, occupant.hook, ", ".join(names), one.program.id)

    def _rebuilt(self, one: Attachment, left: Members) -> Members:
        from netbpf.manager.rebuild import (
            rebuild,
        )  # it loads programs: that is not for every detach

        rebuild(self.session, one, self.known, left, self.guard)
        return left

    def _was(self, one: Attachment) -> Record | None:
        """The record of what runs, also where it is lost and a chain told it."""
        current = self.known.generation(one.occupant, one.program)
        if current is None:
            return None
        at = one.occupant.interface
        found = self.known.find(one.occupant)
        name = found[0].netns_name if found else None
        return Record(at.netns, at.index, at.name, one.occupant.hook, (current,), name)

    # --- members ---

    def _member(self, one: Attachment) -> Member | None:
        """The member that is meant, if it runs there."""
        request = self.request
        return next(
            (
                each
                for each in one.members
                if each.name == request.member and request.added_at in (None, each.added_at)
            ),
            None,
        )

    def _no_member(self, managed: list[Attachment]) -> list[Detached]:
        request = self.request
        if request.missing_ok:
            return []
        assert request.member is not None
        names = [each.name for one in managed for each in one.members]
        one = managed[0].occupant
        places = where(one.interface, one.hook) if len(managed) == 1 else "no hook here"
        raise NotAttachedError(
            f"{places} {'has no' if len(managed) == 1 else 'has a'} member {escape(request.member)}",
            hint=did_you_mean(request.member, names, "the members are"),
        )

    @staticmethod
    def _refuse_chain(one: Attachment) -> None:
        """A chain may be several people's: it goes as a whole only if that is said."""
        if one.is_chain:
            names = ", ".join(escape(each.name) for each in one.members)
            raise UsageError(
                f"{where(one.occupant.interface, one.occupant.hook)} runs a chain of {len(one.members)} "
                f"members: {names}",
                hint=f"name one: {detach_command(one)} {escape(one.members[0].name)}; "
                "or take off all of them with --all",
            )

    # --- nothing to take off ---

    def _nothing(self, found: list[Attachment], ifindex: int | None) -> list[Detached]:
        request = self.request
        if not found:
            stale = self._stale(
                record for record in self.known.all if ifindex in (None, record.ifindex)
            )
            if stale:
                return stale
        on = f" on {escape(request.interface)}" if request.interface else ""
        # Cleaning up without naming an interface is no business of other tools' programs.
        if found and (request.interface or not request.missing_ok):
            one = found[0]
            raise NotManagedError(
                f"{where(one.occupant.interface, one.occupant.hook)} runs {occupant_text(one)}",
                hint=f"use the tool that attached it, or: {detach_command(one)}",
            )
        if request.missing_ok:
            return []
        if request.prog_id is not None:
            raise NotAttachedError(
                f"program {request.prog_id} is not attached{on}",
                hint="netbpf status shows what runs where",
            )
        words = [hook.value.partition("/")[0].upper() for hook in request.hooks]
        kinds = " or ".join(dict.fromkeys(words))
        raise NotAttachedError(
            f"no {kinds} program is attached{on}",
            hint="netbpf status shows what runs where",
        )

    def _stale(self, candidates: Iterable[Record]) -> list[Detached]:
        """Records of this namespace whose interface is gone, or whose program the kernel no longer shows."""
        mine = [
            record
            for record in candidates
            if record.netns == self.namespace.inode
            and record.hook in self.request.hooks
            and (self.request.prog_id is None or record.generation(self.request.prog_id))
        ]
        return [_forgotten(*one) for one in gone.stale(self.session, mine)]
