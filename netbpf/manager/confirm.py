"""Keeping a change that waits for its confirmation, or going back at once."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from netbpf.constants import Hook
from netbpf.errors import HookBusyError, NetbpfError, NotAttachedError, UsageError
from netbpf.manager.pending import ASKED, clock, end, finish, go_back, in_words, repair
from netbpf.manager.repair import repair as clear_away
from netbpf.manager.status import opened
from netbpf.manager.undo import uninterrupted
from netbpf.model import Interface
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from netbpf.state.pending import Pending, WentBack
from netbpf.text import escape


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """One confirmation. ``interface`` and ``hooks`` narrow what is meant, ``everything`` means all that match.

    ``undo`` goes back instead of keeping. An operation on several hooks is confirmed as one.
    """

    interface: str | None = None
    hooks: tuple[Hook, ...] = tuple(Hook)
    everything: bool = False
    undo: bool = False
    lock_timeout: float = DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A change that was kept (``undone`` is empty), or what became of its hooks on the way back."""

    pending: Pending
    undone: tuple[WentBack, ...] = ()


def confirm(request: ConfirmRequest, netns: str | Namespace | None = None) -> list[Confirmed]:
    """Keep what is pending, or go back.

    Whoever has the lock decides, and the deadline counts: what is overdue goes back here, should the watcher not have
    come to it. Raises HookBusyError for what has gone back already, NotAttachedError where nothing is pending,
    UsageError where several are and ``everything`` is not said, InterfaceNotFoundError, LockTimeoutError.
    """
    with (
        opened(netns) as namespace,
        Session(namespace) as session,
        locked(request.lock_timeout),
        uninterrupted(),
    ):
        index = resolve(session, request.interface).index if request.interface else None
        repair(session)
        here = [one for one in store.waiting() if one.netns == namespace.inode]
        meant = [one for one in here if _matches(one, index, request.hooks)]
        if not meant:
            raise _nothing(request, namespace, index)
        if len(meant) > 1 and not request.everything:
            listed = "; ".join(map(described, meant[:10]))
            first = meant[0].steps[0]
            word = first.hook.value.partition("/")[0]
            raise UsageError(
                f"{len(meant)} changes are pending: {listed}",
                hint=f"name one, such as: netbpf confirm {escape(first.interface.name)} {word}; "
                "or take all with --all",
            )
        try:
            return [_one(session, one, undo=request.undo) for one in meant]
        finally:
            # What only the other outcome needed: objects, pins, a qdisc.
            with suppress(NetbpfError):
                clear_away(session)


def _one(session: Session, pending: Pending, *, undo: bool) -> Confirmed:
    if not undo:
        end(pending)
        return Confirmed(pending)
    # Its time is over from now on: should this process be killed in the middle, others bring it to its end.
    store.write(replace(pending, deadline=min(pending.deadline, store.boottime())))
    words = go_back(session, pending, ASKED)
    finish(pending, words)
    # It is no news to who asked for it.
    for one in words:
        if not one.failed:
            store.forget(one.interface, one.hook)
    return Confirmed(pending, tuple(words))


def _matches(pending: Pending, index: int | None, hooks: Iterable[Hook]) -> bool:
    wanted = tuple(hooks)
    return any(index in (None, one.interface.index) and one.hook in wanted for one in pending.steps)


def _nothing(
    request: ConfirmRequest, namespace: Namespace, index: int | None
) -> HookBusyError | NotAttachedError:
    """Why there is nothing to confirm: it has gone back, or there never was."""
    gone = [
        one
        for one in store.went_back()
        if one.interface.netns == namespace.inode
        and index in (None, one.interface.index)
        and one.hook in request.hooks
    ]
    if gone:
        last = max(gone, key=lambda one: one.at)
        same = [one for one in gone if abs(one.at - last.at) < 1 and one is not last]
        more = f" (and {len(same)} more)" if same else ""
        return HookBusyError(
            f"too late: {in_words(last)}{more}", hint="netbpf status shows what runs now"
        )
    on = f" on {escape(request.interface)}" if request.interface else ""
    elsewhere = [one for one in store.waiting() if one.netns != namespace.inode]
    hint = "netbpf status shows what waits"
    if elsewhere:
        where = elsewhere[0].netns_name
        at = f" --netns {escape(where)}" if where else ""
        hint = f"in another network namespace there is: {described(elsewhere[0])}{at}"
    return NotAttachedError(f"no change{on} waits for its confirmation", hint=hint)


def places(pending: Pending) -> str:
    """``eth0 xdp, eth1 xdp``."""
    return ", ".join(_place(one.interface, one.hook) for one in pending.steps)


def _place(interface: Interface, hook: Hook) -> str:
    return f"{escape(interface.name)} {hook}"


def described(pending: Pending) -> str:
    """``attach on eth0 xdp (until 14:05:09)``."""
    return f"{pending.what} on {places(pending)} (until {clock(pending.since + pending.seconds)})"
