"""Making an ordinary BPF object out of what BCC compiled.

BCC keeps its result in memory: instructions per function with the fds of maps in them, tables, BTF. The object
made of it is what clang would have written for plain BPF C: map definitions by BTF in ``.maps``, relocations where
a map is used, programs in the section their context tells, function information. Any loader takes it.
"""

import struct
import sys
from dataclasses import dataclass

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.copy import Copier
from netbpf.bpf.btf.types import MAGIC, Btf, BtfType, Kind, Member, SectionVar
from netbpf.bpf.elf import SHF_ALLOC, STT_FUNC, STT_OBJECT
from netbpf.compiler.elf_writer import CODE, DATA, R_BPF_64_64, ElfWriter
from netbpf.constants import MapType
from netbpf.errors import CompileError

_INSN = struct.Struct("<BBhi" if sys.byteorder == "little" else ">BBhi")
_LD_IMM64, _CALL = 0x18, 0x85
_PSEUDO_MAP_FD, _PSEUDO_CALL = 1, 1
_SECTIONS = {"xdp_md": "xdp", "__sk_buff": "tc"}
# .BTF.ext without CO-RE: header of 24 bytes (include/linux/btf.h: struct btf_ext_header).
_EXT_HEADER = struct.Struct("<HBBIIIII")
_FUNC_INFO_SIZE = 8
_MAPS_OF_MAPS = (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS)


@dataclass(frozen=True, slots=True)
class BccTable:
    """A table: sizes in bytes, ``key_type`` and ``value_type`` are ids in BCC's BTF, 0 where it has none."""

    name: str
    fd: int
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key_type: int
    value_type: int


@dataclass(frozen=True, slots=True)
class BccModule:
    """What BCC made of one source, whose name ``origin`` is for messages.

    ``inner`` maps the names of maps of maps to those of their inner maps.
    """

    origin: str
    functions: dict[str, bytes]
    tables: tuple[BccTable, ...]
    license: str
    btf: Btf | None
    inner: dict[str, str]
    possible_cpus: int


def write_object(module: BccModule) -> bytes:
    """The ELF object of a module. CompileError where its code needs what BCC cannot give."""
    code, uses = {}, {}
    names = {table.fd: table.name for table in module.tables}
    for name, instructions in module.functions.items():
        code[name], uses[name] = _relocatable(
            f"{module.origin}: function {name}", instructions, names
        )
    btf = Builder()
    copier = Copier(btf, module.btf) if module.btf else None
    maps = _Maps(module, btf, copier)
    elf = ElfWriter()
    sections: dict[str, list[str]] = {}
    types: dict[str, int] = {}
    for name in code:
        function = _function_type(module.btf, name)
        if function is not None and copier is not None:
            types[name] = copier.copy(function.id)
        sections.setdefault(_section(module.btf, function, name), []).append(name)
    section_of: dict[str, tuple[int, int]] = {}
    for section, functions in sections.items():
        index = elf.section(section, b"".join(code[name] for name in functions), CODE)
        offset = 0
        for name in functions:
            section_of[name] = index, offset
            elf.symbol(name, index, offset, len(code[name]), type=STT_FUNC)
            offset += len(code[name])
    symbols = maps.write(elf)
    for name, used in uses.items():
        index, start = section_of[name]
        for offset, table in used:
            elf.relocate(index, start + offset, R_BPF_64_64, symbols[table])
    elf.symbol("_license", elf.section("license", module.license.encode() + b"\0", DATA), 0, len(module.license) + 1,
               type=STT_OBJECT)  # fmt: skip
    records = {
        section: [(section_of[name][1], types[name]) for name in functions if name in types]
        for section, functions in sections.items()
    }
    ext = _ext(btf, {section: found for section, found in records.items() if found})
    elf.section(".BTF", btf.to_bytes())
    elf.section(".BTF.ext", ext)
    return elf.build()


def _ext(btf: Builder, functions: dict[str, list[tuple[int, int]]]) -> bytes:
    """The content of ``.BTF.ext``: per section the functions in it as (offset in bytes, id of the FUNC type).

    Must come before the BTF is finished, since it adds the sections' names to the strings.
    """
    # A part without records must have no bytes at all, not even the size of a record: libbpf refuses it.
    info = bytearray(struct.pack("<I", _FUNC_INFO_SIZE) if functions else b"")
    for section, records in functions.items():
        info += struct.pack("<II", btf.string(section), len(records))
        info += b"".join(struct.pack("<II", *record) for record in records)
    header = _EXT_HEADER.pack(MAGIC, 1, 0, _EXT_HEADER.size, 0, len(info), len(info), 0)
    return bytes(header + info)


