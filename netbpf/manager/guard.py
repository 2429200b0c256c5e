"""Changes that go back by themselves unless they are confirmed: what each change goes through before it is made."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from netbpf.bpf.program import Program
from netbpf.constants import Hook
from netbpf.errors import NotSupportedError, UsageError
from netbpf.manager.pending import clear_way, go_back, span
from netbpf.manager.undo import Undo
from netbpf.manager.words import where
from netbpf.model import Interface, Occupant
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state.pending import Pending, Phase, Step
from netbpf.state.records import Record

if TYPE_CHECKING:
    from netbpf.manager.guard_watcher import Watcher

SHORTEST: Final = 0.1  # seconds; less than that no program can confirm in
LONGEST: Final = 86400.0


class Guard:
    """What a change goes through before it is made. Without a watcher it only keeps pending changes from others."""

    def __init__(self, what: str = "", watcher: "Watcher | None" = None) -> None:
        self._what = what
        self._watcher = watcher
        self._pending: Pending | None = None
        self._held: list[Program] = []

    @property
    def active(self) -> bool:
        """Whether changes have to be confirmed."""
        return self._watcher is not None

    def before(
        self,
        session: Session,
        place: tuple[Interface, Hook],
        occupant: Occupant | None,
        after: int,
        record: Record | None,
        undo: Undo,
    ) -> None:
        """Before one change, with the lock held: remember what is there, and what comes (0: nothing).

        ``undo`` forgets it again. Raises HookBusyError while another change is pending on the hook,
        NotSupportedError for what could not be put back, NetbpfError where the watcher is gone.
        """
        clear_way(*place)
        if self._watcher is None:
            return
        tag = ""
        if occupant:
            _check_returnable(occupant, record)
            program = Program.by_id(occupant.prog_id)
            # Here too, for the watcher may be killed before all is done.
            self._held.append(program)
            self._watcher.hold(program)
            tag = program.info.tag
        step = Step(*place, occupant, tag, after, record)
        undo.callback(self._without, session, step)
        pending = self._pending or self._watcher.pending(self._what, session)
        self._pending = replace(pending, steps=(*pending.steps, step))
        store.write(self._pending)

    def _without(self, session: Session, step: Step) -> None:
        """Forget a change that was not made, or has been undone; one that stands after all has to go back."""
        if self._pending is None or _stands(session, step):
            return
        steps = tuple(one for one in self._pending.steps if one != step)
        self._pending = replace(self._pending, steps=steps) if steps else None
        if self._pending:
            store.write(self._pending)
        elif self._watcher:
            store.remove_name(self._watcher.name)

    def settle(self) -> Pending | None:
        """All is done: from now on it waits for its confirmation. None where nothing has to be confirmed.

        NetbpfError where the watcher is gone, or the deadline cannot be written: then undo everything.
        """
        if self._watcher is None or self._pending is None:
            return None
        seconds = self._watcher.seconds
        self._pending = replace(
            self._pending,
            phase=Phase.WAITING,
            deadline=store.boottime() + seconds,
            since=time.time(),
        )
        store.write(self._pending)
        self._watcher.watch()
        return self._pending

    def close(self) -> None:
        """Let go of the programs of before: the watcher has them."""
        while self._held:
            self._held.pop().close()

    def give_up(self, session: Session) -> list[str]:
        """Undo what was done so far, where there is no ``Undo`` that does; what could not be undone."""
        if self._pending is None:
            return []
        words = go_back(session, self._pending, "")
        store.remove(self._pending)
        self._pending = None
        return [one.result for one in words if one.failed]


def _stands(session: Session, step: Step) -> bool:
    there = {
        one.prog_id
        for one in occupants(session, step.interface.index, hooks=(step.hook,))
        if one.hook is step.hook
    }
    return step.after in there or (step.before is not None and step.before.prog_id not in there)


def _check_returnable(occupant: Occupant, record: Record | None) -> None:
    """What somebody else holds the link of can be taken off, but not be put back as it was."""
    if record is None and (
        occupant.link_id or (occupant.filter is None and occupant.hook is not Hook.XDP)
    ):
        raise NotSupportedError(
            f"{where(occupant.interface, occupant.hook)}: program {occupant.prog_id} could not be put back: "
            "its link belongs to somebody else",
            hint="without --confirm it can be taken off",
        )


UNGUARDED: Final = Guard()


@contextmanager
def guarded(seconds: float | None, what: str, namespace: Namespace) -> Iterator[Guard]:
    """A guard for the changes of one operation, ready before any lock is taken; None needs no confirmation.

    Raises UsageError for a time that makes no sense, NetbpfError where no watcher can be started.
    """
    if seconds is None:
        yield Guard()
        return
    if not SHORTEST <= seconds <= LONGEST:
        raise UsageError(
            f"{seconds:g} s is no time to confirm in",
            hint=f"give {span(SHORTEST)} to {span(LONGEST)}",
        )
    from netbpf.manager.guard_watcher import (
        Watcher,
    )  # processes and sockets are for those who need them

    with Watcher(seconds, namespace) as watcher:
        guard = Guard(what, watcher)
        try:
            yield guard
        finally:
            guard.close()
