"""Compiling plain BPF C with clang, and explaining what it lacks."""

import os
import re
import tempfile
from pathlib import Path

from netbpf.bpf.elf import Elf
from netbpf.compiler.depfile import dependencies
from netbpf.compiler.hints import clang_hint
from netbpf.compiler.process import run
from netbpf.compiler.result import Compiled, Options
from netbpf.compiler.strip import strip_debug
from netbpf.compiler.toolchain import (
    INSTALL_CLANG,
    OLDEST,
    argument,
    clang_flags,
    find_clang,
    too_old,
)
from netbpf.errors import CompileError, ToolMissingError
from netbpf.text import escape

_NO_TARGET = re.compile(
    r"unknown target triple 'bpf|No available targets are compatible with triple|invalid target .*bpf"
)


def _version(clang: Path) -> str:
    status, output = run([str(clang), "--version"], "nothing", str(clang))
    match = re.search(r"clang version (\d+)(\.\S+)?", output)
    if status or not match:
        raise ToolMissingError(
            f"{clang} is not clang: it answers --version with {escape(output[:80].strip())!r}",
            hint=INSTALL_CLANG,
        )
    if int(match[1]) < OLDEST:
        raise ToolMissingError(too_old(clang, int(match[1])), hint=INSTALL_CLANG)
    return "clang " + re.sub(r"[^\d.].*", "", match[1] + (match[2] or ""))


def compile_clang(source: str, options: Options) -> Compiled:
    """Compile one source. Raises CompileError and ToolMissingError."""
    clang = find_clang(options.clang)
    version = _version(clang)
    with tempfile.TemporaryDirectory(prefix="netbpf-") as directory:
        made, rules = Path(directory, "object.o"), Path(directory, "rules.d")
        command = [
            str(clang),
            *clang_flags(options),
            "-MD",
            "-MF",
            str(rules),
            "-c",
            argument(source),
            "-o",
            str(made),
        ]
        status, output = run(command, source, version)
        if _NO_TARGET.search(output):
            raise ToolMissingError(f"{clang} was built without the BPF target", hint=INSTALL_CLANG)
        if status or not made.exists():
            raise CompileError(
                f"{escape(source)} does not compile", output=output, hint=clang_hint(output)
            )
        headers = dependencies(rules, os.getcwd()) if rules.exists() else None  # noqa: PTH109
        data = strip_debug(made.read_bytes())
    elf = Elf(data, source)
    if elf.section(".BTF") is None and any(one.executable and one.size for one in elf.sections):
        raise CompileError(
            f"{version} made an object without BTF of {escape(source)}", output=output
        )
    return Compiled(data, version, "clang", headers, output)
