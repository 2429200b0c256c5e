"""From an object's sections to the instructions of one program: subprograms appended, references listed.

Nothing here needs the kernel: where an instruction names a map, a variable or an extern, the image says so, and
the loader fills in file descriptors and ids. Subprograms are placed in the order in which libbpf places them
(depth first, at the first call), so that a program gets the same tag whoever loads it.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.ext import CoreRelo, LineInfo
from netbpf.bpf.elf import SHN_LORESERVE, SHN_UNDEF, STB_WEAK, STT_SECTION, Relocation, Symbol
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.object import Function, ObjectSpec
from netbpf.errors import ObjectError
from netbpf.text import escape

# The verifier takes 256 functions (BPF_MAX_SUBPROGS); the rest of the room is for its own message.
MAX_FUNCTIONS = 4096
MAX_INSNS = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS; the kernel looks at nothing longer

_Record = TypeVar("_Record", LineInfo, CoreRelo)

# References that only a loader can write: what they would mean in a file is up to whoever opens it.
_LOADERS_OWN = frozenset(
    {
        bpf.PSEUDO_MAP_FD,
        bpf.PSEUDO_MAP_VALUE,
        bpf.PSEUDO_FUNC,
        bpf.PSEUDO_MAP_IDX,
        bpf.PSEUDO_MAP_IDX_VALUE,
    }
)


class MapRef(NamedTuple):
    """The instruction at ``at`` names a map; with ``offset`` it wants the address of that byte of its value."""

    at: int
    map: str
    offset: int | None


class ExternRef(NamedTuple):
    """The instruction at ``at`` names something the kernel has: a kfunc to call, a ksym, or a .kconfig variable."""

    at: int
    name: str
    call: bool
    weak: bool


class Line(NamedTuple):
    """Source position of an instruction: offsets into the BTF strings, and line << 10 | column."""

    at: int
    file_off: int
    text_off: int
    line_col: int


class Placed(NamedTuple):
    """A function within the image: at which instruction, of what BTF type (0: none known)."""

    at: int
    function: Function
    type_id: int


@dataclass(slots=True)
class Image:
    """A program's instructions before they meet the kernel. Indexes count 8-byte slots."""

    insns: bytearray = field(default_factory=bytearray)
    functions: list[Placed] = field(default_factory=list)
    maps: list[MapRef] = field(default_factory=list)
    externs: list[ExternRef] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    relocations: list[tuple[int, CoreRelo]] = field(default_factory=list)

    @property
    def map_names(self) -> list[str]:
        """The maps the code names, each once, in the order of first use."""
        return list(dict.fromkeys(ref.map for ref in self.maps))


