"""The code of an object's functions as text, with the source lines that its BTF keeps."""

from bisect import bisect_right
from collections.abc import Collection, Iterator

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.declare import prototype
from netbpf.bpf.btf.ext import LineInfo
from netbpf.bpf.disasm import Names, disassemble
from netbpf.bpf.object import Function, ObjectSpec
from netbpf.errors import ObjectError
from netbpf.insight.code import Code
from netbpf.insight.model import CodeLine, Listing, SourceLine
from netbpf.text import did_you_mean, escape


def listings(spec: ObjectSpec, names: Collection[str] = ()) -> list[Listing]:
    """The functions of an object in the order of the file; of ``names`` only: functions, or whole sections.

    ObjectError for a name that is neither.
    """
    sections = {one.number: one.name for one in spec.elf.sections}
    known = {one.name for one in spec.functions} | {sections[one.section] for one in spec.functions}
    for name in names:
        if name not in known:
            raise ObjectError(
                f"{spec.elf.origin} has no function '{escape(name)}'",
                hint=did_you_mean(name, known, "its functions are"),
            )
    code, lines = Code(spec), _Lines(spec)
    return [
        Listing(
            one.name, sections[one.section], _prototype(spec, one), tuple(_lines(spec, code, one, lines))
        )
        for one in spec.functions
        if not names or one.name in names or sections[one.section] in names
    ]  # fmt: skip


def _prototype(spec: ObjectSpec, function: Function) -> str:
    type_id = spec.func_type_id(function)
    if spec.btf is None or not type_id:
        return escape(function.name)
    try:
        return prototype(spec.btf, type_id)
    except ObjectError:
        return escape(function.name)


class _Lines:
    """Source positions by section, sorted."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.ext = spec.ext
        self._sorted: dict[str, tuple[list[int], list[LineInfo]]] = {}

    def at(self, section: str, offset: int) -> SourceLine | None:
        """The source of the instruction at a byte offset, if a record begins with it."""
        if self.ext is None:
            return None
        if section not in self._sorted:
            records = sorted(self.ext.lines.get(section, ()))
            self._sorted[section] = ([one.insn_offset for one in records], records)
        offsets, records = self._sorted[section]
        index = bisect_right(offsets, offset) - 1
        if index < 0 or offsets[index] != offset:
            return None
        try:
            found = self.ext.source(records[index])
        except ObjectError:
            return None
        if not found.line:
            return None  # code that the compiler made of no line
        return SourceLine(found.file, found.text.strip(), found.line, found.column)


def _lines(spec: ObjectSpec, code: Code, function: Function, lines: _Lines) -> Iterator[CodeLine]:
    section = spec.elf.sections[function.section].name
    last: SourceLine | None = None
    for one in disassemble(code.bytes_of(function), _names(code, function)):
        source = lines.at(section, function.start + one.index * bpf.SIZE)
        new = (
            source
            if source and (last is None or (source.file, source.line) != (last.file, last.line))
            else None
        )
        last = source or last
        yield CodeLine(one.index, one.opcodes, one.text, new)


def _names(code: Code, function: Function) -> Names:
    def call(index: int, one: bpf.Insn) -> str | None:
        extern = code.extern(function, index)
        if extern:
            return escape(extern.name)
        if one.src == bpf.PSEUDO_CALL and (callee := code.callee(function, index, one)):
            return escape(callee.name)
        return None

    def load(index: int, one: bpf.Insn, value: int) -> str | None:
        extern = code.extern(function, index)
        if extern:
            return f"&{escape(extern.name)}"
        if callee := code.callee(function, index, one):
            return f"subprog[{escape(callee.name)}]"
        if found := code.map_at(function, index, one):
            spec, offset = found
            return f"map[{escape(spec.name)}]" + (f"[0]+{offset}" if spec.is_data else "")
        return None

    return Names(call, load)
