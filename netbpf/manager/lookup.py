"""Which member of which hook a request means."""

from collections.abc import Iterable
from typing import NamedTuple

from netbpf.constants import Hook
from netbpf.errors import NotAttachedError, NotManagedError, UsageError
from netbpf.manager.members import Members
from netbpf.manager.status import Records, described, reached_by
from netbpf.manager.words import detach_command, hook_words, occupant_text, where
from netbpf.model import Attachment, Member
from netbpf.net.interfaces import resolve
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.text import did_you_mean, escape


class Meant(NamedTuple):
    """A member, and what runs on its hook."""

    attachment: Attachment
    member: Member

    @property
    def members(self) -> Members:
        """All members of the hook, in running order."""
        return self.attachment.members

    @property
    def place(self) -> str:
        """``eth0 xdp``."""
        return where(self.attachment.occupant.interface, self.attachment.occupant.hook)


def meant(
    session: Session, known: Records, interface: str, hooks: Iterable[Hook], member: str | None
) -> Meant:
    """The member called ``member``, or the only one there is, on one of ``hooks``.

    Raises InterfaceNotFoundError, NotAttachedError, NotManagedError, and UsageError where several are meant.
    """
    ifindex = resolve(session, interface).index
    wanted = tuple(hooks)
    found = [
        one
        for one in described(occupants(session, ifindex), known, reached_by(session.namespace))
        if one.occupant.hook in wanted and not (one.managed and not one.members)  # only a capture
    ]
    managed = [Meant(one, each) for one in found if one.managed for each in one.members]
    chosen = managed if member is None else [one for one in managed if one.member.name == member]
    if len(chosen) == 1:
        return chosen[0]
    shown = escape(interface)
    if chosen:
        listed = ", ".join(f"{escape(one.member.name)} ({one.place})" for one in chosen)
        hint = f"name one: {escape(chosen[0].member.name)}"
        if member is not None:
            hint = f"say on which hook: {hook_words(chosen[0].attachment.occupant.hook)}"
        raise UsageError(f"{len(chosen)} members are meant: {listed}", hint=hint)
    if managed:
        assert member is not None
        raise NotAttachedError(
            f"{shown} has no member {escape(member)}",
            hint=did_you_mean(member, (one.member.name for one in managed), "its members are"),
        )
    if found:
        raise NotManagedError(
            f"{where(found[0].occupant.interface, found[0].occupant.hook)} runs {occupant_text(found[0])}",
            hint=f"use the tool that attached it, or: {detach_command(found[0])}",
        )
    kinds = " or ".join(dict.fromkeys(hook_words(hook).upper() for hook in wanted))
    raise NotAttachedError(
        f"no {kinds} program is attached on {shown}", hint="netbpf status shows what runs where"
    )
