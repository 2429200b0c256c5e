"""One hook, from what runs there to what shall run: recorded, done in one step, verified, undone where that fails."""

import time
from contextlib import ExitStack
from dataclasses import replace

from netbpf.bpf.program import Program
from netbpf.constants import Hook, Mode
from netbpf.errors import HookBusyError, NotSupportedError
from netbpf.manager import mappinned, mechanism
from netbpf.manager.build import Built
from netbpf.manager.guard import UNGUARDED, Guard
from netbpf.manager.mechanism import Place
from netbpf.manager.owner import NETBPF
from netbpf.manager.status import reached_by
from netbpf.manager.undo import Undo
from netbpf.manager.words import where
from netbpf.model import Attachment, Interface, Occupant
from netbpf.net.netns import names
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import records
from netbpf.state.records import Generation, Record
from netbpf.text import escape


class Changes:
    """The changes of one operation in one namespace, with the lock held.

    Programs that are taken off a hook are held until the block of ``held`` ends: once gone, they could not be put
    back.
    """

    def __init__(self, session: Session, held: ExitStack, guard: Guard = UNGUARDED) -> None:
        """``guard`` hears of each change before it is made."""
        self.session = session
        self._guard = guard
        self._held = held
        namespace = session.namespace
        self.reached_by = reached_by(namespace)
        # Inside of `ip netns exec NAME` the namespace has a name too, by which it will be looked for once it is gone.
        self._netns_name = namespace.name or names().get(namespace.inode)

    def put(self, place: Place, built: Built, undo: Undo) -> Attachment:
        """Attach where nothing of netbpf's is yet."""
        new = generation(built, place.mode, None)
        at = place.interface, place.hook
        self._guard.before(self.session, at, None, new.prog_id, None, undo)
        self.record(place.interface, place.hook, (new,), undo)
        self._hold(new, None)
        mechanism.put(self.session, place, built.program, undo)
        return self._attachment(
            Occupant(place.interface, place.hook, place.mode, new.prog_id), built, new
        )

    def swap(self, occupant: Occupant, current: Generation, built: Built, undo: Undo) -> Attachment:
        """Put a program in place of netbpf's own, without a gap. HookBusyError where another is there by now."""
        new = generation(built, occupant.mode, current)
        before = self._held.enter_context(Program.by_id(occupant.prog_id))
        at = occupant.interface, occupant.hook
        now = self._only(occupant, current)
        self._guard.before(self.session, at, occupant, new.prog_id, now, undo)
        self.record(occupant.interface, occupant.hook, (current, new), undo)
        self._hold(new, current)
        undo.callback(self._swap_back, occupant, before, built.program)
        mechanism.swap(self.session, occupant, built.program)
        return self._attachment(replace(occupant, prog_id=new.prog_id), built, new)

    def _swap_back(self, occupant: Occupant, before: Program, after: Program) -> None:
        ours = after.info.id
        there = occupants(self.session, occupant.interface.index)
        if any(one.hook is occupant.hook and one.prog_id == ours for one in there):
            mechanism.swap(self.session, replace(occupant, prog_id=ours), before)

    def take(self, occupant: Occupant, known: Record | None, label: str) -> None:
        """Take a program off its hook, check that it is gone, and forget it."""
        mechanism.take(self.session, occupant)
        left = occupants(self.session, occupant.interface.index)
        if any(same.hook is occupant.hook and same.prog_id == occupant.prog_id for same in left):
            raise HookBusyError(
                f"{where(occupant.interface, occupant.hook)} still runs {label} after it was taken off",
                hint="something attaches it again, or it is attached twice: netbpf status",
            )
        if known:
            records.remove(known)

    def _hold(self, new: Generation, current: Generation | None) -> None:
        """Pin the maps that a generation needs; in the end go those that no record needs, whichever way it went."""
        old = current.pinned if current else ()
        if new.pinned or old:
            self._held.callback(mappinned.release, (*new.pinned, *old))
            mappinned.hold(new, current)

    # --- records ---

    def _only(self, occupant: Occupant, current: Generation) -> Record:
        """The record of nothing but what runs."""
        at = occupant.interface
        return Record(at.netns, at.index, at.name, occupant.hook, (current,), self._netns_name)

    def record(
        self,
        interface: Interface,
        hook: Hook,
        generations: tuple[Generation, ...],
        undo: Undo,
    ) -> None:
        """Write the record of what may be on the hook from now on; undone to what was there before."""
        new = Record(
            interface.netns, interface.index, interface.name, hook, generations, self._netns_name
        )
        old = records.read(interface.netns, interface.index, hook)
        if old:
            undo.callback(records.write, old)
        else:
            undo.callback(records.remove, new)
        records.write(new)

    def _attachment(self, occupant: Occupant, built: Built, new: Generation) -> Attachment:
        return attachment(occupant, built, new, self.reached_by)

    def verified(self, made: Attachment, there: list[Occupant]) -> Attachment:
        """The attachment as the kernel shows it (``there``), and its record settled; HookBusyError if it is gone."""
        occupant, ours = made.occupant, made.program.id
        seen = [one for one in there if one.prog_id == ours and one.hook is occupant.hook]
        if not seen:
            raise HookBusyError(
                f"{where(occupant.interface, occupant.hook)} lost {escape(made.program.name)} the moment it was "
                "attached: another program took its place, or the interface is gone"
            )
        record = records.read(occupant.interface.netns, occupant.interface.index, occupant.hook)
        settled = record.generation(ours) if record else None
        if record and settled and len(record.generations) > 1:
            records.write(record.only(settled))
        return replace(made, occupant=seen[0])


def generation(built: Built, mode: Mode, current: Generation | None) -> Generation:
    """What a record says of a program that is about to be attached where ``current`` is.

    NotSupportedError for a chain that needs a map to be pinned where no pin would last.
    """
    info = built.program.info
    pinned = mappinned.chosen((*built.holds, *built.onward), current)
    if not set(built.onward) <= set(pinned):
        raise NotSupportedError(
            "the members use more maps than one program may, so the chain is several programs, and these need a "
            "bpffs that outlives this mount namespace",
            hint="run netbpf outside of `ip netns exec`, with --netns NAME",
        )
    since = time.time() if built.since is None else built.since
    return Generation(
        info.id, info.tag, info.name, mode, since, built.members, built.counters, pinned,
        built.taps, built.untapped,
    )  # fmt: skip


def attachment(
    occupant: Occupant, built: Built, new: Generation, netns_name: str | None
) -> Attachment:
    """What runs on a hook now."""
    alone = built.members[0] if len(built.members) == 1 else None
    return Attachment(
        occupant,
        built.program.info,
        True,
        NETBPF,
        alone.object if alone else None,
        netns_name,
        new.attached_at,
        built.members,
        built.counters,
        taps=built.taps,
    )
