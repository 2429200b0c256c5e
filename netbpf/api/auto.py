"""Programs that are on no interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf.api.common import LOCK_TIMEOUT, StrPath

if TYPE_CHECKING:
    from netbpf.compiler.result import Options
    from netbpf.manager.autopins import CompanionSet
    from netbpf.manager.companions import AutoResult
    from netbpf.manager.settings import MapSizes, Settings
    from netbpf.net.netns import Namespace


def attach_auto(
    object: StrPath,  # noqa: A002 - the field's word
    programs: Sequence[str] = (),
    *,
    settings: Settings = (),
    map_sizes: MapSizes = (),
    tail_calls: Sequence[str] = (),
    share: Sequence[str] = (),
    maps: Sequence[str] = (),
    pin_maps: StrPath | None = None,
    cgroup: StrPath | None = None,
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> AutoResult:
    """Attach what an object holds for tracepoints, kernel functions, cgroups and the like, as its sections say.

    ``programs`` are function or section names (default: all that can be attached so; those for interfaces are named
    in the notes). All are attached or none. ``cgroup`` is where cgroup programs go (default: the root of cgroup v2),
    ``netns`` where those of network namespaces go, and where ``share`` looks for interfaces. They stay when the
    process ends, until ``detach_auto``.

    Raises ObjectError, CompileError, VerifierError, NotSupportedError where the kernel lacks a hook,
    PermissionDeniedError, LockTimeoutError, UsageError.
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.companions import AutoRequest
    from netbpf.manager.companions import attach as run

    request = AutoRequest(
        object=os.fspath(object),
        programs=tuple(programs),
        settings=settings,
        map_sizes=map_sizes,
        tail_calls=tuple(tail_calls),
        share=tuple(share),
        maps=tuple(maps),
        pin_maps=Path(pin_maps) if pin_maps else None,
        cgroup=Path(cgroup) if cgroup else None,
        compiler=compiler or Options(),
        kernel_btf=Path(kernel_btf) if kernel_btf else None,
        lock_timeout=lock_timeout,
    )
    return run(request, netns)


def _entries(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def companions() -> list[CompanionSet]:
    """What ``attach_auto`` attached and is still there, by number. Raises PermissionDeniedError."""
    from netbpf import layout

    # Most hosts have none, and what reads them takes 3 ms to import.
    if not any(_entries(layout.auto_pins(root)) for root in (layout.BPFFS, layout.own_bpffs())):
        return []
    from netbpf.manager.autopins import sets

    return sets()


def detach_auto(
    which: str | int | None = None,
    *,
    everything: bool = False,
    missing_ok: bool = False,
    lock_timeout: float = LOCK_TIMEOUT,
) -> list[CompanionSet]:
    """Take off what one ``attach_auto`` attached: by its number, its object, or the only one there is.

    Raises NotAttachedError (not with ``missing_ok``), UsageError if more than one is meant and ``everything`` is not.
    """
    from netbpf.manager.companions import detach as run

    name = None if which is None else str(which)
    return run(name, everything=everything, missing_ok=missing_ok, lock_timeout=lock_timeout)


# --- looking inside objects ---
