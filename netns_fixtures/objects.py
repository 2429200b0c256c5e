"""What tests give as a program: an object, a C source, a shipped program, or bytes; each is compiled once per session.

Across the workers of xdist, and from one session to the next, netbpf's cache of compiled objects sees to that.
"""

import os
from pathlib import Path
from typing import Final, TypeAlias

from netbpf.bpf.object import ObjectSpec
from netbpf.constants import TcAction, XdpAction

# A path of an object or a C source, ``builtin:NAME``, or the bytes of an object.
Object: TypeAlias = str | os.PathLike[str] | bytes

_Identity: TypeAlias = tuple[str, int, int, int]
# The content and the name of each object that was used, by what the file looked like.
_read: Final[dict[_Identity, tuple[bytes, str]]] = {}


def content(object_: Object) -> tuple[bytes, str]:
    """The bytes of an object and what to call it, compiled if it is a source.

    Raises ObjectError, CompileError, ToolMissingError.
    """
    if isinstance(object_, bytes):
        return object_, "object.bpf.o"
    from netbpf.compiler import Options
    from netbpf.manager.sources import find_source

    given = os.fspath(object_)
    identity = _identity(given)
    if identity is None or identity not in _read:
        source = find_source(given, Options())
        found = ObjectSpec.open(source.path, source.name)
        if identity is None:
            return found.data, found.path
        _read[identity] = found.data, found.path
    return _read[identity]


def _identity(given: str) -> _Identity | None:
    """Changes with the file; None where there is none of that name."""
    from netbpf.manager.sources import BUILTIN, builtin

    try:
        path = builtin(given.removeprefix(BUILTIN)) if given.startswith(BUILTIN) else Path(given)
        found = path.stat()
    except OSError:
        return None
    return str(path.absolute()), found.st_mtime_ns, found.st_size, found.st_ino


def specification(object_: Object) -> ObjectSpec:
    """A parsed object of one's own, whose data may be changed before it is loaded."""
    return ObjectSpec(*content(object_))


def verdict_object(family: str, verdict: int) -> bytes:
    """The smallest object there is: one program that returns ``verdict``. ``family`` is "xdp" or "tc"."""
    from netbpf.bpf.elf import STB_GLOBAL, STT_FUNC
    from netbpf.bpf.insn import EXIT, MOV64_IMM, Insn
    from netbpf.compiler.elf_writer import CODE, ElfWriter

    code = Insn(MOV64_IMM, 0, 0, 0, verdict).pack() + Insn(EXIT).pack()
    elf = ElfWriter()
    section = elf.section(family, code, flags=CODE)
    elf.section("license", b"GPL\0")
    elf.symbol(
        f"{family}_verdict", section=section, size=len(code), type=STT_FUNC, binding=STB_GLOBAL
    )
    return elf.build()


def pass_object(family: str) -> bytes:
    """An object whose program lets everything pass."""
    return verdict_object(family, XdpAction.PASS if family == "xdp" else TcAction.OK)
