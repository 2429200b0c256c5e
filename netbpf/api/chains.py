"""The members of a hook, and their successors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netbpf.api.common import LOCK_TIMEOUT, StrPath
from netbpf.api.hooks import status
from netbpf.constants import Hook

if TYPE_CHECKING:
    from netbpf.compiler.result import Options
    from netbpf.live.members import ChainCounts
    from netbpf.manager.settings import Settings
    from netbpf.manager.upgrade import Upgraded
    from netbpf.model import Attachment
    from netbpf.net.netns import Namespace


def chain(
    interface: str | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    netns: str | Namespace | None = None,
) -> list[ChainCounts]:
    """What netbpf runs on each hook, member by member, with the packets that came to each and its verdicts.

    Raises InterfaceNotFoundError, NamespaceNotFoundError, PermissionDeniedError.
    """
    from netbpf.live.members import read_chains

    found = status(interface, netns=netns)
    return read_chains([one for one in found if one.occupant.hook in hooks])


def set_member(
    interface: str,
    member: str,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    priority: int | None = None,
    proceed_on: Sequence[str] | None = None,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Attachment:
    """Change the place of a member, or the verdicts with which it hands packets on, in one step while it runs.

    Raises NotAttachedError, NotManagedError, UsageError, HookBusyError, InterfaceNotFoundError,
    PermissionDeniedError, LockTimeoutError.
    """
    from netbpf.manager.chain import SetRequest
    from netbpf.manager.chain import set_member as run

    verdicts = tuple(proceed_on) if proceed_on is not None else None
    return run(SetRequest(interface, member, hooks, priority, verdicts, lock_timeout), netns)


def upgrade(
    interface: str,
    object: StrPath,  # noqa: A002 - the field's word
    member: str | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    program: str | None = None,
    settings: Settings = (),
    reset: Sequence[str] = (),
    dry_run: bool = False,
    confirm: float | None = None,
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Upgraded:
    """Put a new object in the place of a member's, in one step, with its maps and variables.

    ``member`` None is the only one there is; ``reset`` are maps and sections that start anew. ``dry_run`` changes
    nothing; with ``confirm`` it goes back after so many seconds unless ``confirm()`` is called. Raises ObjectError
    for what cannot be carried over, and what ``attach`` raises; then all is as it was.
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.upgrade import UpgradeRequest
    from netbpf.manager.upgrade import upgrade as run

    request = UpgradeRequest(
        interface,
        hooks,
        member,
        os.fspath(object),
        program,
        settings,
        frozenset(reset),
        dry_run,
        compiler or Options(),
        lock_timeout,
        confirm,
    )
    return run(request, netns)


def rollback(
    interface: str,
    member: str | None = None,
    hooks: tuple[Hook, ...] = tuple(Hook),
    *,
    reset: Sequence[str] = (),
    dry_run: bool = False,
    confirm: float | None = None,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Upgraded:
    """Go back to a member's object before its last upgrade, by the rules of ``upgrade``.

    Raises NotAttachedError where there was none.
    """
    from netbpf.manager.upgrade import UpgradeRequest
    from netbpf.manager.upgrade import upgrade as run

    request = UpgradeRequest(
        interface, hooks, member, reset=frozenset(reset), dry_run=dry_run, confirm=confirm,
        lock_timeout=lock_timeout,
    )  # fmt: skip
    return run(request, netns)
