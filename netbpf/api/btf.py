"""Types: of the kernel, of what it runs, and of objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf.api.common import StrPath

if TYPE_CHECKING:
    from netbpf.insight.btf_list import KernelBtf
    from netbpf.insight.types import Types


def types(
    of: StrPath | Sequence[str], *, names: Sequence[str] = (), base: StrPath | None = None
) -> Types:
    """The types of an object, a program, a map or the kernel, to list them or to write them as a C header.

    ``of`` is ``vmlinux``, a module's name, an object (as for ``attach``), or several words: ``("prog", "xdp_count")``,
    ``("map", "flows", "value")``, ``("id", "17")``. ``names`` are the types that are wanted, with what they need;
    ``base`` is the file whose types those of a file continue.

    >>> print("".join(types("vmlinux", names=["struct ethhdr"]).header()))  # doctest: +SKIP

    Raises ObjectError where there are none, NotAttachedError, UsageError, CompileError, PermissionDeniedError.
    """
    from netbpf.insight.types import types_of
    from netbpf.manager.sources import BUILTIN, find_source

    words = [os.fspath(of)] if isinstance(of, str | os.PathLike) else list(of)
    last = words[-1] if words else ""
    if (len(words) == 1 or words[0] == "file") and (
        last.startswith(BUILTIN) or last.endswith(".c")
    ):
        from netbpf.compiler.result import Options

        found = types_of(["file", str(find_source(last, Options()).path)])
        name = Path(last.removeprefix(BUILTIN)).stem
        return replace(found, name=name).only(names)
    return types_of(words, Path(base) if base else None).only(names)


def btfs(number: int | None = None) -> list[KernelBtf]:
    """The BTF objects that the kernel has, and whose they are: all, or one. Raises PermissionDeniedError."""
    from netbpf.insight.btf_list import btfs as run

    return run(number)
