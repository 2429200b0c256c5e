"""Captures on a hook: put around what runs there in one step, and taken away again in one.

A capture is a change of the hook like any other: under the lock, recorded, by an atomic swap. The program that ran
before is kept by the capture and by its watcher, and it is what comes back if nothing else has changed meanwhile. What
changes while captures run is built with them in it.
"""

from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from netbpf.bpf.program import Program
from netbpf.constants import Hook, Mode
from netbpf.errors import (
    HookBusyError,
    NamespaceNotFoundError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    UsageError,
)
from netbpf.manager import mechanism
from netbpf.manager.build import Builder, Built
from netbpf.manager.change import Changes
from netbpf.manager.mechanism import Place
from netbpf.manager.members import find
from netbpf.manager.request import XDP_MODES
from netbpf.manager.status import Records, described, reached_by
from netbpf.manager.undo import Undo
from netbpf.manager.words import detach_command, occupant_text, where
from netbpf.model import Attachment, Interface, Occupant, Tap
from netbpf.net.interfaces import by_index, resolve
from netbpf.net.netns import all_namespaces
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state import records
from netbpf.state import taps as lives
from netbpf.state.records import Generation
from netbpf.text import escape


@dataclass(frozen=True, slots=True)
class Spot:
    """The hook of a capture. ``untapped`` is the id of the program that ran there before, 0 for none."""

    interface: Interface
    hook: Hook
    untapped: int = 0


def spot(
    session: Session, interface: str, hooks: tuple[Hook, ...], member: str
) -> tuple[Spot, Attachment | None]:
    """Where a capture would be, and what runs there.

    Where several hooks are meant it is the only one with a program of netbpf's; with none, the first. Raises
    InterfaceNotFoundError, UsageError where several hooks have one, HookBusyError for a foreign program,
    NotAttachedError for a member that is not there.
    """
    found = resolve(session, interface)
    known = Records()
    there = [
        one
        for one in described(occupants(session, found.index), known, reached_by(session.namespace))
        if one.occupant.hook in hooks
    ]
    managed = [one for one in there if one.managed]
    if member:
        having = [one for one in managed if any(each.name == member for each in one.members)]
        managed = having or managed
    if len(managed) > 1:
        listed = ", ".join(str(one.occupant.hook) for one in managed)
        raise UsageError(
            f"{escape(interface)} has programs on several hooks: {listed}",
            hint="say which one: netbpf capture xdp IFACE, or tc IFACE with --ingress or --egress",
        )
    if managed:
        chosen = managed[0]
        if member:
            find(chosen.members, member, where(found, chosen.occupant.hook))
        return Spot(found, chosen.occupant.hook, _untapped(chosen, known)), chosen
    if member:
        raise NotAttachedError(
            f"no program of netbpf's is attached on {escape(interface)}, so none is called {escape(member)}",
            hint="netbpf chain shows the members",
        )
    foreign = [one for one in there if one.occupant.hook is hooks[0]]
    if foreign:
        raise HookBusyError(
            f"{where(found, hooks[0])} runs {occupant_text(foreign[0])}, and netbpf looks into its own programs only",
            hint=f"attach it with netbpf; or take it off: {detach_command(foreign[0])}",
        )
    return Spot(found, hooks[0]), None


def _untapped(one: Attachment, known: Records) -> int:
    """The program that comes back once no capture is left."""
    if not one.taps:
        return one.program.id
    current = known.generation(one.occupant, one.program)
    return current.untapped if current else 0


def put(session: Session, at: Spot, there: Attachment | None, tap: Tap, mode: str | None) -> None:
    """Begin a capture, with the lock held. Raises what building and swapping raise; then the hook is as it was."""
    try:
        if there is None:
            _put_bare(session, at, tap, mode)
        else:
            current = _current(there)
            _swap(session, there, current, (*current.taps, tap), at.untapped)
    except NetbpfError as error:
        raise _about(error, at) from None


def _about(error: NetbpfError, at: Spot) -> NetbpfError:
    if not isinstance(error, HookBusyError):
        error.message = f"{where(at.interface, at.hook)} cannot be captured: {error.message}"
        error.args = (error.message,)
    return error


def _current(there: Attachment) -> Generation:
    current = Records().generation(there.occupant, there.program)
    if current is None:
        raise NotAttachedError(
            f"{where(there.occupant.interface, there.occupant.hook)} has changed meanwhile"
        )
    return current


def _put_bare(session: Session, at: Spot, tap: Tap, mode: str | None) -> None:
    """Where nothing runs: a program that looks on, and lets everything pass."""
    modes: tuple[Mode, ...] = (Mode.CLSACT,)
    if at.hook is Hook.XDP:
        modes = (XDP_MODES[mode],) if mode else (Mode.NATIVE, Mode.SKB)
    with ExitStack() as held, Builder(at.hook) as builder, Undo() as undo:
        changes = Changes(session, held)
        built = builder.build((), None, {}, (tap,))
        made = None
        while made is None:
            try:
                with Undo(undo) as steps:
                    made = changes.put(Place(at.interface, at.hook, modes[0]), built, steps)
            except NotSupportedError:
                if len(modes) == 1:
                    raise
                modes = modes[1:]
        there = occupants(session, at.interface.index, hooks=(at.hook,))
        changes.verified(made, there)


