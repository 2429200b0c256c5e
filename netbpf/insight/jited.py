"""Machine code as text, by objdump of binutils where that is installed, else in hex."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from netbpf.insight.kallsyms import symbol_at
from netbpf.insight.model import SourceLine
from netbpf.insight.xlated import RunningCode
from netbpf.text import escape

_MACHINES = {
    "x86_64": "i386:x86-64", "aarch64": "aarch64", "riscv64": "riscv:rv64", "s390x": "s390:64-bit",
    "ppc64le": "powerpc:common64", "loongarch64": "Loongarch64",
}  # fmt: skip
_LINE = re.compile(r"^\s*([0-9a-f]+):\t([0-9a-f ]+?)\s*(?:\t(.*))?$")
_CALL = re.compile(r"^(call|jmp|bl|jal|brasl)\b.*?0x([0-9a-f]{9,16})$")
_ROW = 16  # bytes of hex in a line


@dataclass(frozen=True, slots=True)
class MachineLine:
    """An instruction of the machine: its offset in bytes, its bytes in hex and its text, "" without a disassembler."""

    offset: int
    opcodes: str
    text: str
    source: SourceLine | None = None


@dataclass(frozen=True, slots=True)
class MachineCode:
    """The machine code of a function, at an address of the kernel."""

    name: str
    address: int
    lines: tuple[MachineLine, ...]


def disassembler() -> str | None:
    """objdump, where it is installed and there is a word for this machine."""
    return shutil.which("objdump") if platform.machine() in _MACHINES else None


def machine_code(code: RunningCode) -> list[MachineCode]:
    """The machine code of a program, function by function. Raises NotSupportedError, PermissionDeniedError."""
    tool = disassembler()
    found = []
    for name, address, raw, places in code.machine_parts():
        sources = {at - address: source for at, source in places}
        lines = _disassembled(tool, raw, address) if tool else _hex(raw)
        found.append(MachineCode(name, address, tuple(_with_sources(lines, sources))))
    return found


def _with_sources(
    lines: Iterator[MachineLine], sources: dict[int, SourceLine]
) -> Iterator[MachineLine]:
    last: SourceLine | None = None
    for one in lines:
        source = sources.get(one.offset)
        new = source and (last is None or (source.file, source.line) != (last.file, last.line))
        last = source or last
        yield MachineLine(one.offset, one.opcodes, one.text, source if new else None)


def _hex(raw: bytes) -> Iterator[MachineLine]:
    for at in range(0, len(raw), _ROW):
        yield MachineLine(at, raw[at : at + _ROW].hex(" "), "")


def _disassembled(tool: str, raw: bytes, address: int) -> Iterator[MachineLine]:
    machine = _MACHINES[platform.machine()]
    with tempfile.NamedTemporaryFile(prefix="netbpf-jited-") as file:
        file.write(raw)
        file.flush()
        command = [
            tool,
            "-D",
            "-z",
            "-w",
            "-b",
            "binary",
            "-m",
            machine,
            f"--adjust-vma={address}",
            file.name,
        ]
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment
        )  # fmt: skip
    found = [match for line in done.stdout.splitlines() if (match := _LINE.match(line))]
    if done.returncode or not found:
        yield from _hex(raw)  # this objdump was made for other machines
        return
    for one in found:
        text = _CALL.sub(_named, " ".join((one[3] or "").split()))
        yield MachineLine(int(one[1], 16) - address, one[2], text)


def _named(call: re.Match[str]) -> str:
    """A call with the name of the kernel's function."""
    name = symbol_at(int(call[2], 16))
    return f"{call[0]} <{escape(name)}>" if name else call[0]
