"""Compiling plain BPF C with clang, and explaining what it lacks."""

import os
import re
from pathlib import Path

from netbpf.bpf.elf import Elf
from netbpf.compiler.depfile import dependencies
from netbpf.compiler.hints import clang_hint
from netbpf.compiler.process import run
from netbpf.compiler.result import Compiled, Options
from netbpf.compiler.scratch import scratch_directory
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

_VERSION = re.compile(rb"clang version (\d+(?:\.\d+)*)")
_NO_TARGET = re.compile(
    r"unknown target triple 'bpf|No available targets are compatible with triple|invalid target .*bpf"
)


def _ask_version(clang: Path) -> str:
    """What ``clang --version`` says, which takes as long as compiling a small source."""
    status, output = run([str(clang), "--version"], "nothing", str(clang))
    match = _VERSION.search(output.encode())
    if status or not match:
        raise ToolMissingError(
            f"{clang} is not clang: it answers --version with {escape(output[:80].strip())!r}",
            hint=INSTALL_CLANG,
        )
    return _checked(clang, match)


def _checked(clang: Path, match: re.Match[bytes]) -> str:
    version = match[1].decode()
    if int(version.partition(".")[0]) < OLDEST:
        raise ToolMissingError(too_old(clang, int(version.partition(".")[0])), hint=INSTALL_CLANG)
    return f"clang {version}"


def compile_clang(source: str, options: Options) -> Compiled:
    """Compile one source. Raises CompileError and ToolMissingError."""
    clang = find_clang(options.clang)
    with scratch_directory() as directory:
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
        status, output = run(command, source, str(clang))
        if _NO_TARGET.search(output):
            raise ToolMissingError(f"{clang} was built without the BPF target", hint=INSTALL_CLANG)
        if status or not made.exists():
            _ask_version(clang)  # something else, or an old one, may be why
            raise CompileError(
                f"{escape(source)} does not compile", output=output, hint=clang_hint(output)
            )
        headers = dependencies(rules, os.getcwd()) if rules.exists() else None  # noqa: PTH109
        raw = made.read_bytes()
    # The debug information names its producer.
    named = _VERSION.search(raw)
    version = _checked(clang, named) if named else _ask_version(clang)
    data = strip_debug(raw)
    elf = Elf(data, source)
    if elf.section(".BTF") is None and any(one.executable and one.size for one in elf.sections):
        raise CompileError(
            f"{version} made an object without BTF of {escape(source)}", output=output
        )
    return Compiled(data, version, "clang", headers, output)