class _Linker:
    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self.image = Image()
        self.placed: dict[tuple[int, int], int] = {}
        self.by_start = {
            (function.section, function.start): function for function in spec.functions
        }
        self.by_section: dict[int, list[MapSpec]] = {}
        for one in spec.maps.values():
            self.by_section.setdefault(one.section, []).append(one)
        self.relocations: dict[int, dict[int, Relocation]] = {}
        self.lines: dict[str, list[LineInfo]] = {}
        self.core: dict[str, list[CoreRelo]] = {}

    def fail(
        self, function: Function, index: int, why: str, hint: str | None = None
    ) -> ObjectError:
        where = f"instruction {index} of {escape(function.name)}"
        return ObjectError(f"{self.spec.elf.origin}: {where}: {why}", hint=hint)

    def run(self, function: Function) -> Image:
        """Append a function and all it calls, depth first; without recursion, for calls may go as deep as they like."""
        waiting = [self._append(function)]
        while waiting:
            callee = next(waiting[-1], None)
            if callee is None:
                waiting.pop()
            elif (callee.section, callee.start) not in self.placed:
                waiting.append(self._append(callee))
        return self.image

    def _append(self, function: Function) -> Iterator[Function]:
        """Append the code of one function; the functions it needs, each to be placed before the next is asked for."""
        if len(self.placed) >= MAX_FUNCTIONS:
            raise self.fail(function, 0, f"the program has more than {MAX_FUNCTIONS} functions")
        base = len(self.image.insns) // bpf.SIZE
        if base + function.size // bpf.SIZE > MAX_INSNS:
            raise self.fail(function, 0, f"the program has more than {MAX_INSNS} instructions")
        self.placed[function.section, function.start] = base
        section = self.spec.elf.sections[function.section]
        self.image.insns += self.spec.elf.part(section, function.start, function.size)
        self.image.functions.append(Placed(base, function, self.spec.func_type_id(function) or 0))
        self._debug_info(function, section.name, base)
        return self._references(function, base)

    def _place_of(self, function: Function) -> int:
        return self.placed[function.section, function.start]

    def _debug_info(self, function: Function, section: str, base: int) -> None:
        ext = self.spec.ext
        if ext is None:
            return
        if section not in self.lines:
            # One line for each instruction, as the kernel demands.
            by_offset = {one.insn_offset: one for one in ext.lines.get(section, ())}
            self.lines[section] = sorted(by_offset.values())
            self.core[section] = sorted(ext.relocations.get(section, ()))
        for line in _within(self.lines[section], function):
            at = base + (line.insn_offset - function.start) // bpf.SIZE
            self.image.lines.append(Line(at, line.file_off, line.text_off, line.line_col))
        for relo in _within(self.core[section], function):
            at = base + (relo.insn_offset - function.start) // bpf.SIZE
            self.image.relocations.append((at, relo))

    def _section_relocations(self, section: int) -> dict[int, Relocation]:
        if section not in self.relocations:
            found = self.spec.elf.relocations(self.spec.elf.sections[section])
            self.relocations[section] = {one.offset: one for one in found}
        return self.relocations[section]

    def _references(self, function: Function, base: int) -> Iterator[Function]:
        relocations = self._section_relocations(function.section)
        count = function.size // bpf.SIZE
        index = 0
        while index < count:
            at = base + index
            one = bpf.read(self.image.insns, at)
            relocation = relocations.get(function.start + index * bpf.SIZE)
            if one.code == bpf.CALL and one.src == bpf.PSEUDO_CALL:
                if callee := self._callee(function, index, at, one, relocation):
                    yield callee
                    bpf.set_imm(self.image.insns, at, self._place_of(callee) - at - 1)
            elif one.code == bpf.LD_IMM64:
                if index + 1 >= count:
                    raise self.fail(
                        function, index, "a 64-bit load is cut off by the end of the function"
                    )
                if target := self._loaded(function, index, at, one, relocation):
                    yield target
                    distance = self._place_of(target) - at - 1
                    bpf.write(self.image.insns, at, one._replace(src=bpf.PSEUDO_FUNC, imm=distance))
                index += 1
            elif relocation:
                raise self._misplaced(function, index, one, relocation)
            index += 1

    def _callee(
        self, function: Function, index: int, at: int, one: bpf.Insn, relocation: Relocation | None
    ) -> Function | None:
        """The function that an instruction calls, or None where the kernel has it."""
        if relocation is None:
            target = (function.section, function.start + (index + one.imm + 1) * bpf.SIZE)
        else:
            symbol = relocation.symbol
            if symbol.section == SHN_UNDEF:
                self._extern(at, symbol, call=True)
                return None
            # clang counts from the symbol: -1 for a named function, the distance for one named by its section.
            target = (symbol.section, symbol.value + (one.imm + 1) * bpf.SIZE)
        callee = self.by_start.get(target)
        if callee is None:
            raise self.fail(
                function, index, "calls into the middle of nowhere: no function begins there"
            )
        return callee

    def _loaded(
        self, function: Function, index: int, at: int, one: bpf.Insn, relocation: Relocation | None
    ) -> Function | None:
        """The function whose address a 64-bit load takes; None for all else, which is noted in the image."""
        if relocation is None:
            if one.src in _LOADERS_OWN:
                raise self.fail(
                    function,
                    index,
                    f"a 64-bit load of kind {one.src} names nothing (no relocation)",
                )
            return None
        symbol = relocation.symbol
        if symbol.section == SHN_UNDEF:
            self._extern(at, symbol, call=False)
            return None
        if symbol.section >= SHN_LORESERVE:
            raise self.fail(
                function, index, f"refers to {escape(symbol.name)}, which lies in no section"
            )
        if not self.spec.elf.sections[symbol.section].executable:
            self._map(function, index, at, one, symbol)
            return None
        callee = self.by_start.get((symbol.section, symbol.value + one.imm))
        if callee is None:
            raise self.fail(function, index, "takes the address of something that is no function")
        return callee

    def _map(self, function: Function, index: int, at: int, one: bpf.Insn, symbol: Symbol) -> None:
        maps = self.by_section.get(symbol.section, [])
        if len(maps) == 1 and maps[0].is_data:
            offset = symbol.value + one.imm
            if not 0 <= offset < max(maps[0].value_size, 1):
                raise self.fail(
                    function,
                    index,
                    f"refers to byte {offset} of {escape(maps[0].name)}, outside of it",
                )
            self.image.maps.append(MapRef(at, maps[0].name, offset))
            return
        # A static legacy map is named by its section plus an offset in the instruction.
        offset = symbol.value + (one.imm if symbol.type == STT_SECTION else 0)
        found = next((spec for spec in maps if spec.offset == offset), None)
        if found is None:
            section = escape(self.spec.elf.sections[symbol.section].name)
            name = escape(symbol.name or section)
            raise self.fail(
                function,
                index,
                f"refers to {name} in section {section}, which is neither map nor variable",
            )
        self.image.maps.append(MapRef(at, found.name, None))

    def _extern(self, at: int, symbol: Symbol, *, call: bool) -> None:
        self.image.externs.append(ExternRef(at, symbol.name, call, symbol.binding == STB_WEAK))

    def _misplaced(
        self, function: Function, index: int, one: bpf.Insn, relocation: Relocation
    ) -> ObjectError:
        name = escape(relocation.symbol.name)
        if one.code == bpf.CALL and relocation.symbol.section == SHN_UNDEF:
            return self.fail(
                function,
                index,
                f"calls {name}, which BPF does not have",
                "libc functions do not exist in BPF; use __builtin_memcpy and the like, or write it static inline",
            )
        why = f"a relocation against {name} in an instruction that cannot take one"
        return self.fail(function, index, why)


def _within(records: list[_Record], function: Function) -> list[_Record]:
    """The records about a function; ``records`` are sorted."""
    start = bisect_left(records, function.start, key=_offset)
    return records[
        start : bisect_left(records, function.start + function.size, lo=start, key=_offset)
    ]


def _offset(record: LineInfo | CoreRelo) -> int:
    return record.insn_offset


def link(spec: ObjectSpec, function: Function) -> Image:
    """The image of the program that begins with ``function``; ObjectError where a reference leads nowhere."""
    return _Linker(spec).run(function)
