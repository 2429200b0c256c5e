"""Changing the place of a member in its chain, and what it hands on, while it runs."""

from dataclasses import dataclass, replace

from netbpf.bpf.chain import verdicts
from netbpf.constants import Hook
from netbpf.errors import UsageError
from netbpf.manager import members as on_hook
from netbpf.manager.lookup import meant
from netbpf.manager.rebuild import rebuild
from netbpf.manager.repair import repair, tidy
from netbpf.manager.status import Records, opened
from netbpf.manager.undo import uninterrupted
from netbpf.model import Attachment
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.state.lock import DEFAULT_TIMEOUT, locked


@dataclass(frozen=True, slots=True)
class SetRequest:
    """A change of one member. None leaves as it is; ``proceed_on`` are names of verdicts."""

    interface: str
    member: str
    hooks: tuple[Hook, ...] = tuple(Hook)
    priority: int | None = None
    proceed_on: tuple[str, ...] | None = None
    lock_timeout: float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        if self.priority is None and self.proceed_on is None:
            raise UsageError("nothing to change", hint="give --priority or --proceed-on")


def set_member(request: SetRequest, netns: str | Namespace | None = None) -> Attachment:
    """Change a member in one step; what runs on its hook afterwards.

    Raises InterfaceNotFoundError, NotAttachedError, NotManagedError, UsageError, and what linking and swapping raise;
    then the hook is as it was.
    """
    with (
        opened(netns) as namespace,
        Session(namespace) as session,
        locked(request.lock_timeout),
        uninterrupted(),
    ):
        repair(session)
        known = Records()
        found = meant(session, known, request.interface, request.hooks, request.member)
        member = found.member
        if request.priority is not None:
            member = replace(member, priority=request.priority)
        if request.proceed_on is not None:
            names = verdicts.names(found.attachment.occupant.hook, request.proceed_on)
            member = replace(member, proceed_on=names)
        if member == found.member:
            return found.attachment
        made = rebuild(session, found.attachment, known, on_hook.changed(found.members, member))
        tidy(session)
        return made
