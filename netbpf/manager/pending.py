"""Going back: what was on a hook before a change that nobody confirmed, exactly as it was, put there again.

Whoever holds the lock may do it: the watcher at the deadline, ``netbpf confirm --undo``, and the next command where
the watcher was killed. It can be done twice, and after a crash in its middle: each step looks what is there.
"""

import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from netbpf.bpf.program import Program
from netbpf.constants import Hook
from netbpf.errors import (
    HookBusyError,
    InterfaceNotFoundError,
    NetbpfError,
    NotAttachedError,
)
from netbpf.manager import mechanism
from netbpf.manager.undo import Undo
from netbpf.manager.words import where
from netbpf.model import Interface, Occupant
from netbpf.net.interfaces import by_index
from netbpf.net.netns import all_namespaces
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state import records
from netbpf.state.pending import Pending, Phase, Step, WentBack
from netbpf.state.records import Generation, Record
from netbpf.text import escape

ASKED = "netbpf confirm --undo"
_PATIENCE = 2.0  # seconds for a watcher to see that it may end


def clear_way(interface: Interface, hook: Hook) -> None:
    """Before a change of a hook: HookBusyError while another one is pending there. What went back is forgotten."""
    waiting = store.on(interface, hook)
    if waiting:
        until = clock(waiting.since + waiting.seconds)
        raise HookBusyError(
            f"{where(interface, hook)}: the last change ({waiting.what}) waits for its confirmation until {until}",
            hint="netbpf confirm keeps it, netbpf confirm --undo goes back now",
        )
    store.forget(interface, hook)


def clock(at: float) -> str:
    """Unix time as people on this machine read it: ``14:05:09``, with the date on another day."""
    form = "%H:%M:%S" if abs(at - time.time()) < 12 * 3600 else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, time.localtime(at))


# --- the whole operation ---


def go_back(session: Session, pending: Pending, why: str) -> list[WentBack]:
    """Undo every step, last to first, with the lock held; one that fails does not keep the others from it.

    ``session`` is in the namespace of the change. What came of each is in the result, and nothing is forgotten yet.
    """
    return [_undone(session, pending, step, why) for step in reversed(pending.steps)]


def transient(words: list[WentBack]) -> bool:
    """Whether something failed, so that trying again may help."""
    return any(one.failed for one in words)


def _undone(session: Session, pending: Pending, step: Step, why: str) -> WentBack:
    word = WentBack(step.interface, step.hook, pending.what, pending.netns_name, time.time(), why)
    try:
        return replace(word, result=_step_back(session, step))
    except (InterfaceNotFoundError, NotAttachedError) as error:
        return replace(word, result=error.message)
    except (NetbpfError, OSError) as error:
        text = error.message if isinstance(error, NetbpfError) else str(error)
        return replace(word, result=f"it could not go back: {text}", failed=True)


def finish(pending: Pending, words: list[WentBack]) -> None:
    """After going back: leave word of it, tell the watcher to end, and forget the change."""
    for one in words:
        store.note(one)
    end(pending)


def end(pending: Pending) -> None:
    """Nothing is to be done any more: the one moment at which that is decided is when the file says so."""
    if pending.watcher == os.getpid() or not pending.watched():
        store.remove(pending)
        return
    store.write(replace(pending, phase=Phase.ENDED))
    try:
        process = os.pidfd_open(pending.watcher)
    except OSError:
        store.remove(pending)
        return
    try:
        # Should it be stopped or starved, it finds the file later, and the next command sweeps it.
        if select.select([process], [], [], _PATIENCE)[0]:
            store.remove(pending)
    finally:
        os.close(process)


def repair(session: Session) -> list[str]:
    """Go back where that is due and was not done, with the lock held; what was done, in words.

    Due are changes whose deadline has passed, and operations that were killed before they were done: whoever does
    one holds the lock.
    """
    notes: list[str] = []
    for one in store.read_all():
        if one.phase is not Phase.CHANGING and not one.due:
            continue
        why = (
            "netbpf was killed before it was done"
            if one.phase is Phase.CHANGING
            else unconfirmed(one)
        )
        with _within(session, one) as found:
            if found is None and one.watched():
                continue  # it alone holds the namespace
            words = go_back(found, one, why) if found else []
        finish(one, words)
        notes += [in_words(word) for word in words]
    store.sweep()
    return notes


def unconfirmed(pending: Pending) -> str:
    """Why a change goes back at its deadline."""
    return f"no confirmation came within {span(pending.seconds)}"


