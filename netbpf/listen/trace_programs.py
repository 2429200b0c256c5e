"""Which program is at an address of machine code: by the addresses that the kernel tells of each program."""

from bisect import bisect_right
from contextlib import suppress
from typing import NamedTuple

from netbpf._sys.describe import program_code
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.ids import program_ids
from netbpf.bpf.program import Program, btf_by_id
from netbpf.errors import KernelError, NotAttachedError, ObjectError


class Place(NamedTuple):
    """Where in which program: its function, and the line of its source, "" and 0 where it has no line information."""

    program_id: int
    program: str
    function: str
    file: str = ""
    line: int = 0


class _Function(NamedTuple):
    start: int
    end: int
    name: str
    program_id: int
    program: str
    lines: list[tuple[int, str, int]]  # address, file, line


class ProgramTable:
    """The machine code of the programs of the kernel. A program that is gone gives its addresses to another one."""

    def __init__(self) -> None:
        """Look at all programs. PermissionDeniedError without CAP_SYS_ADMIN."""
        self._functions: dict[int, list[_Function]] = {}
        self._sorted: list[_Function] | None = None
        for number in program_ids():
            self.add(number)

    def add(self, number: int) -> None:
        """Learn a program; one that is gone already, or whose addresses may not be seen, stays unknown."""
        with suppress(NotAttachedError, KernelError), Program.by_id(number) as program:
            self._functions[number] = _functions(program)
            self._sorted = None

    def remove(self, number: int) -> None:
        """Forget a program."""
        if self._functions.pop(number, None) is not None:
            self._sorted = None

    def find(self, addresses: tuple[int, ...]) -> Place | None:
        """The innermost program of a call chain, whose addresses are behind the calls; None without one."""
        if self._sorted is None:
            self._sorted = sorted(one for part in self._functions.values() for one in part)
            self._starts = [one.start for one in self._sorted]
        for address in addresses:
            at = bisect_right(self._starts, address - 1) - 1
            if at >= 0 and address <= self._sorted[at].end:
                return _place(self._sorted[at], address - 1)
        return None


def _place(one: _Function, address: int) -> Place:
    at = bisect_right(one.lines, (address, "\U0010ffff", 0)) - 1
    file, line = one.lines[at][1:] if at >= 0 else ("", 0)
    return Place(one.program_id, one.program, one.name, file, line)


def _functions(program: Program) -> list[_Function]:
    code, info = program_code(program.fd.fileno()), program.info
    btf = btf_by_id(info.btf_id)
    lines = sorted(
        (address, *_source(btf, record))
        for address, record in zip(code.jited_lines, code.lines, strict=False)
    )
    found = []
    for index, (start, length) in enumerate(zip(code.addresses, code.lengths, strict=False)):
        kind = code.functions[index][1] if index < len(code.functions) else 0
        inside = [one for one in lines if start <= one[0] < start + length]
        name = _name(btf, kind) or info.name
        found.append(_Function(start, start + length, name, info.id, info.name, inside))
    return found


def _source(btf: Btf | None, record: tuple[int, int, int, int]) -> tuple[str, int]:
    if btf is not None:
        with suppress(ObjectError):
            return btf.string(record[1]), record[3] >> 10
    return "", 0


def _name(btf: Btf | None, kind: int) -> str:
    if btf is not None and kind:
        with suppress(ObjectError):
            return btf.type(kind).name
    return ""
