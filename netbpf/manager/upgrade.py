"""Bringing a member up to date, and back: another program in its place in one step, with what it has gathered."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from netbpf.bpf.holders import pinned_maps
from netbpf.bpf.linker import link
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.carry import Carrier, Merged, Plan, plan
from netbpf.compiler.result import Options
from netbpf.constants import Hook
from netbpf.errors import NotAttachedError, UsageError
from netbpf.manager import members as on_hook
from netbpf.manager import settings
from netbpf.manager.build import Builder, kept, kept_object, kernel_types
from netbpf.manager.change import Changes
from netbpf.manager.guard import Guard, guarded
from netbpf.manager.lookup import Meant, meant
from netbpf.manager.repair import repair, tidy
from netbpf.manager.settings import Settings
from netbpf.manager.sources import find_source
from netbpf.manager.status import Records, opened
from netbpf.manager.undo import Undo, uninterrupted
from netbpf.model import Attachment, Member, ObjectRef
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from netbpf.state.pending import Pending
from netbpf.text import escape


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """One upgrade. ``object`` None goes back to the object before the last one. ``member`` None is the only one.

    ``program`` is the one to take of the object: by default the one of the same name, or the only one. Maps named in
    ``reset`` start empty. ``dry_run`` only plans. Where ``confirm`` is given, it goes back by itself after so many
    seconds unless it is confirmed.
    """

    interface: str
    hooks: tuple[Hook, ...] = tuple(Hook)
    member: str | None = None
    object: str | None = None
    program: str | None = None
    settings: Settings = ()
    reset: frozenset[str] = frozenset()
    dry_run: bool = False
    compiler: Options = field(default_factory=Options)
    lock_timeout: float = DEFAULT_TIMEOUT
    confirm: float | None = None


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What came of an upgrade: the member as it was and as it is, and what was carried over, or would be.

    ``merged`` is what the old program gathered while it was being replaced. ``pending`` is set where it has to be
    confirmed.
    """

    attachment: Attachment
    before: Member
    after: Member
    plan: Plan
    merged: tuple[Merged, ...] = ()
    notes: tuple[str, ...] = ()
    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class _New:
    """What takes a member's place."""

    spec: ObjectSpec
    shown: str
    program: ProgramSpec
    notes: tuple[str, ...] = ()


def upgrade(request: UpgradeRequest, netns: str | Namespace | None = None) -> Upgraded:
    """Put a new object in the place of a member's: its priority, its counts and its maps go on.

    Raises NotAttachedError, NotManagedError, UsageError, ObjectError where something cannot be carried over, and what
    loading and swapping raise; then the hook is as it was.
    """
    # Compiling needs no lock, and may need long.
    source = find_source(request.object, request.compiler) if request.object else None
    with ExitStack() as stack:
        namespace = stack.enter_context(opened(netns))
        session = stack.enter_context(Session(namespace))
        seconds = None if request.dry_run else request.confirm
        what = "upgrade" if source else "rollback"
        guard = stack.enter_context(guarded(seconds, what, namespace))
        stack.enter_context(locked(request.lock_timeout))
        stack.enter_context(uninterrupted())
        notes = repair(session)
        known = Records()
        found = meant(session, known, request.interface, request.hooks, request.member)
        hook = found.attachment.occupant.hook
        if source:
            spec = ObjectSpec.open(source.path, source.name)
            name = request.program or _same(spec, found.member.program)
            new = _New(spec, source.shown, spec.select(hook, name), source.notes)
        else:
            new = _before(found, hook)
        done = _Upgrading(request, session, known, found, new, guard).run()
        return replace(done, notes=new.notes + notes + done.notes)


def _same(spec: ObjectSpec, program: str) -> str | None:
    """The program of the same name, if there is one."""
    return program if any(one.name == program for one in spec.programs) else None


