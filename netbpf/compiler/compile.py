"""From C source to object file."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from netbpf.compiler.clang import compile_clang
from netbpf.compiler.output import plan, write_atomically
from netbpf.compiler.result import Compiled, CompileResult, Options, StrPath
from netbpf.compiler.source import check, read_source, wants_bcc


def compile_in_memory(source: str, content: bytes, options: Options) -> Compiled:
    """Compile a source that was read already with the frontend it is written for, or that ``options`` name."""
    if wants_bcc(content, options):
        from netbpf.compiler.bcc import compile_bcc  # 15 ms that clang's sources need not wait for

        return compile_bcc(source, content.decode(errors="replace"), options)
    return compile_clang(source, options)


def compile_sources(
    sources: Sequence[StrPath], output: StrPath | None = None, options: Options | None = None
) -> list[CompileResult]:
    """Compile each source into an object of its own; nothing is written unless all of them compile.

    ``output`` is a directory, or a file where there is one source; without it the objects come into the current
    directory, ``x.bpf.c`` as ``x.bpf.o``. Raises UsageError, ObjectError for a source that cannot be read,
    CompileError with the compiler's own text, ToolMissingError naming the package of what is not installed, and
    PermissionDeniedError where BCC needs more than it has.
    """
    options = options or Options()
    check(options)
    paths = [Path(source) for source in sources]
    targets = plan(paths, output)
    results = []
    for source, path, target in zip(sources, paths, targets, strict=True):
        start = time.perf_counter()
        name = os.fspath(source)
        made = compile_in_memory(name, read_source(name), options)
        result = CompileResult(
            source=path,
            output=target,
            compiler=made.compiler,
            frontend=made.frontend,
            size=len(made.object),
            seconds=time.perf_counter() - start,
            warnings=made.warnings,
            notes=made.notes,
        )
        results.append((result, made.object))
    for result, data in results:
        write_atomically(result.output, data)
    return [result for result, _ in results]


def compile_source(
    source: StrPath, output: StrPath | None = None, options: Options | None = None
) -> CompileResult:
    """Compile one source; as ``compile_sources``."""
    return compile_sources([source], output, options)[0]
