"""Reading ELF64 relocatable objects for BPF (elf(5); R_BPF_* in LLVM's BPF backend documentation).

Objects are hostile input: every offset is checked against the bytes that are there, and whatever is wrong is an
ObjectError that says which part of the file does not fit.
"""

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from netbpf.errors import ObjectError
from netbpf.text import escape

MAX_OBJECT_SIZE = 64 << 20  # bytes; the largest public XDP/TC objects, unstripped, have some 10 MB
MAX_SYMBOLS = 1 << 18  # an object of 100,000 instructions has some 10,000
MAX_NAME = 4096  # bytes; the kernel takes 511 (KSYM_NAME_LEN)
_NAMES = (
    16 << 20
)  # bytes that all names may have together, beyond the file's size: they may share their ends
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_REL = struct.Struct("<QQ")
_RELA = struct.Struct("<QQq")

EM_NONE, EM_BPF = 0, 247
_MACHINES = {
    3: "x86 (32 bit)",
    40: "ARM",
    62: "x86-64",
    183: "AArch64",
    243: "RISC-V",
    21: "PowerPC 64",
    22: "s390",
}
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 8, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_COMPRESSED = 1, 2, 4, 0x800
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_INTERNAL, STV_HIDDEN = 1, 2


class Section(NamedTuple):
    """A section header. ``number`` is its place in the table, ``offset`` and ``size`` are bytes in the file.

    A SHT_NOBITS section has a size but no bytes there.
    """

    number: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int

    @property
    def executable(self) -> bool:
        """Whether it holds instructions."""
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR)


class Symbol(NamedTuple):
    """A symbol. ``value`` is its byte offset in section ``section``; section 0 means undefined (extern)."""

    number: int
    name: str
    value: int
    size: int
    section: int
    type: int
    binding: int
    visibility: int


class Relocation(NamedTuple):
    """One relocation of a section: where (bytes), its R_BPF_* type, and against which symbol."""

    offset: int
    type: int
    symbol: Symbol