def _relocatable(
    what: str, code: bytes, maps: dict[int, str]
) -> tuple[bytes, list[tuple[int, str]]]:
    """Code without fds, and where it uses which map. ``what`` is the function, for messages."""
    result = bytearray(code)
    uses = []
    offset = 0
    while offset < len(code):
        opcode, registers, _, immediate = _INSN.unpack_from(code, offset)
        # Destination and source share a byte, in the order of the host's bits.
        source = registers >> 4 if sys.byteorder == "little" else registers & 0xF
        if opcode == _LD_IMM64:
            high = _INSN.unpack_from(code, offset + 8)[3]
            if source == _PSEUDO_MAP_FD and immediate in maps:
                uses.append((offset, maps[immediate]))
                _INSN.pack_into(
                    result,
                    offset,
                    opcode,
                    registers & (0x0F if sys.byteorder == "little" else 0xF0),
                    0,
                    0,
                )
            elif source == _PSEUDO_MAP_FD:
                raise CompileError(f"{what} uses a table that belongs to another module")
            elif source == 0 and high == (-1 if immediate < 0 else 0):
                # Such a number fits a plain move, so this is an address that nobody filled in.
                raise CompileError(
                    f"{what} uses a global variable or a constant table, which BCC cannot place",
                    hint="keep it in a BPF_ARRAY of one entry, or write the program as plain BPF C",
                )
            offset += 8
        elif opcode == _CALL and source == _PSEUDO_CALL:
            raise CompileError(
                f"{what} calls a function that is not inlined, which BCC cannot link",
                hint="make it 'static inline', without noinline",
            )
        offset += 8
    return bytes(result), uses


def _function_type(btf: Btf | None, name: str) -> BtfType | None:
    return next(iter(btf.find(name, Kind.FUNC)), None) if btf else None


def _section(btf: Btf | None, function: BtfType | None, name: str) -> str:
    """``xdp`` or ``tc`` by the type of the context; otherwise a name that claims nothing."""
    neutral = f"bcc/{name}"
    if btf is None or function is None:
        return neutral
    params = btf.params(btf.type(function.size_or_type))
    pointer = btf.resolve(params[0].type_id) if params else None
    if pointer is None or pointer.kind is not Kind.PTR:
        return neutral
    return _SECTIONS.get(btf.resolve(pointer.size_or_type).name, neutral)


class _Maps:
    """The ``.maps`` section: per map a struct whose members' types, not contents, say what the map is."""

    def __init__(self, module: BccModule, btf: Builder, copier: Copier | None) -> None:
        self._module = module
        self._btf = btf
        self._copier = copier
        self._integer = btf.integer("int", 4, signed=True)
        self._tables = {table.name: table for table in module.tables}

    def write(self, elf: ElfWriter) -> dict[str, int]:
        """Add section, symbols and types; the symbols' indices by name of map."""
        variables, places, offset = [], [], 0
        for table in self._module.tables:
            members = self._members(table)
            size = 8 * len(members)
            definition = self._struct(members)
            variables.append(SectionVar(self._btf.var(table.name, definition), offset, size))
            places.append((table.name, offset, size))
            offset += size
        if not places:
            return {}
        self._btf.datasec(".maps", offset, variables)
        section = elf.section(".maps", bytes(offset), SHF_ALLOC | DATA)
        return {
            name: elf.symbol(name, section, start, size, type=STT_OBJECT)
            for name, start, size in places
        }

    def _struct(self, members: list[tuple[str, int]]) -> int:
        """A struct of pointers, one behind the other."""
        parts = [Member(name, kind, 64 * place, 0) for place, (name, kind) in enumerate(members)]
        return self._btf.struct("", 8 * len(members), parts)

    def _number(self, value: int) -> int:
        return self._btf.ptr(self._btf.array(self._integer, value))

    def _members(self, table: BccTable, *, inner: bool = False) -> list[tuple[str, int]]:
        # The kernel wants one slot per CPU; 0 makes the loader count the CPUs where it loads.
        per_cpu = (
            table.type == MapType.PERF_EVENT_ARRAY
            and table.max_entries == self._module.possible_cpus
        )
        members = [
            ("type", self._number(table.type)),
            ("max_entries", self._number(0 if per_cpu else table.max_entries)),
        ]
        if table.flags:
            members.append(("map_flags", self._number(table.flags)))
        members += self._typed("key", table.key_type, table.key_size)
        if table.type in _MAPS_OF_MAPS and not inner:
            return [*members, ("values", self._inner(table))]
        return members + self._typed("value", table.value_type, table.value_size)

    def _typed(self, part: str, type_id: int, size: int) -> list[tuple[str, int]]:
        source = self._module.btf
        if type_id and source and self._copier and source.size(type_id) == size:
            return [(part, self._btf.ptr(self._copier.copy(type_id)))]
        return [(f"{part}_size", self._number(size))] if size else []

    def _inner(self, table: BccTable) -> int:
        template = self._tables.get(self._module.inner.get(table.name, ""))
        if template is None:
            raise CompileError(
                f"{self._module.origin}: table {table.name} does not name its inner map in a way that can be followed",
                hint=f'declare it as BPF_ARRAY_OF_MAPS({table.name}, "INNER", SIZE), with INNER declared before',
            )
        members = self._members(template, inner=True)
        return self._btf.array(self._btf.ptr(self._struct(members)), 0)
