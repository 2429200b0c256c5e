"""The headers of an ELF file, as readelf(1) shows them."""

import struct
from typing import Final

from netbpf.bpf.elf import SHN_ABS, SHN_COMMON, SHN_LORESERVE, SHN_UNDEF, Elf
from netbpf.insight.model import ElfHeaders, Header, SymbolRow

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_TYPES: Final = {
    0: "NULL", 1: "PROGBITS", 2: "SYMTAB", 3: "STRTAB", 4: "RELA", 5: "HASH", 6: "DYNAMIC", 7: "NOTE", 8: "NOBITS",
    9: "REL", 11: "DYNSYM", 14: "INIT_ARRAY", 15: "FINI_ARRAY", 17: "GROUP", 0x6FFF4C03: "LLVM_ADDRSIG",
}  # fmt: skip
_FLAGS: Final = {
    0: "W", 1: "A", 2: "X", 4: "M", 5: "S", 6: "I", 7: "L", 8: "O", 9: "G", 10: "T", 11: "C", 31: "E",
}  # fmt: skip
_SYMBOLS: Final = {0: "NOTYPE", 1: "OBJECT", 2: "FUNC", 3: "SECTION", 4: "FILE", 5: "COMMON", 6: "TLS"}  # fmt: skip
_BINDINGS: Final = {0: "LOCAL", 1: "GLOBAL", 2: "WEAK"}
_VISIBILITIES: Final = ("DEFAULT", "INTERNAL", "HIDDEN", "PROTECTED")
_PLACES: Final = {SHN_UNDEF: "UND", SHN_ABS: "ABS", SHN_COMMON: "COM"}


def headers(elf: Elf) -> ElfHeaders:
    """File header, sections and symbols."""
    magic, _, machine, version, entry, _, table, flags, size, _, _, entry_size, count, names = (
        _HEADER.unpack_from(elf.data)
    )
    fields = (
        ("Class", "ELF64"),
        ("Data", "2's complement, little endian"),
        ("OS/ABI", "UNIX - System V" if magic[7] == 0 else str(magic[7])),
        ("Type", "REL (Relocatable file)"),
        ("Machine", "Linux BPF" if machine == 247 else "None"),
        ("Version", f"{version:#x}"),
        ("Entry point address", f"{entry:#x}"),
        ("Start of section headers", f"{table} (bytes into file)"),
        ("Flags", f"{flags:#x}"),
        ("Size of this header", f"{size} (bytes)"),
        ("Size of section headers", f"{entry_size} (bytes)"),
        ("Number of section headers", str(count)),
        ("Section header string table index", str(names)),
    )
    aligns = [_SECTION.unpack_from(elf.data, table + at * _SECTION.size)[8] for at in range(count)]
    sections = tuple(
        Header(
            one.number, one.name, _TYPES.get(one.type, f"{one.type:#x}"), _flags(one.flags), one.offset, one.size,
            one.entry_size, one.link, one.info, aligns[one.number],
        )
        for one in elf.sections
    )  # fmt: skip
    symbols = tuple(
        SymbolRow(
            one.number, one.name or _section_name(elf, one.section, one.type), one.value, one.size,
            _SYMBOLS.get(one.type, str(one.type)), _BINDINGS.get(one.binding, str(one.binding)),
            _VISIBILITIES[one.visibility], _place(elf, one.section),
        )
        for one in elf.symbols
    )  # fmt: skip
    return ElfHeaders(fields, sections, symbols)


def _flags(flags: int) -> str:
    return "".join(letter for bit, letter in _FLAGS.items() if flags >> bit & 1)


def _section_name(elf: Elf, section: int, kind: int) -> str:
    return elf.sections[section].name if kind == 3 and section < len(elf.sections) else ""


def _place(elf: Elf, section: int) -> str:
    if section in _PLACES or section >= SHN_LORESERVE:
        return _PLACES.get(section, f"{section:#x}")
    return elf.sections[section].name
