"""The functions of an object: whom they call, which maps, helpers and instructions they use.

Unlike the linker this stops at nothing: a reference that leads nowhere is noted, and the rest is told. Code is looked
at by its opcodes (every eighth byte), so that an object of 100,000 instructions takes milliseconds.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from netbpf.bpf import insn as bpf
from netbpf.bpf.elf import SHN_LORESERVE, SHN_UNDEF, STB_WEAK, STT_SECTION, Relocation, Symbol
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.object import Function, ObjectSpec
from netbpf.errors import ObjectError
from netbpf.insight import instruction_sets as sets
from netbpf.text import escape


@dataclass(slots=True)
class Uses:
    """What one function refers to."""

    calls: list[tuple[int, Function]] = field(default_factory=list)  # by index of the instruction
    helpers: set[int] = field(default_factory=set)
    maps: dict[str, None] = field(default_factory=dict)
    externs: dict[str, bool] = field(
        default_factory=dict
    )  # name: whether the program can do without
    features: set[str] = field(default_factory=set)
    problem: str = ""


class Code:
    """The code of an object, function by function."""

    def __init__(self, spec: ObjectSpec) -> None:
        self.spec = spec
        self._by_start = {(one.section, one.start): one for one in spec.functions}
        self._maps: dict[int, list[MapSpec]] = {}
        for one in spec.maps.values():
            self._maps.setdefault(one.section, []).append(one)
        self._relocations: dict[int, dict[int, Relocation]] = {}
        self._offsets: dict[int, list[int]] = {}
        self._uses: dict[tuple[int, int], Uses] = {}

    def bytes_of(self, function: Function) -> bytes:
        """A function's instructions."""
        return self.spec.elf.part(
            self.spec.elf.sections[function.section], function.start, function.size
        )

    def relocations(self, section: int) -> dict[int, Relocation]:
        """The relocations of a section by offset; ObjectError where they do not fit."""
        if section not in self._relocations:
            found = self.spec.elf.relocations(self.spec.elf.sections[section])
            self._relocations[section] = {one.offset: one for one in found}
            self._offsets[section] = sorted(self._relocations[section])
        return self._relocations[section]

    def uses(self, function: Function) -> Uses:
        """What a function refers to."""
        place = (function.section, function.start)
        if place not in self._uses:
            self._uses[place] = self._look(function)
        return self._uses[place]

    def reached(self, function: Function) -> list[Function]:
        """The functions that run with one: itself, then all it calls, in the order of the first call, depth first."""
        found: dict[tuple[int, int], Function] = {}
        waiting = [function]
        while waiting:
            one = waiting.pop()
            place = (one.section, one.start)
            if place in found:
                continue
            found[place] = one
            waiting += (callee for _, callee in reversed(self.uses(one).calls))
        return list(found.values())

    # --- one function ---

    def _look(self, function: Function) -> Uses:
        found = Uses()
        code = self.bytes_of(function)
        opcodes = code[::8]
        found.features |= sets.used(code, opcodes)
        try:
            self._calls(function, code, opcodes, found)
            self._references(function, code, found)
        except ObjectError as error:
            found.problem = error.message
        found.calls.sort(key=lambda call: call[0])
        return found

    def _relocation(self, function: Function, index: int) -> Relocation | None:
        return self.relocations(function.section).get(function.start + index * bpf.SIZE)

    def _calls(self, function: Function, code: bytes, opcodes: bytes, found: Uses) -> None:
        """Helpers, and functions of the same section, which need no relocation."""
        at, seen = opcodes.find(bpf.CALL), set()
        while at >= 0:
            raw = code[at * bpf.SIZE : at * bpf.SIZE + bpf.SIZE]
            if raw[1] >> 4 == bpf.PSEUDO_CALL:
                if self._relocation(function, at) is None:
                    self._call(function, at, bpf.read(code, at), found)
            else:
                seen.add(raw)
            at = opcodes.find(bpf.CALL, at + 1)
        for raw in seen:
            one = bpf.read(raw, 0)
            if one.src == 0 and one.imm > 0:
                found.helpers.add(one.imm)

    def _references(self, function: Function, code: bytes, found: Uses) -> None:
        """What has a relocation. Equal instructions against one symbol mean the same, and are looked at once."""
        relocations, seen = self.relocations(function.section), set()
        offsets = self._offsets[function.section]
        first = bisect_left(offsets, function.start)
        for offset in offsets[first : bisect_left(offsets, function.start + function.size)]:
            at = offset - function.start
            key = (relocations[offset].symbol.number, code[at : at + bpf.SIZE])
            if key in seen or at % bpf.SIZE:
                continue
            seen.add(key)
            index = at // bpf.SIZE
            one = bpf.read(code, index)
            if one.code == bpf.LD_IMM64:
                self._load(function, index, one, relocations[offset].symbol, found)
            elif one.code == bpf.CALL:
                self._call(function, index, one, found)

    def _call(self, function: Function, index: int, one: bpf.Insn, found: Uses) -> None:
        extern = self.extern(function, index)
        if extern:
            found.externs[extern.name] = extern.binding == STB_WEAK
            found.features.add(sets.KERNEL_FUNCTIONS)
            return
        callee = self.callee(function, index, one)
        found.features.add(sets.CALLS)
        if callee is None:
            found.problem = f"instruction {index} of {escape(function.name)} calls into nowhere"
        else:
            found.calls.append((index, callee))

    def _load(
        self, function: Function, index: int, one: bpf.Insn, symbol: Symbol, found: Uses
    ) -> None:
        if symbol.section == SHN_UNDEF:
            found.externs[symbol.name] = symbol.binding == STB_WEAK
        elif (callee := self.callee(function, index, one)) is not None:
            found.calls.append((index, callee))
            found.features.add(sets.CALLBACKS)
        elif (named := self.map_at(function, index, one)) is not None:
            found.maps[named[0].name] = None
            if named[0].is_data:
                found.features.add(sets.GLOBALS)
        else:
            found.problem = (
                f"instruction {index} of {escape(function.name)} refers to {escape(symbol.name)}, "
                "which is neither map nor variable nor function"
            )

    # --- what an instruction refers to ---

    def extern(self, function: Function, index: int) -> Symbol | None:
        """The undefined symbol that an instruction names: the kernel has it, or nobody."""
        relocation = self._relocation(function, index)
        found = relocation.symbol if relocation else None
        return found if found and found.section == SHN_UNDEF else None

    def callee(self, function: Function, index: int, one: bpf.Insn) -> Function | None:
        """The function that an instruction calls or takes the address of."""
        relocation = self._relocation(function, index)
        if one.code == bpf.LD_IMM64:
            if relocation is None or not self._in_code(relocation.symbol):
                return None
            start = relocation.symbol.value + one.imm
            return self._by_start.get((relocation.symbol.section, start))
        if relocation is None:
            start = function.start + (index + one.imm + 1) * bpf.SIZE
            return self._by_start.get((function.section, start))
        start = relocation.symbol.value + (one.imm + 1) * bpf.SIZE
        return self._by_start.get((relocation.symbol.section, start))

    def _in_code(self, symbol: Symbol) -> bool:
        return (
            SHN_UNDEF < symbol.section < SHN_LORESERVE
            and self.spec.elf.sections[symbol.section].executable
        )

    def map_at(self, function: Function, index: int, one: bpf.Insn) -> tuple[MapSpec, int] | None:
        """The map that a 64-bit load names, and the offset of a variable in it."""
        relocation = self._relocation(function, index)
        if relocation is None:
            return None
        symbol = relocation.symbol
        maps = self._maps.get(symbol.section, [])
        if len(maps) == 1 and maps[0].is_data:
            return maps[0], symbol.value + one.imm
        offset = symbol.value + (one.imm if symbol.type == STT_SECTION else 0)
        found = next((spec for spec in maps if spec.offset == offset), None)
        return (found, 0) if found else None
