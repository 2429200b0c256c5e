"""Writing ELF64 relocatable objects for BPF: sections, symbols, relocations (elf(5)).

Only what a BPF object needs: little or big endian as the host, SHT_REL relocations, one symbol table.
"""

import struct
import sys
from dataclasses import dataclass, field

from netbpf.bpf.elf import (
    EM_BPF,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_NOTYPE,
)

_LITTLE = sys.byteorder == "little"
_ORDER = "<" if _LITTLE else ">"
_HEADER = struct.Struct(_ORDER + "16sHHIQQQIHHHHHH")
_SECTION = struct.Struct(_ORDER + "IIQQQQIIQQ")
_SYMBOL = struct.Struct(_ORDER + "IBBHQQ")
_REL = struct.Struct(_ORDER + "QQ")
_ET_REL = 1
_EV_CURRENT = 1
_ALIGNMENT = 8  # bytes: what instructions and map definitions need, and enough for everything else

CODE = SHF_ALLOC | SHF_EXECINSTR
DATA = SHF_ALLOC | SHF_WRITE
R_BPF_64_64 = 1  # the immediate of an ld_imm64: the address of a map or variable


class _Strings:
    """A string table: each string once, offset 0 is the empty one."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self.data)
            self.data += text.encode(errors="surrogateescape") + b"\0"
        return offset


@dataclass(slots=True)
class _Section:
    name: str
    type: int
    flags: int
    content: bytes
    size: int
    entry_size: int = 0
    link: int = 0
    info: int = 0
    relocations: list[tuple[int, int, int]] = field(default_factory=list)


class ElfWriter:
    """Collects sections and symbols; ``build`` lays them out. Indices are those the object will have."""

    def __init__(self) -> None:
        self._sections: list[_Section] = []
        self._symbols: list[tuple[str, int, int, int, int]] = []
        self._has_global = False
        self._first_global = 1

    def section(
        self,
        name: str,
        content: bytes,
        flags: int = 0,
        *,
        type: int = SHT_PROGBITS,  # noqa: A002 - the word of elf(5)
        size: int | None = None,
        entry_size: int = 0,
    ) -> int:
        """Add a section and return its index. ``size`` (bytes) is for SHT_NOBITS, which has no content."""
        length = len(content) if size is None else size
        self._sections.append(_Section(name, type, flags, content, length, entry_size))
        return len(self._sections)

    def symbol(
        self,
        name: str,
        section: int,
        value: int = 0,
        size: int = 0,
        *,
        type: int = STT_NOTYPE,  # noqa: A002
        binding: int = STB_GLOBAL,
        visibility: int = 0,
    ) -> int:
        """Add a symbol and return its index. Local symbols must come before all others (elf(5), sh_info)."""
        if binding == STB_LOCAL:
            if self._has_global:
                raise ValueError(f"local symbol {name!r} comes after a global one")
            self._first_global = len(self._symbols) + 2
        else:
            self._has_global = True
        self._symbols.append((name, binding << 4 | type, visibility << 16 | section, value, size))
        return len(self._symbols)

    def relocate(self, section: int, offset: int, kind: int, symbol: int) -> None:
        """Add a relocation: at ``offset`` bytes of ``section``, of type ``R_BPF_*``, against a symbol's index."""
        self._sections[section - 1].relocations.append((offset, kind, symbol))

    def build(self) -> bytes:
        """The bytes of the object."""
        sections = list(self._sections)
        table = len(sections) + sum(bool(one.relocations) for one in sections) + 1
        names = _Strings()
        for index, section in enumerate(self._sections, 1):
            if section.relocations:
                content = b"".join(
                    _REL.pack(offset, symbol << 32 | kind)
                    for offset, kind, symbol in section.relocations
                )
                rel = _Section(
                    f".rel{section.name}",
                    SHT_REL,
                    0,
                    content,
                    len(content),
                    _REL.size,
                    table,
                    index,
                )
                sections.append(rel)
        symbols = bytearray(_SYMBOL.size)
        for name, info, place, value, size in self._symbols:
            symbols += _SYMBOL.pack(names.add(name), info, place >> 16, place & 0xFFFF, value, size)
        sections.append(
            _Section(
                ".symtab", SHT_SYMTAB, 0, bytes(symbols), len(symbols), _SYMBOL.size, table + 1, self._first_global
            )
        )  # fmt: skip
        name_offsets = [names.add(section.name) for section in sections]
        name_offsets.append(names.add(".strtab"))
        sections.append(_Section(".strtab", SHT_STRTAB, 0, bytes(names.data), len(names.data)))
        return _layout(sections, name_offsets)


def _layout(sections: list[_Section], name_offsets: list[int]) -> bytes:
    image = bytearray(_HEADER.size)
    headers = bytearray(_SECTION.size)
    for section, name in zip(sections, name_offsets, strict=True):
        image += bytes(-len(image) % _ALIGNMENT)
        headers += _SECTION.pack(
            name, section.type, section.flags, 0, len(image), section.size,
            section.link, section.info, _ALIGNMENT, section.entry_size,
        )  # fmt: skip
        if section.type != SHT_NOBITS:
            image += section.content
    image += bytes(-len(image) % _ALIGNMENT)
    identity = b"\x7fELF" + bytes((2, 1 if _LITTLE else 2, _EV_CURRENT)) + bytes(9)
    _HEADER.pack_into(
        image, 0, identity, _ET_REL, EM_BPF, _EV_CURRENT, 0, 0, len(image), 0,
        _HEADER.size, 0, 0, _SECTION.size, len(sections) + 1, len(sections),
    )  # fmt: skip
    return bytes(image + headers)
