"""Changing the members of a hook that runs already: in one step, with the lock held by the caller."""

from contextlib import ExitStack

from netbpf.manager.build import Builder
from netbpf.manager.change import Changes
from netbpf.manager.guard import UNGUARDED, Guard
from netbpf.manager.members import Members
from netbpf.manager.status import Records
from netbpf.manager.undo import Undo
from netbpf.model import Attachment
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session


def rebuild(
    session: Session, one: Attachment, known: Records, members: Members, guard: Guard = UNGUARDED
) -> Attachment:
    """Run other ``members`` on a hook that runs some: those that stay keep their maps and counts.

    Raises what loading and swapping raise; then the hook is as it was.
    """
    occupant = one.occupant
    current = known.generation(occupant, one.program)
    assert current is not None
    with ExitStack() as held, Builder(occupant.hook) as builder, Undo() as undo:
        changes = Changes(session, held, guard)
        built = builder.build(members, current, {})
        made = changes.swap(occupant, current, built, undo)
        there = occupants(session, occupant.interface.index, hooks=(occupant.hook,))
        return changes.verified(made, there)
