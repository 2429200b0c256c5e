"""Dropping DWARF from an object: loaders read BTF, and DWARF is most of what ``clang -g`` writes.

Like ``llvm-strip -g``, without needing it. DWARF also names the directory the source was compiled in, so an
object without it is the same wherever it is made.
"""

from netbpf.bpf.elf import (
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STT_SECTION,
    Elf,
    Section,
)
from netbpf.compiler.elf_writer import ElfWriter

_DROPPED = (".debug_", ".llvm_addrsig", ".comment")
_STT_FILE = 4


def strip_debug(data: bytes) -> bytes:
    """An object without DWARF; BTF, code, data, symbols and relocations stay.

    An object that uses something this does not know (SHT_RELA, groups) comes back unchanged.
    Raises ObjectError where ``data`` is no BPF object.
    """
    elf = Elf(data)
    kept = [section for section in elf.sections[1:] if _is_kept(section)]
    if any(section.type not in (SHT_PROGBITS, SHT_NOBITS) for section in kept):
        return data
    writer = ElfWriter()
    sections = {0: 0}
    for section in kept:
        content = b"" if section.type == SHT_NOBITS else elf.content(section)
        sections[section.number] = writer.section(
            section.name,
            content,
            section.flags,
            type=section.type,
            size=section.size,
            entry_size=section.entry_size,
        )
    symbols = {0: 0}
    for symbol in elf.symbols[1:]:
        if symbol.type == _STT_FILE or symbol.section not in sections:
            continue
        # Clang 14 to 18 leave section symbols nameless, later ones name them: names say nothing here.
        name = "" if symbol.type == STT_SECTION else symbol.name
        symbols[symbol.number] = writer.symbol(
            name,
            sections[symbol.section],
            symbol.value,
            symbol.size,
            type=symbol.type,
            binding=symbol.binding,
            visibility=symbol.visibility,
        )
    for section in kept:
        for relocation in elf.relocations(section):
            if relocation.symbol.number not in symbols:
                return data
            writer.relocate(
                sections[section.number],
                relocation.offset,
                relocation.type,
                symbols[relocation.symbol.number],
            )
    return writer.build()


def _is_kept(section: Section) -> bool:
    if section.type in (SHT_REL, SHT_SYMTAB, SHT_STRTAB):
        return False  # written anew
    if section.type == SHT_RELA:
        return not section.name.startswith(".rela.debug_")
    return not section.name.startswith(_DROPPED)
