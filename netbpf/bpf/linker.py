"""From an object's sections to the instructions of one program: subprograms appended, references listed.

Nothing here needs the kernel: where an instruction names a map, a variable or an extern, the image says so, and
the loader fills in file descriptors and ids. Subprograms are placed in the order in which libbpf places them
(depth first, at the first call), so that a program gets the same tag whoever loads it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.ext import CoreRelo
from netbpf.bpf.elf import (
    SHN_ABS,
    SHN_COMMON,
    SHN_UNDEF,
    STB_WEAK,
    STT_SECTION,
    Relocation,
    Symbol,
)
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.object import Function, ObjectSpec
from netbpf.errors import ObjectError
from netbpf.text import escape

MAX_FUNCTIONS = (
    4096  # the verifier takes 256 (BPF_MAX_SUBPROGS); the rest of the room is for its own message
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

    def fail(
        self, function: Function, index: int, why: str, hint: str | None = None
    ) -> ObjectError:
        where = f"instruction {index} of {escape(function.name)}"
        return ObjectError(f"{self.spec.elf.origin}: {where}: {why}", hint=hint)

    def place(self, function: Function) -> int:
        """Append a function and all it calls; the instruction it starts at."""
        key = (function.section, function.start)
        if key in self.placed:
            return self.placed[key]
        if len(self.placed) >= MAX_FUNCTIONS:
            raise self.fail(function, 0, f"the program has more than {MAX_FUNCTIONS} functions")
        image = self.image
        base = len(image.insns) // bpf.SIZE
        self.placed[key] = base
        section = self.spec.elf.sections[function.section]
        content = self.spec.elf.content(section)
        image.insns += content[function.start : function.start + function.size]
        image.functions.append(Placed(base, function, self.spec.func_type_id(function) or 0))
        self._debug_info(function, section.name, base)
        self._references(function, base)
        return base

    def _debug_info(self, function: Function, section: str, base: int) -> None:
        ext = self.spec.ext
        if ext is None:
            return
        end = function.start + function.size
        for line in ext.lines.get(section, ()):
            if function.start <= line.insn_offset < end:
                index = base + (line.insn_offset - function.start) // bpf.SIZE
                self.image.lines.append(Line(index, line.file_off, line.text_off, line.line_col))
        for relo in ext.relocations.get(section, ()):
            if function.start <= relo.insn_offset < end:
                self.image.relocations.append(
                    (base + (relo.insn_offset - function.start) // bpf.SIZE, relo)
                )

    def _section_relocations(self, section: int) -> dict[int, Relocation]:
        if section not in self.relocations:
            found = self.spec.elf.relocations(self.spec.elf.sections[section])
            self.relocations[section] = {one.offset: one for one in found}
        return self.relocations[section]

    def _references(self, function: Function, base: int) -> None:
        relocations = self._section_relocations(function.section)
        count = function.size // bpf.SIZE
        index = 0
        while index < count:
            at = base + index
            one = bpf.read(self.image.insns, at)
            relocation = relocations.get(function.start + index * bpf.SIZE)
            if one.code == bpf.CALL and one.src == bpf.PSEUDO_CALL:
                self._call(function, index, at, one, relocation)
            elif one.code == bpf.LD_IMM64:
                if index + 1 >= count:
                    raise self.fail(
                        function, index, "a 64-bit load is cut off by the end of the function"
                    )
                if relocation:
                    self._load(function, index, at, one, relocation)
                index += 1
            elif relocation:
                self._other(function, index, at, one, relocation)
            index += 1

    def _call(
        self, function: Function, index: int, at: int, one: bpf.Insn, relocation: Relocation | None
    ) -> None:
        if relocation is None:
            target = (function.section, function.start + (index + one.imm + 1) * bpf.SIZE)
        else:
            symbol = relocation.symbol
            if symbol.section == SHN_UNDEF:
                self._extern(at, symbol, call=True)
                return
            # clang counts from the symbol: -1 for a named function, the distance for one named by its section.
            target = (symbol.section, symbol.value + (one.imm + 1) * bpf.SIZE)
        callee = self.by_start.get(target)
        if callee is None:
            raise self.fail(
                function, index, "calls into the middle of nowhere: no function begins there"
            )
        bpf.set_imm(self.image.insns, at, self.place(callee) - at - 1)

    def _load(
        self, function: Function, index: int, at: int, one: bpf.Insn, relocation: Relocation
    ) -> None:
        symbol = relocation.symbol
        if symbol.section == SHN_UNDEF:
            self._extern(at, symbol, call=False)
            return
        if symbol.section in (SHN_ABS, SHN_COMMON):
            raise self.fail(
                function, index, f"refers to {escape(symbol.name)}, which lies in no section"
            )
        section = self.spec.elf.sections[symbol.section]
        if section.executable:
            callee = self.by_start.get((symbol.section, symbol.value + one.imm))
            if callee is None:
                raise self.fail(
                    function, index, "takes the address of something that is no function"
                )
            write = one._replace(src=bpf.PSEUDO_FUNC, imm=self.place(callee) - at - 1)
            bpf.write(self.image.insns, at, write)
            return
        self._map(function, index, at, one, symbol)

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

    def _other(
        self, function: Function, index: int, at: int, one: bpf.Insn, relocation: Relocation
    ) -> None:
        name = escape(relocation.symbol.name)
        if one.code == bpf.CALL and relocation.symbol.section == SHN_UNDEF:
            raise self.fail(
                function, index, f"calls {name}, which BPF does not have",
                hint="libc functions do not exist in BPF; use __builtin_memcpy and the like, or write it static inline",
            )  # fmt: skip
        raise self.fail(
            function, index, f"a relocation against {name} in an instruction that cannot take one"
        )


def link(spec: ObjectSpec, function: Function) -> Image:
    """The image of the program that begins with ``function``; ObjectError where a reference leads nowhere."""
    linker = _Linker(spec)
    try:
        linker.place(function)
    except RecursionError:
        raise linker.fail(function, 0, "its functions call each other too deep") from None
    return linker.image
