"""The code of a running program: as the verifier left it, and as machine code."""

from bisect import bisect_right
from collections.abc import Iterator

from netbpf._sys.capabilities import effective
from netbpf._sys.describe import ProgramCode, program_code
from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.declare import prototype
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.disasm import Names, disassemble
from netbpf.bpf.helpers import helper_name
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program, btf_by_id
from netbpf.errors import NotAttachedError, NotSupportedError, ObjectError, PermissionDeniedError
from netbpf.insight import kallsyms
from netbpf.insight.model import CodeLine, Listing, SourceLine
from netbpf.text import escape

_CAP_SYSLOG = 34


class RunningCode:
    """A program's code with what names it: its types, the kernel's symbols, its maps."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.code: ProgramCode = program_code(program.fd.fileno())
        self.btf: Btf | None = btf_by_id(program.info.btf_id)
        self._maps: dict[int, str] = {}
        for number in program.info.map_ids:
            try:
                with Map.by_id(number) as one:
                    self._maps[number] = one.info.name
            except (NotAttachedError, PermissionDeniedError):
                continue
        kallsyms.forget()
        self._base = kallsyms.address_of("__bpf_call_base")
        self._helpers: dict[int, str] = {}

    def functions(self) -> list[tuple[int, int, int]]:
        """(first instruction, one behind the last, BTF type id or 0) of each function."""
        count = len(self.code.xlated) // bpf.SIZE
        starts = self.code.functions or ((0, 0),)
        ends = [start for start, _ in starts[1:]] + [count]
        return [(start, end, kind) for (start, kind), end in zip(starts, ends, strict=True)]

    def name(self, type_id: int) -> str:
        """A function's own name."""
        if self.btf and type_id:
            try:
                return self.btf.type(type_id).name
            except ObjectError:
                pass
        return self.program.info.name

    def prototype(self, type_id: int) -> str:
        """A function's declaration, or its name."""
        if self.btf and type_id:
            try:
                return prototype(self.btf, type_id)
            except ObjectError:
                pass
        return escape(self.program.info.name) or "program without a name"

    def source(self, index: int) -> SourceLine | None:
        """The source line that one of the line records names."""
        if self.btf is None:
            return None
        _, file, text, place = self.code.lines[index]
        try:
            found = SourceLine(
                self.btf.string(file), self.btf.string(text).strip(), place >> 10, place & 0x3FF
            )
        except ObjectError:
            return None
        return found if found.line else None

    def map_name(self, number: int) -> str:
        """The name of one of the program's maps, "" where it is gone."""
        return self._maps.get(number, "")

    # --- as the verifier left it ---

    def xlated(self) -> list[Listing]:
        """The instructions that the kernel runs or compiles. NotSupportedError where it does not show them."""
        if not self.code.xlated:
            raise self._hidden("instructions")
        return [
            Listing(self.name(kind), "", self.prototype(kind), tuple(self._lines(start, end)))
            for start, end, kind in self.functions()
        ]

    def _lines(self, start: int, end: int) -> Iterator[CodeLine]:
        at = {line[0]: index for index, line in enumerate(self.code.lines)}
        code = self.code.xlated[start * bpf.SIZE : end * bpf.SIZE]
        last: SourceLine | None = None
        for one in disassemble(code, Names(self._call, _load), start):
            source = self.source(at[one.index]) if one.index in at else None
            new = source is not None and (
                last is None or (source.file, source.line) != (last.file, last.line)
            )
            last = source or last
            note = self._note(bpf.read(one.raw, 0))
            yield CodeLine(one.index, one.opcodes, one.text, source if new else None, note)

    def _note(self, one: bpf.Insn) -> str:
        if one.code == bpf.LD_IMM64 and one.src in (bpf.PSEUDO_MAP_FD, bpf.PSEUDO_MAP_VALUE):
            return self.map_name(one.imm)
        return ""

    def _call(self, _index: int, one: bpf.Insn) -> str | None:
        if one.src == bpf.PSEUDO_CALL:
            # Of compiled programs ``imm`` is the number of the function, ``off`` the distance.
            if not 0 <= one.imm < len(self.code.addresses):
                return None
            address = self.code.addresses[one.imm]
            return f"pc{one.off:+d}#{kallsyms.symbol_at(address) or hex(address)}"
        if one.imm not in self._helpers:
            found = kallsyms.symbol_at(self._base + one.imm) if self._base and one.imm else None
            # Tail calls keep their number: no function of the kernel does them.
            self._helpers[one.imm] = escape(found or helper_name(one.imm) or "unknown")
        return f"{self._helpers[one.imm]}#{one.imm}"

    def _hidden(self, what: str) -> Exception:
        name = f"program {self.program.info.id}"
        if not effective() >> _CAP_SYSLOG & 1 or kallsyms.hidden():
            return PermissionDeniedError(
                f"no permission to see the {what} of {name}: CAP_SYSLOG is missing, or kernel.kptr_restrict forbids it",
                hint="sysctl kernel.kptr_restrict=1, and run as root",
            )
        return NotSupportedError(f"the kernel does not show the {what} of {name}")

    # --- machine code ---

    def machine_parts(self) -> list[tuple[str, int, bytes, list[tuple[int, SourceLine]]]]:
        """Name, address, bytes and source lines by address, of each function's machine code.

        NotSupportedError where the program is interpreted.
        """
        code = self.code
        if not code.jited or not code.lengths:
            if not self.program.info.jited_size:
                raise NotSupportedError(
                    f"program {self.program.info.id} has no machine code: the kernel interprets it",
                    hint="sysctl net.core.bpf_jit_enable=1 before it is loaded",
                )
            raise self._hidden("machine code")
        found, position = [], 0
        lines = sorted(
            (address, index)
            for index, address in enumerate(code.jited_lines)
            if index < len(code.lines)
        )
        addresses = [address for address, _ in lines]
        for number, length in enumerate(code.lengths):
            address = code.addresses[number] if number < len(code.addresses) else 0
            name = kallsyms.symbol_at(address) or self.program.info.name
            first, last = (
                bisect_right(addresses, address - 1),
                bisect_right(addresses, address + length - 1),
            )
            places = [
                (at, source)
                for at, index in lines[first:last]
                if address and (source := self.source(index))
            ]
            found.append((name, address, code.jited[position : position + length], places))
            position += length
        return found


def _load(_index: int, one: bpf.Insn, value: int) -> str | None:
    low, high = value & 0xFFFFFFFF, value >> 32
    if one.src == bpf.PSEUDO_MAP_FD:
        return f"map[id:{low}]"
    if one.src == bpf.PSEUDO_MAP_VALUE:
        return f"map[id:{low}][0]+{high}"
    return None