def read_file(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a regular file of at most 64 MiB; ObjectError for anything else, without ever blocking."""
    name = escape(os.fspath(path))
    try:
        # Without O_NONBLOCK a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ObjectError(f"cannot open {name}: {error.strerror}") from None
    except ValueError:
        raise ObjectError(f"cannot open {name}: the name holds a NUL byte") from None
    try:
        # Before open() wraps it: that refuses a directory with an error of its own.
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise ObjectError(f"{name} is {kind}")
        if status.st_size > MAX_OBJECT_SIZE:
            raise ObjectError(
                f"{name} has {status.st_size} bytes; an object may have {MAX_OBJECT_SIZE}",
                hint="strip debug sections that are not BTF: llvm-strip -g",
            )
        with open(fd, "rb", closefd=False) as file:
            return file.read(MAX_OBJECT_SIZE + 1)
    finally:
        os.close(fd)


class Elf:
    """A parsed ELF object. ``origin`` names it in messages."""

    def __init__(self, data: bytes, origin: str = "object") -> None:
        self.data = data
        self.origin = escape(origin)
        self._names_left = len(data) + _NAMES
        self.sections = self._sections()
        self._check_ranges()
        self.symbols = self._symbols()
        self._by_section: dict[int, list[Symbol]] = {}
        for symbol in self.symbols:
            self._by_section.setdefault(symbol.section, []).append(symbol)
        self._relocating: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type in (SHT_REL, SHT_RELA):
                self._relocating.setdefault(section.info, []).append(section)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Elf":
        """Read and parse a file; ObjectError where it is no BPF object."""
        return cls(read_file(path), Path(path).name)

    def fail(self, why: str, *, hint: str | None = None) -> ObjectError:
        """An ObjectError about this file."""
        return ObjectError(f"{self.origin}: {why}", hint=hint)

    @contextmanager
    def named(self) -> Iterator[None]:
        """ObjectErrors from inside, such as those about its BTF, name this file."""
        try:
            yield
        except ObjectError as error:
            if error.message.startswith(f"{self.origin}: "):
                raise
            raise self.fail(error.message, hint=error.hint) from None

    def _identify(self) -> tuple[int, ...]:
        data = self.data
        compile_hint = "compile it first: netbpf compile FILE.bpf.c"
        if not data:
            raise self.fail("the file is empty")
        if data[:4] in (b"BC\xc0\xde", b"\xde\xc0\x17\x0b"):
            raise self.fail(
                "this is LLVM bitcode, not an object",
                hint="finish it with: llc -march=bpf -filetype=obj",
            )
        if data[:4] != b"\x7fELF":
            raise self.fail("not an ELF object", hint=compile_hint)
        if len(data) < _HEADER.size:
            raise self.fail("truncated inside the ELF header")
        if data[4] != 2:
            raise self.fail(
                "a 32-bit ELF file; BPF objects are 64-bit", hint="compile with -target bpf"
            )
        if data[5] != 1:
            raise self.fail(
                "compiled for big-endian BPF, this host is little-endian",
                hint="compile with -target bpfel",
            )
        header = _HEADER.unpack_from(data)
        machine = header[2]
        if machine not in (EM_BPF, EM_NONE):
            name = _MACHINES.get(machine, f"machine {machine}")
            raise self.fail(
                f"compiled for {name}, not for BPF",
                hint="compile with: clang -target bpf -O2 -g -c",
            )
        if header[1] != 1:
            raise self.fail("a linked ELF file, not a relocatable object", hint="compile with -c")
        return header

    def _sections(self) -> list[Section]:
        header = self._identify()
        table, entry_size, count, names_index = header[6], header[11], header[12], header[13]
        if count == 0:
            raise self.fail("has no sections")
        if entry_size != _SECTION.size or table + count * entry_size > len(self.data):
            raise self.fail("truncated: the section table lies outside the file")
        raw = [
            _SECTION.unpack_from(self.data, table + index * entry_size) for index in range(count)
        ]
        if names_index >= count:
            raise self.fail("names a section for section names that does not exist")
        names = self._slice(raw[names_index][4], raw[names_index][5], "the section names")
        return [
            Section(
                index, self._string(names, entry[0]), entry[1], entry[2], entry[4],
                # What has no type (section 0 above all) has no content, whatever it claims.
                entry[5] if index and entry[1] else 0,
                entry[6], entry[7], entry[9],
            )
            for index, entry in enumerate(raw)
        ]  # fmt: skip

    def _check_ranges(self) -> None:
        in_file = in_memory = 0
        for section in self.sections[1:]:
            if section.type == SHT_NOBITS:
                in_memory += section.size
                if in_memory > MAX_OBJECT_SIZE:
                    raise self.fail(f"section {escape(section.name)} claims {section.size} bytes")
            elif section.type:
                in_file += section.size
                if section.offset + section.size > len(self.data):
                    raise self.fail(
                        f"truncated: section {escape(section.name)} ends outside the file"
                    )
        if in_file > len(self.data):
            # A small file could otherwise stand for terabytes.
            raise self.fail("its sections overlap: together they are longer than the file")

    def _slice(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self.data):
            raise self.fail(f"truncated: {what} lie outside the file")
        return self.data[offset : offset + size]

    def _string(self, table: bytes, offset: int) -> str:
        end = table.find(b"\0", offset, offset + MAX_NAME + 1)
        if offset >= len(table):
            raise self.fail("a name lies outside its string table")
        if end < 0:
            raise self.fail(f"a name has no end, or more than {MAX_NAME} bytes")
        self._names_left -= end - offset
        if self._names_left < 0:
            raise self.fail("its names are longer than the file that holds them")
        return table[offset:end].decode(errors="backslashreplace")

    def _symbols(self) -> list[Symbol]:
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if not tables:
            raise self.fail(
                "has no symbol table",
                hint="do not strip it entirely: llvm-strip -g keeps what is needed",
            )
        table = tables[0]
        if table.link >= len(self.sections):
            raise self.fail("the symbol table names a string table that does not exist")
        names = self.content(self.sections[table.link])
        if table.size > MAX_SYMBOLS * _SYMBOL.size:
            raise self.fail(
                f"has {table.size // _SYMBOL.size} symbols; an object may have {MAX_SYMBOLS}"
            )
        found = []
        for index, entry in enumerate(_SYMBOL.iter_unpack(self._whole(table, _SYMBOL.size))):
            name, info, other, section, value, size = entry
            if section < SHN_LORESERVE and section >= len(self.sections):
                raise self.fail(f"symbol {index} lies in section {section}, which does not exist")
            text = self._string(names, name)
            found.append(
                Symbol(index, text, value, size, section, info & 0xF, info >> 4, other & 3)
            )
        return found

    def _whole(self, section: Section, entry_size: int) -> bytes:
        content = self.content(section)
        if len(content) % entry_size:
            raise self.fail(f"section {escape(section.name)} is cut off in the middle of an entry")
        return content

    def content(self, section: Section) -> bytes:
        """The bytes of a section; zeros for SHT_NOBITS."""
        if section.flags & SHF_COMPRESSED:
            raise self.fail(
                f"section {escape(section.name)} is compressed", hint="compile without -gz"
            )
        if section.type == SHT_NOBITS:
            return bytes(section.size)
        return self.data[section.offset : section.offset + section.size]

    def part(self, section: Section, start: int, size: int) -> bytes:
        """Some bytes of a section that has its bytes in the file, without copying the others."""
        return self.content(section._replace(offset=section.offset + start, size=size))

    def symbols_in(self, section: int) -> list[Symbol]:
        """The symbols of the section with an index, in the table's order."""
        return self._by_section.get(section, [])

    def section(self, name: str) -> Section | None:
        """The first section of a name."""
        return next((section for section in self.sections if section.name == name), None)

    def relocations(self, target: Section) -> list[Relocation]:
        """Every relocation of a section, in file order."""
        found: list[Relocation] = []
        for section in self._relocating.get(target.number, ()):
            record = _REL if section.type == SHT_REL else _RELA
            if section.size // record.size > target.size:
                raise self.fail(f"section {escape(target.name)} has more relocations than bytes")
            for entry in record.iter_unpack(self._whole(section, record.size)):
                offset, info = entry[0], entry[1]
                if info >> 32 >= len(self.symbols):
                    raise self.fail(
                        f"a relocation of {escape(target.name)} names symbol {info >> 32}, which does not exist"
                    )
                if offset >= target.size:
                    raise self.fail(
                        f"a relocation of {escape(target.name)} lies outside the section"
                    )
                found.append(Relocation(offset, info & 0xFFFFFFFF, self.symbols[info >> 32]))
        return found
