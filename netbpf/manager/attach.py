"""Attaching: load once, then for each interface look, decide, record, attach, verify; undone where a step fails."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace

from netbpf.constants import Hook, Mode
from netbpf.errors import HookBusyError, NetbpfError, NotSupportedError, UsageError
from netbpf.manager import members as on_hook
from netbpf.manager import redirects
from netbpf.manager.build import Builder, Built
from netbpf.manager.change import Changes
from netbpf.manager.guard import Guard, guarded
from netbpf.manager.incoming import Incoming, incoming
from netbpf.manager.mechanism import DEFAULT_PREF, Place
from netbpf.manager.members import Members
from netbpf.manager.repair import repair
from netbpf.manager.request import AUTO, AttachRequest, AttachResult
from netbpf.manager.status import Records, described, opened, reached_by
from netbpf.manager.undo import Undo, uninterrupted
from netbpf.manager.words import detach_command, occupant_text, upgrade_command, where
from netbpf.model import Attachment, Interface, Member, Occupant
from netbpf.net import tc
from netbpf.net.interfaces import expand
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.lock import locked
from netbpf.state.records import Generation
from netbpf.text import escape


def attach(request: AttachRequest, netns: str | Namespace | None = None) -> list[AttachResult]:
    """Carry out a request in a namespace: one result per interface.

    A single interface that fails raises its error; of several, each result carries its own, unless the request is
    atomic: then the first error undoes what was done and is raised.
    """
    with ExitStack() as stack:
        namespace = stack.enter_context(opened(netns))
        session = stack.enter_context(Session(namespace))
        interfaces = expand(session, request.interfaces)
        guard = stack.enter_context(guarded(request.confirm, "attach", namespace))
        # The verifier may need long: nobody else should have to wait for it, so the lock comes after.
        coming = [stack.enter_context(one) for one in incoming(request, session)]
        redirects.fill(
            request.redirects, (one.loaded for one in coming), session, request.kernel_btf
        )
        remarks = tuple(note for one in coming for note in one.notes)
        with locked(request.lock_timeout), uninterrupted() as checkpoint:
            notes = remarks + repair(session)
            attaching = _Attaching(request, session, coming, guard)
            try:
                results = attaching.run(interfaces, checkpoint)
            finally:
                if attaching.wasteful:
                    with suppress(NetbpfError):
                        repair(session)
            return [replace(results[0], notes=notes + results[0].notes), *results[1:]]


class _Attaching:
    """One request while the lock is held."""

    def __init__(
        self, request: AttachRequest, session: Session, coming: list[Incoming], guard: Guard
    ) -> None:
        self.request, self.session, self.coming, self.guard = request, session, coming, guard
        self.known = Records()
        # Whether an object is kept that nobody needs: for what failed, or for what was there before.
        self.wasteful = True

    def run(
        self, interfaces: list[Interface], checkpoint: Callable[[], None]
    ) -> list[AttachResult]:
        """Attach to all of them; ``checkpoint`` lets Ctrl-C through, and everything is undone."""
        one_fails_all = len(interfaces) == 1 or self.request.atomic
        for one in self.coming:
            one.keep()
        there = self._occupants(interfaces)
        overwritten = any(
            records.read(one.netns, one.index, self.request.hook) for one in interfaces
        )
        results: list[AttachResult] = []
        with ExitStack() as held, Builder(self.request.hook) as self.builder, Undo() as undo_all:
            self.changes = Changes(self.session, held, self.guard)
            undos: dict[int, Undo] = {}
            for interface in interfaces:
                checkpoint()
                try:
                    with Undo(undo_all) as undo:
                        results.append(self._one(interface, there.get(interface.index, []), undo))
                    undos[interface.index] = undo
                except NetbpfError as error:
                    if one_fails_all:
                        raise
                    results.append(AttachResult(interface, error=error))
            there = self._occupants(interfaces)
            for number, result in enumerate(results):
                try:
                    results[number] = self._verified(result, there)
                except NetbpfError as error:
                    if one_fails_all:
                        raise
                    undos[result.interface.index].run()
                    results[number] = AttachResult(result.interface, error=error)
            checkpoint()
            pending = self.guard.settle()
        if pending:
            results = [replace(one, pending=pending) if one.attachment else one for one in results]
        self.wasteful = overwritten or any(one.error for one in results)
        return results

    def _occupants(self, interfaces: list[Interface]) -> dict[int, list[Occupant]]:
        """What is on the request's hook of each interface: one dump, however many they are."""
        found: dict[int, list[Occupant]] = {}
        indexes = frozenset(one.index for one in interfaces)
        only = interfaces[0].index if len(interfaces) == 1 else indexes
        for one in occupants(self.session, only, hooks=(self.request.hook,)):
            found.setdefault(one.interface.index, []).append(one)
        return found

    # --- one interface ---

    def _one(self, interface: Interface, there: list[Occupant], undo: Undo) -> AttachResult:
        present = list(described(there, self.known, reached_by(self.session.namespace)))
        managed = [one for one in present if one.managed]
        if managed:
            return self._beside_ours(managed[0], undo)
        notes = self._neighbours(interface, present)
        members, names = self._named(interface, ())
        built = self._built(members, None, names)
        refusals: list[str] = []
        for mode in self.request.modes:
            place = Place(
                interface,
                self.request.hook,
                mode,
                self.request.link,
                self.request.pref or DEFAULT_PREF,
            )
            try:
                with Undo(undo) as steps:
                    made = self.changes.put(place, built, steps)
            except NotSupportedError as error:
                if mode is self.request.modes[-1]:
                    raise
                refusals.append(f"{escape(interface.name)}: not in {mode} mode: {error.message}")
                continue
            notes += built.notes + tuple(refusals)
            return AttachResult(interface, made, notes=notes, added=tuple(names))
        raise AssertionError("a request has at least one mode")

    def _built(
        self, members: Members, current: Generation | None, names: Mapping[str, Incoming]
    ) -> Built:
        return self.builder.build(
            members, current, {name: one.loaded for name, one in names.items()}
        )

    def _named(
        self, interface: Interface, there: Members, present: Attachment | None = None
    ) -> tuple[Members, Mapping[str, Incoming]]:
        """The members with those that come, and these by the names they get."""
        names: dict[str, Incoming] = {}
        place = where(interface, self.request.hook)
        for one in self.coming:
            member = one.member
            same = on_hook.same_program(there, member)
            if same and self.request.name is None:
                raise self._twice(interface, same, None if same.name in names else present)
            if self.request.name is None:
                member = replace(member, name=on_hook.free_name(there, member.name))
            there = on_hook.add(there, member, place)
            names[member.name] = one
        return there, names

    def _twice(
        self, interface: Interface, same: Member, present: Attachment | None
    ) -> HookBusyError:
        """The same program of the same object is most often meant as its successor."""
        name = escape(same.program)
        if present is None:
            return HookBusyError(
                f"{name} of {escape(same.object.path)} is named twice",
                hint="to run it twice, attach it a second time with --name",
            )
        what = occupant_text(present)
        if present.is_chain:
            what += f" with {name} of {escape(same.object.path)} as member {escape(same.name)}"
        upgrade = upgrade_command(interface, self.request.hook, same.name)
        return HookBusyError(
            f"{where(interface, self.request.hook)} already runs {what}",
            hint=f"to bring it up to date: {upgrade}; to run it twice, give --name; "
            f"or take it off: {detach_command(present)}",
        )

    def _neighbours(self, interface: Interface, present: list[Attachment]) -> tuple[str, ...]:
        """Refuse foreign programs where they exclude ours; the others are named aloud."""
        hook, request = self.request.hook, self.request
        if hook is Hook.XDP:
            if present:
                raise self._foreign(interface, present[0], "")
            return ()
        same = [one for one in present if one.occupant.mode is request.modes[0]]
        if not request.link:
            if same and request.pref is None:
                raise self._foreign(
                    interface, same[0], "give --pref N to run beside it (lower runs first), or "
                )
            self._refuse_other_filters(interface)
        notes = []
        if request.link and same:
            notes.append(f"{where(interface, hook)}: runs after {len(same)} other TCX program(s)")
        earlier = (
            [one for one in present if one.occupant.mode is Mode.TCX] if not request.link else []
        )
        if earlier:
            notes.append(
                f"{where(interface, hook)}: {occupant_text(earlier[0])} runs before it and may keep packets from it"
            )
        return tuple(notes)

    def _refuse_other_filters(self, interface: Interface) -> None:
        """Filters of other kinds (flower, u32 ...) decide about packets as well."""
        if self.request.pref is not None:
            return
        others = [
            one for one in tc.query(self.session, interface, self.request.hook) if not one.prog_id
        ]
        if others:
            one = others[0]
            raise HookBusyError(
                f"{where(interface, self.request.hook)} has a {one.kind} filter (priority {one.place.priority}) "
                "that netbpf did not make",
                hint="give --pref N to run beside it (lower runs first), or --link to run before all filters",
            )

    def _foreign(self, interface: Interface, one: Attachment, choice: str) -> HookBusyError:
        return HookBusyError(
            f"{where(interface, self.request.hook)} already runs {occupant_text(one)}",
            hint=f"{choice}take it off: {detach_command(one)}",
        )

    # --- where netbpf runs something ---

    def _beside_ours(self, present: Attachment, undo: Undo) -> AttachResult:
        """Add to what runs there, or put the new program in its place."""
        occupant, request = present.occupant, self.request
        place = where(occupant.interface, occupant.hook)
        self._check_same_way(present)
        current = self.known.generation(occupant, present.program)
        assert current is not None
        if request.replace:
            if len(current.members) > 1:
                raise HookBusyError(
                    f"{place} runs a chain of {len(current.members)} members; --replace would drop all of them",
                    hint=f"to renew one: {upgrade_command(occupant.interface, occupant.hook, 'MEMBER')}; "
                    f"to take off all: {detach_command(present)} --all",
                )
            members, names = self._named(occupant.interface, ())
        else:
            members, names = self._named(occupant.interface, current.members, present)
        built = self._built(members, current, names)
        made = self.changes.swap(occupant, current, built, undo)
        replaced = occupant.prog_id if request.replace else None
        return AttachResult(
            occupant.interface, made, replaced=replaced, notes=built.notes, added=tuple(names)
        )

    def _check_same_way(self, present: Attachment) -> None:
        """A swap keeps mode and mechanism: nothing else is one step for the kernel."""
        occupant, request = present.occupant, self.request
        hint = f"take it off first: {detach_command(present)}"
        what = "--replace" if request.replace else "adding to it"
        if (
            request.pref is not None
            and occupant.filter
            and request.pref != occupant.filter.priority
        ):
            raise UsageError(
                f"{where(occupant.interface, occupant.hook)} runs at --pref {occupant.filter.priority}; "
                f"{what} cannot change it to {request.pref}",
                hint=hint,
            )
        if request.mode not in (None, AUTO) and occupant.mode not in request.modes:
            raise UsageError(
                f"{where(occupant.interface, occupant.hook)} runs in {occupant.mode} mode; "
                f"{what} cannot change it to {request.modes[0]} without a gap",
                hint=hint,
            )
        if request.link and not occupant.link_id:
            raise UsageError(
                f"{where(occupant.interface, occupant.hook)} is attached without a link; "
                f"{what} cannot change that without a gap",
                hint=hint,
            )

    def _verified(self, result: AttachResult, there: dict[int, list[Occupant]]) -> AttachResult:
        if result.attachment is None:
            return result
        made = self.changes.verified(result.attachment, there.get(result.interface.index, []))
        return replace(result, attachment=made)
