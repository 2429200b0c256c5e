"""What the functions of the library have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from netbpf.constants import Hook
from netbpf.errors import (
    UsageError,
)

LOCK_TIMEOUT = 30.0  # seconds
StrPath = str | os.PathLike[str]
HookName = Hook | Literal["xdp", "tc", "tc/ingress", "tc/egress"]


def hook_of(name: HookName) -> Hook:
    """The hook of a name; "tc" is "tc/ingress". UsageError for others."""
    if name == "tc":
        return Hook.TC_INGRESS
    try:
        return Hook(name)
    except ValueError:
        raise UsageError(
            f"no hook {name!r}", hint="the hooks are xdp, tc/ingress and tc/egress"
        ) from None


def paths(given: StrPath | Sequence[StrPath]) -> tuple[str, ...]:
    """One path or several, as texts."""
    several = [given] if isinstance(given, str | os.PathLike) else given
    return tuple(os.fspath(one) for one in several)


def hooks_of(hook: HookName | tuple[Hook, ...] | None) -> tuple[Hook, ...]:
    """What a name stands for where several hooks may be meant."""
    if isinstance(hook, tuple):
        return hook
    if hook is None:
        return tuple(Hook)
    return (Hook.TC_INGRESS, Hook.TC_EGRESS) if hook == "tc" else (hook_of(hook),)
