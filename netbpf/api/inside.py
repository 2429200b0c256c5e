"""What objects hold, and what of BPF there is in the kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf.api.common import StrPath
from netbpf.api.hooks import status

if TYPE_CHECKING:
    from netbpf.bpf.object import ObjectSpec
    from netbpf.insight.choose import Wanted
    from netbpf.insight.entries import Entries
    from netbpf.insight.jited import MachineCode
    from netbpf.insight.kernel_model import KernelLink, KernelMap, KernelProgram
    from netbpf.insight.model import ElfHeaders, Listing, ObjectReport


def _opened(object: StrPath) -> tuple[ObjectSpec, tuple[str, ...]]:  # noqa: A002 - the word for it
    from netbpf.bpf.object import ObjectSpec
    from netbpf.compiler.result import Options
    from netbpf.manager.sources import find_source

    source = find_source(os.fspath(object), Options())
    return ObjectSpec.open(source.path, os.fspath(object)), source.notes


def inspect(object: StrPath) -> ObjectReport:  # noqa: A002
    """What an object holds, and whether this kernel has what it needs; ``object`` as for ``attach``.

    Nothing of the object is loaded: helpers, map types and instructions are asked for by programs of a few
    instructions. Without the permission to do so the answers are None. Raises ObjectError, CompileError.
    """
    from netbpf.insight.objects import report

    spec, notes = _opened(object)
    return report(spec, notes=notes)


def disassemble(object: StrPath, *, names: Sequence[str] = ()) -> list[Listing]:  # noqa: A002
    """The code of an object's functions with its source lines; of ``names`` only: functions or sections.

    Raises ObjectError, CompileError.
    """
    from netbpf.insight.listing import listings

    return listings(_opened(object)[0], names)


def elf_headers(object: StrPath) -> ElfHeaders:  # noqa: A002
    """ELF header, sections and symbols of an object. Raises ObjectError, CompileError."""
    from netbpf.insight.headers import headers

    return headers(_opened(object)[0].elf)


# --- looking into the kernel ---

# What is meant: an id, a name, a tag or the path of a pin, as one word or with the word for it ("name", "17").
Which = int | str | tuple[str, ...]


def _wanted(which: Which | None) -> Wanted:
    from netbpf.insight.choose import Wanted, parse

    if which is None:
        return Wanted()
    if isinstance(which, int):
        return Wanted(id=which)
    return parse((which,) if isinstance(which, str) else which)


def programs(which: Which | None = None, *, all_netns: bool = False) -> list[KernelProgram]:
    """The programs that the kernel has, with pins, processes and hooks: all, or those that are meant.

    Hooks are those of this network namespace, or of all. One that vanishes meanwhile is left out. Raises
    NotAttachedError where none is what was meant, PermissionDeniedError.
    """
    from netbpf.insight.kernel import programs as run

    return run(_wanted(which), lambda: status(all_netns=all_netns))


def maps(which: Which | None = None, *, all_netns: bool = False) -> list[KernelMap]:
    """The maps that the kernel has, with the programs that use them; see ``programs``."""
    from netbpf.insight.kernel import maps as run

    return run(_wanted(which), lambda: status(all_netns=all_netns))


def links(which: Which | None = None, *, all_netns: bool = False) -> list[KernelLink]:
    """The links that the kernel has: all, or one by its id or pin.

    Interfaces have names in this network namespace, or in all. Raises NotAttachedError, PermissionDeniedError.
    """
    from netbpf.insight.kernel import links as run

    return run(_wanted(which), lambda: status(all_netns=all_netns))


def program_code(which: Which) -> list[Listing]:
    """The instructions of a running program as the verifier left them, by functions, with source lines.

    Raises NotAttachedError, UsageError where several are meant, PermissionDeniedError, NotSupportedError.
    """
    from netbpf.insight.kernel import open_program
    from netbpf.insight.xlated import RunningCode

    with open_program(_wanted(which)) as program:
        return RunningCode(program).xlated()


def program_machine_code(which: Which) -> list[MachineCode]:
    """The machine code of a running program; without objdump its bytes alone. Raises as ``program_code``."""
    from netbpf.insight.jited import machine_code
    from netbpf.insight.kernel import open_program
    from netbpf.insight.xlated import RunningCode

    with open_program(_wanted(which)) as program:
        return machine_code(RunningCode(program))


def map_entries(which: Which) -> Entries:
    """The entries of one map, to read and write; a context manager.

    >>> with map_entries("rules") as entries:  # doctest: +SKIP
    ...     entries.update("{src: 10.0.0.0/8}", "drop")

    Raises NotAttachedError, UsageError where several are meant, PermissionDeniedError.
    """
    from netbpf.insight.entries import Entries
    from netbpf.insight.kernel import open_map

    return Entries(open_map(_wanted(which)))


def pin_map(which: Which, path: StrPath) -> Path:
    """Give a map a name in a bpffs; it stays until the name is removed. Raises NetbpfError where the name is taken."""
    from netbpf.insight.kernel import open_map
    from netbpf.insight.pinning import pin

    with open_map(_wanted(which)) as opened:
        return pin(opened.fd.fileno(), Path(path))