@contextmanager
def _within(session: Session, pending: Pending) -> Iterator[Session | None]:
    """A session in the namespace of a change; None where that is gone, or cannot be seen from here."""
    if pending.netns == session.namespace.inode:
        # Inode numbers are used again.
        yield session if session.cookie() == pending.cookie else None
        return
    for namespace in all_namespaces():
        if namespace.inode == pending.netns:
            with namespace.duplicate() as same, Session(same) as other:
                yield other if other.cookie() == pending.cookie else None
            return
    yield None


def in_words(word: WentBack) -> str:
    """``eth0 xdp: attach went back at 14:05:09: no confirmation came within 30s``."""
    place = where(word.interface, word.hook)
    result = f"; {word.result}" if word.result else ""
    verb = "should have gone" if word.failed else "went"
    return f"{place}: {word.what} {verb} back at {clock(word.at)}: {word.why}{result}"


def span(seconds: float) -> str:
    """A duration as it is typed: ``30s``, ``1h30m``."""
    whole = int(seconds)
    if whole != seconds or not whole:
        return f"{seconds:g}s"
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number)


# --- one hook ---


def _step_back(session: Session, step: Step) -> str:
    """Put a hook as it was; "" or what is different."""
    interface = by_index(session, step.interface.index)
    if interface is None:
        raise InterfaceNotFoundError(f"interface {escape(step.interface.name)} is gone")
    there = [
        one
        for one in occupants(session, interface.index, hooks=(step.hook,))
        if one.hook is step.hook
    ]
    now = next((one for one in there if step.after and one.prog_id == step.after), None)
    if step.before is None:
        if now is None:
            return _nothing_to_do(step, there)
        mechanism.take(session, now)
        _forget_record(step, interface)
        return ""
    back = next((one for one in there if one.prog_id == step.before.prog_id), None)
    if back is not None:
        if step.record:
            records.write(_settled(step.record, back.prog_id))
        return ""
    if step.after and now is None:
        return _nothing_to_do(step, there)
    with _before(step) as before:
        if now is None:
            _put_back(session, interface, step.before, before)
        else:
            _swap_back(session, now, step, before)
        return before.note


def _nothing_to_do(step: Step, there: list[Occupant]) -> str:
    if not there:
        return "" if step.before is None else "it is empty: somebody took the program off"
    return f"program {there[0].prog_id} is there by now, and stays"


def _forget_record(step: Step, interface: Interface) -> None:
    record = records.read(interface.netns, interface.index, step.hook)
    if record and record.generation(step.after):
        records.remove(record)


def _settled(record: Record, prog_id: int) -> Record:
    found = record.generation(prog_id)
    return record.only(found) if found else record


@dataclass(slots=True)
class _Before:
    """The program to put back, and its record."""

    program: Program
    generation: Generation | None
    record: Record | None
    note: str = ""


@contextmanager
def _before(step: Step) -> Iterator[_Before]:
    """The program of before. The watcher keeps it; where that was killed, it is built anew from the kept objects."""
    assert step.before is not None
    known = step.record.generation(step.before.prog_id) if step.record else None
    with ExitStack() as stack:
        try:
            program = stack.enter_context(Program.by_id(step.before.prog_id))
        except NotAttachedError:
            pass
        else:
            yield _Before(program, known, step.record)
            return
        if known is None or step.record is None:
            raise NetbpfError(
                f"program {step.before.prog_id} is lost: the process that kept it was killed, and netbpf has no "
                "object of it"
            )
        # Loading is not for every command that looks whether something is due.
        from netbpf.manager.pending_rebuild import rebuilt

        program, new, note = rebuilt(stack, step.hook, known)
        yield _Before(program, new, step.record, note)


def _swap_back(session: Session, now: Occupant, step: Step, before: _Before) -> None:
    if before.record and before.generation:
        current = records.read(now.interface.netns, now.interface.index, step.hook)
        ours = current.generation(now.prog_id) if current else None
        both = (ours, before.generation) if ours else (before.generation,)
        records.write(replace(before.record, generations=both))
    mechanism.swap(session, now, before.program)
    if before.record and before.generation:
        records.write(replace(before.record, generations=(before.generation,)))


def _put_back(session: Session, interface: Interface, was: Occupant, before: _Before) -> None:
    if before.record and before.generation:
        records.write(replace(before.record, generations=(before.generation,)))
    if was.link_id:
        # A detach that was killed in its middle leaves the pin of a link that is on nothing.
        from netbpf.manager.repair import drop_defunct_pins

        drop_defunct_pins()
    with Undo() as undo:
        if before.record:
            undo.callback(records.remove, before.record)
        mechanism.put_at(session, replace(was, interface=interface), before.program, undo)
