"""Sources to objects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf.api.common import StrPath

if TYPE_CHECKING:
    from netbpf.compiler.result import CompileResult, Options


def compile(  # noqa: A001 - the verb users know
    sources: StrPath | Sequence[StrPath],
    output: StrPath | None = None,
    options: Options | None = None,
) -> list[CompileResult]:
    """Compile C sources to objects. Raises CompileError, ToolMissingError, ObjectError, UsageError."""
    from netbpf.compiler import Options, compile_sources

    several = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    return compile_sources([Path(one) for one in several], output, options or Options())
