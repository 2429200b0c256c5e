"""Programs that are loaded and on no hook yet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf.api.common import LOCK_TIMEOUT, StrPath

if TYPE_CHECKING:
    from netbpf.compiler.result import Options
    from netbpf.manager.loading import LoadResult, UnloadResult
    from netbpf.manager.loadpins import LoadedSet
    from netbpf.manager.settings import MapSizes, Settings
    from netbpf.net.netns import Namespace


def load(
    object: StrPath,  # noqa: A002 - the field's word
    programs: Sequence[str] = (),
    *,
    pin: StrPath | None = None,
    type: str | None = None,  # noqa: A002 - as the option
    settings: Settings = (),
    map_sizes: MapSizes = (),
    tail_calls: Sequence[str] = (),
    share: Sequence[str] = (),
    maps: Sequence[str] = (),
    pin_maps: StrPath | None = None,
    netns: str | Namespace | None = None,
    compiler: Options | None = None,
    kernel_btf: StrPath | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> LoadResult:
    """Load the programs of an object, on no hook, and pin them and their maps, by which they stay; all or none.

    ``programs`` are function or section names (default: all), ``pin`` is the directory in a bpffs for the pins
    (default: one of netbpf's own, named after the object), ``type`` a section name that stands for those of the object
    where they say nothing. The rest is as for ``attach``.

    Raises ObjectError, CompileError, VerifierError, NotSupportedError, PermissionDeniedError, LockTimeoutError,
    UsageError, NetbpfError for names that are taken.
    """
    from netbpf.compiler.result import Options
    from netbpf.manager.loading import LoadRequest, load_object

    request = LoadRequest(
        object=os.fspath(object),
        programs=tuple(programs),
        pin=Path(pin) if pin is not None else None,
        type=type,
        settings=settings,
        map_sizes=map_sizes,
        tail_calls=tuple(tail_calls),
        share=tuple(share),
        maps=tuple(maps),
        pin_maps=Path(pin_maps) if pin_maps else None,
        compiler=compiler or Options(),
        kernel_btf=Path(kernel_btf) if kernel_btf else None,
        lock_timeout=lock_timeout,
    )
    return load_object(request, netns)


def unload(
    which: StrPath | None = None,
    *,
    everything: bool = False,
    missing_ok: bool = False,
    netns: str | Namespace | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
) -> list[UnloadResult]:
    """Remove exactly the pins that ``load`` made, and say which programs stay in the kernel and because of what.

    ``which`` is a name, a directory, a pin or an object; None the only one there is. What runs them is looked for in
    ``netns`` and in all namespaces that can be found. Raises NotAttachedError (not with
    ``missing_ok``), NotManagedError for pins of others, UsageError if more than one is meant and ``everything`` is not.
    """
    from netbpf.manager.loading import unload as run

    name = None if which is None else os.fspath(which)
    return run(
        name, everything=everything, missing_ok=missing_ok, netns=netns, lock_timeout=lock_timeout
    )


def loaded() -> list[LoadedSet]:
    """What ``load`` loaded and is still pinned, by name. Raises PermissionDeniedError."""
    from netbpf import layout

    # Most hosts have none, and what reads them takes milliseconds to import.
    places = [layout.loaded_pins(root) for root in (layout.BPFFS, layout.own_bpffs())]
    if not any(_entries(one) for one in (layout.loaded_records(), *places)):
        return []
    from netbpf.manager.loadpins import sets

    return sets()


def _entries(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
