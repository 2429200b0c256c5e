"""Attaching: load once, then for each interface look, decide, record, attach, verify; undone where a step fails."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program
from netbpf.constants import Hook, MapType, Mode
from netbpf.errors import HookBusyError, NetbpfError, NotSupportedError, UsageError
from netbpf.manager import mechanism, settings
from netbpf.manager.mappins import SharedMaps
from netbpf.manager.mechanism import DEFAULT_PRIORITY, Place
from netbpf.manager.repair import repair
from netbpf.manager.request import AUTO, AttachRequest, AttachResult
from netbpf.manager.sources import Source, find_source
from netbpf.manager.status import Records, described, opened, reached_by
from netbpf.manager.undo import Undo, uninterrupted
from netbpf.manager.words import detach_command, occupant_text, where
from netbpf.model import Attachment, Interface, ObjectRef, Occupant
from netbpf.net import tc
from netbpf.net.interfaces import expand
from netbpf.net.netns import Namespace, names
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.lock import locked
from netbpf.state.records import Generation, Record
from netbpf.text import escape


def attach(request: AttachRequest, netns: str | Namespace | None = None) -> list[AttachResult]:
    """Carry out a request in a namespace: one result per interface.

    A single interface that fails raises its error; of several, each result carries its own, unless the request is
    atomic: then the first error undoes what was done and is raised.
    """
    source = find_source(request.object, request.compiler)
    with ExitStack() as stack:
        namespace = stack.enter_context(opened(netns))
        session = stack.enter_context(Session(namespace))
        interfaces = expand(session, request.interfaces)
        spec = ObjectSpec.open(source.path)
        program = spec.select(request.hook, request.program)
        touched = settings.apply(spec, request.settings)
        # The verifier may need long: nobody else should have to wait for it, so the lock comes after.
        shared = stack.enter_context(SharedMaps(request.pin_maps, spec))
        loaded = stack.enter_context(
            load(
                spec,
                program,
                request.hook,
                reuse=shared.maps,
                extra_maps=touched,
                kernel_btf=request.kernel_btf,
            )
        )
        remarks = source.notes + shared.pin_new(loaded) + _emptied(loaded, request.pin_maps)
        with locked(request.lock_timeout), uninterrupted() as checkpoint:
            notes = remarks + repair(session)
            attaching = _Attaching(request, source, namespace, session, loaded)
            try:
                results = attaching.run(interfaces, checkpoint)
            finally:
                if attaching.wasteful:
                    with suppress(NetbpfError):
                        repair(session)
            return [replace(results[0], notes=notes + results[0].notes), *results[1:]]


def _emptied(loaded: Loaded, pinned: object) -> tuple[str, ...]:
    """What to say of prog arrays that were filled from the object and that no pin holds."""
    if pinned:
        return ()
    return tuple(
        f"map {escape(name)}: the kernel empties a prog array once the last process that has it open ends, "
        "and its tail calls then do nothing"
        for name, spec in loaded.spec.maps.items()
        if name in loaded.maps and spec.type == MapType.PROG_ARRAY and spec.slots
    )


class _Attaching:
    """One request while the lock is held."""

    def __init__(
        self,
        request: AttachRequest,
        source: Source,
        namespace: Namespace,
        session: Session,
        loaded: Loaded,
    ) -> None:
        self.request, self.namespace, self.session, self.loaded = (
            request,
            namespace,
            session,
            loaded,
        )
        self.program = loaded.program
        self.source = source
        self.object = ObjectRef(source.shown, loaded.spec.sha256)
        self.known = Records()
        self.held = ExitStack()
        # Whether an object is kept that nobody needs: for what failed, or for what was there before.
        self.wasteful = True
        # Inside of `ip netns exec NAME` the namespace has a name too, by which it will be looked for once it is gone.
        self.netns_name = namespace.name or names().get(namespace.inode)

    def run(
        self, interfaces: list[Interface], checkpoint: Callable[[], None]
    ) -> list[AttachResult]:
        """Attach to all of them; ``checkpoint`` lets Ctrl-C through, and everything is undone."""
        one_fails_all = len(interfaces) == 1 or self.request.atomic
        records.keep_object(self.object.sha256, self.loaded.spec.data)
        there = self._occupants(interfaces)
        overwritten = any(self._old_record(one) for one in interfaces)
        results: list[AttachResult] = []
        with ExitStack() as self.held, Undo() as undo_all:
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
        present = list(described(there, self.known, reached_by(self.namespace)))
        managed = [one for one in present if one.managed]
        if managed:
            return self._replace(managed[0], undo)
        notes = self._neighbours(interface, present)
        refusals: list[str] = []
        for mode in self.request.modes:
            place = Place(
                interface,
                self.request.hook,
                mode,
                self.request.link,
                self.request.priority or DEFAULT_PRIORITY,
            )
            try:
                with Undo(undo) as steps:
                    self._record(interface, (self._generation(mode),), steps)
                    mechanism.put(self.session, place, self.program, steps)
            except NotSupportedError as error:
                if mode is self.request.modes[-1]:
                    raise
                refusals.append(f"{escape(interface.name)}: not in {mode} mode: {error.message}")
                continue
            return self._result(place, notes + tuple(refusals))
        raise AssertionError("a request has at least one mode")

    def _neighbours(self, interface: Interface, present: list[Attachment]) -> tuple[str, ...]:
        """Refuse foreign programs where they exclude ours; the others are named aloud."""
        hook, request = self.request.hook, self.request
        if hook is Hook.XDP:
            if present:
                raise self._foreign(interface, present[0], "")
            return ()
        same = [one for one in present if one.occupant.mode is request.modes[0]]
        if not request.link:
            if same and request.priority is None:
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
        if self.request.priority is not None:
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

    # --- replacing ---

    def _replace(self, present: Attachment, undo: Undo) -> AttachResult:
        occupant, request = present.occupant, self.request
        place = Place(occupant.interface, occupant.hook, occupant.mode, bool(occupant.link_id))
        if not request.replace:
            raise HookBusyError(
                f"{where(occupant.interface, occupant.hook)} already runs {occupant_text(present)}",
                hint=f"swap it with --replace, or take it off: {detach_command(present)}",
            )
        self._check_same_way(present)
        old = self._current_generation(occupant)
        new = self._generation(occupant.mode)
        # Held until all is done: once off the hook, it would be gone, and could not be put back.
        before = self.held.enter_context(Program.by_id(occupant.prog_id))
        self._record(occupant.interface, (old, new), undo)
        undo.callback(self._swap_back, occupant, before)
        mechanism.swap(self.session, occupant, self.program)
        return self._result(place, (), replaced=occupant.prog_id)

    def _check_same_way(self, present: Attachment) -> None:
        """A swap keeps mode and mechanism: nothing else is one step for the kernel."""
        occupant, request = present.occupant, self.request
        hint = f"take it off first: {detach_command(present)}"
        if request.mode not in (None, AUTO) and occupant.mode not in request.modes:
            raise UsageError(
                f"{where(occupant.interface, occupant.hook)} runs in {occupant.mode} mode; "
                f"--replace cannot change it to {request.modes[0]} without a gap",
                hint=hint,
            )
        if request.link and not occupant.link_id:
            raise UsageError(
                f"{where(occupant.interface, occupant.hook)} is attached without a link; "
                "--replace cannot change that without a gap",
                hint=hint,
            )

    def _current_generation(self, occupant: Occupant) -> Generation:
        found = self.known.find(occupant)
        assert found is not None
        return found[1]

    def _swap_back(self, occupant: Occupant, before: Program) -> None:
        ours = self.program.info.id
        there = occupants(self.session, occupant.interface.index)
        if not any(one.hook is occupant.hook and one.prog_id == ours for one in there):
            return
        mechanism.swap(self.session, replace(occupant, prog_id=ours), before)

    # --- records and results ---

    def _generation(self, mode: Mode) -> Generation:
        info = self.program.info
        return Generation(info.id, info.tag, info.name, self.object, mode, time.time())

    def _record(
        self, interface: Interface, generations: tuple[Generation, ...], undo: Undo
    ) -> None:
        """Write the record of what may be on the hook from now on; undone to what was there before."""
        new = self._record_of(interface, generations)
        old = self._old_record(interface)
        if old:
            undo.callback(records.write, old)
        else:
            undo.callback(records.remove, new)
        records.write(new)

    def _old_record(self, interface: Interface) -> Record | None:
        return records.read(interface.netns, interface.index, self.request.hook)

    def _record_of(self, interface: Interface, generations: tuple[Generation, ...]) -> Record:
        return Record(
            interface.netns,
            interface.index,
            interface.name,
            self.request.hook,
            generations,
            self.netns_name,
        )

    def _result(
        self, place: Place, notes: tuple[str, ...], *, replaced: int | None = None
    ) -> AttachResult:
        occupant = Occupant(place.interface, place.hook, place.mode, self.program.info.id)
        attachment = Attachment(
            occupant,
            self.program.info,
            True,
            "netbpf",
            self.object,
            reached_by(self.namespace),
            time.time(),
        )
        return AttachResult(place.interface, attachment, replaced=replaced, notes=notes)

    def _verified(self, result: AttachResult, there: dict[int, list[Occupant]]) -> AttachResult:
        """The result as the kernel shows it; HookBusyError where it does not."""
        if result.attachment is None:
            return result
        ours = self.program.info.id
        seen = [one for one in there.get(result.interface.index, []) if one.prog_id == ours]
        if not seen:
            raise HookBusyError(
                f"{where(result.interface, self.request.hook)} lost {self.program.info.name} the moment it was "
                "attached: another program took its place, or the interface is gone"
            )
        if result.replaced:
            self._keep_only_new(result.interface, seen[0])
        return replace(result, attachment=replace(result.attachment, occupant=seen[0]))

    def _keep_only_new(self, interface: Interface, occupant: Occupant) -> None:
        record = records.read(interface.netns, interface.index, occupant.hook)
        generation = record.generation(occupant.prog_id) if record else None
        if record and generation:
            records.write(record.only(generation))