def _swap(
    session: Session,
    there: Attachment,
    current: Generation,
    taps: tuple[Tap, ...],
    untapped: int,
) -> None:
    """Run the same members with other captures; ``untapped`` is what runs without any, if it still lives."""
    occupant = there.occupant
    with ExitStack() as held, Builder(occupant.hook) as builder, Undo() as undo:
        changes = Changes(session, held)
        plain = _opened(held, untapped)
        alive = tuple(one for one in taps if lives.alive(one.name))
        if alive or plain is None:
            built = builder.build(current.members, current, {}, alive)
            built = replace(built, untapped=untapped if plain and alive else 0)
            if plain and alive:
                # Its prog arrays have to stay filled, or it could not come back.
                built = replace(built, holds=(*built.holds, *current.pinned))
        else:
            built = Built(plain, current.members, current.counters, holds=current.pinned)
        made = changes.swap(occupant, current, replace(built, since=current.attached_at), undo)
        now = occupants(session, occupant.interface.index, hooks=(occupant.hook,))
        changes.verified(made, now)


def _opened(held: ExitStack, prog_id: int) -> Program | None:
    if not prog_id:
        return None
    try:
        return held.enter_context(Program.by_id(prog_id))
    except NotAttachedError:
        return None


# --- and back ---


def end(session: Session, at: Spot, name: str, tapped: frozenset[int] = frozenset()) -> bool:
    """Take a capture away, with the lock held; False where a change that waits for its confirmation is in the way.

    What is no capture any more is left alone. ``tapped`` are programs in which the capture is known to be, for the day
    the records are lost. An interface that has moved to another namespace is found there. Raises what building and
    swapping raise.
    """
    if by_index(session, at.interface.index) is None:
        return _end_elsewhere(session.namespace.inode, at, name, tapped)
    return _end_here(session, at, name, tapped)


def _end_elsewhere(left: int, at: Spot, name: str, tapped: frozenset[int]) -> bool:
    """``end`` for an interface that is not in the namespace ``left`` any more: it was deleted, or it has moved.

    It takes XDP and TCX programs along, and no queueing disciplines (measured on Linux 6.18).
    """
    known = Records()
    for namespace in all_namespaces():
        if namespace.inode == left:
            continue
        with (
            suppress(NamespaceNotFoundError),
            namespace.duplicate() as same,
            Session(same) as other,
        ):
            for found in occupants(other, hooks=(at.hook,)):
                recorded = known.find(found)
                ours = recorded and any(tap.name == name for tap in recorded[1].taps)
                if ours or found.prog_id in tapped:
                    moved = replace(at, interface=found.interface)
                    return _end_here(other, moved, name, tapped)
    _forget(at, name)
    return True


def _end_here(session: Session, at: Spot, name: str, tapped: frozenset[int]) -> bool:
    known, empty = Records(), True
    for one in described(occupants(session, at.interface.index, hooks=(at.hook,)), known, None):
        if one.occupant.hook is not at.hook:
            continue
        current = known.generation(one.occupant, one.program) if one.managed else None
        empty = empty and current is None
        if current and any(each.name == name for each in current.taps):
            if store.on(one.occupant.interface, at.hook):
                return False
            left = tuple(each for each in current.taps if each.name != name)
            _leave(session, one, current, left)
        elif one.program.id in tapped and (current is None or not current.taps):
            _leave_unknown(session, one.occupant, at)
    if empty:
        _forget(at, name)
    return True


def _forget(at: Spot, name: str) -> None:
    """Drop the record of a hook that ran nothing but captures, this one among them, once it runs none of them."""
    record = records.read(at.interface.netns, at.interface.index, at.hook)
    generations = record.generations if record else ()
    taps = {each.name for one in generations for each in one.taps}
    if record and name in taps and not any(one.members for one in generations):
        records.remove(record)


def _leave(session: Session, one: Attachment, current: Generation, left: tuple[Tap, ...]) -> None:
    left = tuple(each for each in left if lives.alive(each.name))
    if left or current.members:
        _swap(session, one, current, left, current.untapped)
        return
    found = Records().find(one.occupant)  # of where the interface was then
    with ExitStack() as held:
        Changes(session, held).take(one.occupant, found[0] if found else None, occupant_text(one))


def _leave_unknown(session: Session, occupant: Occupant, at: Spot) -> None:
    """No record tells of the hook any more: what was there before comes back, or nothing."""
    with ExitStack() as held:
        plain = _opened(held, at.untapped)
        if plain:
            mechanism.swap(session, occupant, plain)
        elif not at.untapped:
            mechanism.take(session, occupant)


def sweep(session: Session) -> list[str]:
    """Take away captures whose process was killed, and its watcher with it, with the lock held; what was done."""
    dead = {name for name in lives.names() if not lives.alive(name)}
    if not dead:
        return []
    notes: list[str] = []
    waiting = set()
    for record in list(records.read_all()):
        for generation in record.generations:
            for tap in generation.taps:
                if tap.name not in dead:
                    continue
                at = Spot(Interface(record.interface, record.ifindex, record.netns), record.hook)
                if not _swept(session, at, tap.name):
                    waiting.add(tap.name)
                else:
                    notes.append(
                        f"{where(at.interface, at.hook)}: the capture of process {tap.pid}, which was killed, is gone"
                    )
    for name in dead - waiting:
        lives.forget(name)
    return list(dict.fromkeys(notes))


def _swept(session: Session, at: Spot, name: str) -> bool:
    if at.interface.netns == session.namespace.inode:
        return end(session, at, name)
    for namespace in all_namespaces():
        if namespace.inode == at.interface.netns:
            with namespace.duplicate() as same, Session(same) as other:
                return end(other, at, name)
    return _end_elsewhere(at.interface.netns, at, name, frozenset())