def _before(found: Meant, hook: Hook) -> _New:
    """The object before the last upgrade."""
    member = found.member
    if member.previous is None:
        raise NotAttachedError(
            f"{found.place}: member {escape(member.name)} has not been upgraded: there is nothing to go back to",
        )
    ref = member.previous
    data = kept(ref.sha256, ref.path, f"the member {escape(member.name)} before its upgrade")
    spec = ObjectSpec(data, ref.path)
    return _New(spec, ref.path, spec.select(hook, member.previous_program))


class _Upgrading:
    """One upgrade while the lock is held."""

    def __init__(
        self,
        request: UpgradeRequest,
        session: Session,
        known: Records,
        found: Meant,
        new: _New,
        guard: Guard,
    ) -> None:
        self.guard = guard
        self.request, self.session, self.found, self.new = request, session, found, new
        current = known.generation(found.attachment.occupant, found.attachment.program)
        assert current is not None
        self.current = current

    def run(self) -> Upgraded:
        member, new = self.found.member, self.new
        if new.spec.sha256 == member.object.sha256 and new.program.name == member.program:
            raise UsageError(
                f"{self.found.place}: member {escape(member.name)} runs {escape(new.program.name)} of this very "
                "object already",
                hint="netbpf set IFACE NAME=VALUE changes variables of running programs",
            )
        with ExitStack() as stack:
            maps = {name: stack.enter_context(Map.by_id(number)) for name, number in member.maps}
            old_spec = ObjectSpec(kept_object(member), member.object.path)
            uses = link(new.spec, new.program.function).map_names
            carried = plan(
                maps, old_spec, new.spec, uses, reset=self.request.reset, shared=self._shared()
            )
            touched = settings.apply(new.spec, self.request.settings)
            if self.request.dry_run:
                return Upgraded(self.found.attachment, member, self._member(()), carried)
            carrier = stack.enter_context(Carrier(carried))
            loaded = stack.enter_context(
                load(
                    new.spec, new.program, self._hook, reuse=carrier.maps, extra_maps=(*touched, *carried.extra),
                    kernel_btf=kernel_types(member),
                )
            )  # fmt: skip
            return self._swap(loaded, carrier, carried)

    @property
    def _hook(self) -> Hook:
        return self.found.attachment.occupant.hook

    def _shared(self) -> frozenset[str]:
        """The maps that others see too, other members or by a pin: those cannot be moved into new ones."""
        member = self.found.member
        others = {
            number
            for record in records.read_all()
            for generation in record.generations
            for one in generation.members
            if one.added_at != member.added_at
            for _, number in one.maps
        }
        seen = others | pinned_maps()
        return frozenset(name for name, number in member.maps if number in seen)

    def _member(self, maps: tuple[tuple[str, int], ...], tag: str = "") -> Member:
        member, new = self.found.member, self.new
        return replace(
            member,
            program=new.program.name,
            tag=tag,
            object=ObjectRef(new.shown, new.spec.sha256),
            maps=maps,
            previous=member.object,
            previous_program=member.program,
        )

    def _swap(self, loaded: Loaded, carrier: Carrier, carried: Plan) -> Upgraded:
        occupant = self.found.attachment.occupant
        maps = tuple((name, one.info.id) for name, one in loaded.maps.items())
        member = self._member(maps, loaded.program.info.tag)
        members = on_hook.changed(self.found.members, member)
        records.keep_object(member.object.sha256, self.new.spec.data)
        try:
            with ExitStack() as held, Builder(self._hook) as builder, Undo() as undo:
                changes = Changes(self.session, held, self.guard)
                built = builder.build(members, self.current, {member.name: loaded})
                # As late as can be: what the old program gathers from here on is merged afterwards.
                carrier.copy()
                made = changes.swap(occupant, self.current, built, undo)
                report = carrier.finish()
                there = occupants(self.session, occupant.interface.index, hooks=(self._hook,))
                made = changes.verified(made, there)
                pending = self.guard.settle()
            after = next(one for one in made.members if one.name == member.name)
        finally:
            # An object is kept that nobody needs: the new one where this failed, or the one before the old one.
            tidy(self.session)
        notes = built.notes + report.notes
        return Upgraded(made, self.found.member, after, carried, report.merged, notes, pending)
