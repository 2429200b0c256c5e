"""Compiling BCC's dialect with BCC's own library, in a child process."""

import json
import os
import re
from pathlib import Path
from typing import Any

import netbpf._sys
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.map import possible_cpus
from netbpf.compiler.bcc_object import BccModule, BccTable, write_object
from netbpf.compiler.depfile import dependencies
from netbpf.compiler.dialect import inner_maps, pinned_table
from netbpf.compiler.headers import OWN, kernel_tree
from netbpf.compiler.process import python, run
from netbpf.compiler.result import Compiled, Options
from netbpf.compiler.scratch import scratch_directory
from netbpf.compiler.toolchain import INSTALL_BCC, find_library
from netbpf.errors import CompileError, ObjectError, PermissionDeniedError, ToolMissingError
from netbpf.text import escape

_SCRIPT = Path(netbpf._sys.__file__).with_name("bcc_dump.py")
_UNUSABLE = 2  # exit status of the script
_NO_PERMISSION = re.compile(r"could not open bpf map: (\S+), error: Operation not permitted")


def compile_bcc(source: str, text: str, options: Options) -> Compiled:
    """Compile one source, whose content is ``text``.

    Needs CAP_BPF, since BCC creates the tables' maps while it compiles; they vanish with the child. Raises
    CompileError, ToolMissingError and PermissionDeniedError.
    """
    library = find_library()
    tree = kernel_tree()
    pinned = pinned_table(text)
    if pinned:
        # BCC would open the pin, or make it, already while compiling.
        raise CompileError(
            f"{escape(source)} uses {pinned}, which netbpf does not compile", hint="use BPF_TABLE"
        )
    version = "bcc " + (re.sub(r".*\.so\.", "", library.resolve().name) or "0")
    path = str(Path(source).absolute())
    with scratch_directory() as directory:
        made, rules = Path(directory, "module.json"), Path(directory, "rules.d")
        # Relative directories would be taken from the kernel's tree, where BCC changes to.
        include = [
            Path(one).absolute()
            for one in (*options.include_dirs, str(Path(path).parent), str(OWN))
        ]
        command = [
            python(), "-I", "-S", str(_SCRIPT), str(library), path, str(made),
            *(f"-D{define}" for define in options.defines),
            *(f"-I{one}" for one in include),
            *tree.include_flags(),
            "-MD", "-MF", str(rules),
        ]  # fmt: skip
        status, output = run(command, source, version, env={"BCC_KERNEL_SOURCE": str(tree.source)})
        if status == _UNUSABLE:
            raise ToolMissingError(
                f"BCC's library cannot be used: {escape(output.strip())}", hint=INSTALL_BCC
            )
        # BCC reads the file itself and calls it by a name of its own.
        output = output.replace("/virtual/main.c", source)
        if status or not made.exists():
            raise _failure(source, output)
        dump = json.loads(made.read_bytes())
        headers = dependencies(rules, str(tree.source)) if rules.exists() else None
    data = write_object(_module(source, dump, text))
    return Compiled(data, version, "bcc", headers, output, _notes(tree.release))


def _failure(source: str, output: str) -> CompileError | PermissionDeniedError:
    if _NO_PERMISSION.search(output):
        return PermissionDeniedError(
            "compiling BCC's dialect needs CAP_BPF: BCC creates the maps while it compiles",
            hint="run netbpf as root",
        )
    return CompileError(f"{escape(source)} does not compile (as BCC's dialect)", output=output)


def _notes(release: str) -> tuple[str, ...]:
    running = os.uname().release
    if release == running:
        return ()
    return (
        f"compiled with the kernel headers of {release}; {running} is running and its headers are not installed",
    )


def _module(source: str, dump: dict[str, Any], text: str) -> BccModule:
    return BccModule(
        origin=escape(source),
        functions={one["name"]: bytes.fromhex(one["code"]) for one in dump["functions"]},
        tables=tuple(BccTable(**one) for one in dump["tables"]),
        license=dump["license"],
        btf=_btf(bytes.fromhex(dump["btf"])),
        inner=inner_maps(text),
        possible_cpus=possible_cpus(),
    )


def _btf(data: bytes) -> Btf | None:
    try:
        return Btf(data) if data else None
    except ObjectError:
        return None  # BTF that only the kernel understands: the maps stay untyped
