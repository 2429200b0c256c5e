"""Reading ``.BTF.ext``: what clang says about each instruction (Documentation/bpf/btf.rst, section 4.2).

Three tables, each split by the ELF section that holds the code: which function begins where (func_info), which
source line an instruction comes from (line_info), and which instruction depends on the layout of the kernel's
types (CO-RE relocations, LLVM 10). The bytes may be hostile: whatever does not fit is an ObjectError.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from netbpf.bpf.btf.types import MAGIC, Btf, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

_HEADER = struct.Struct("<HBBI")
_RANGES = struct.Struct("<IIII")  # func_info and line_info: offset and length of each
_CORE_RANGE = struct.Struct("<II")  # in headers that are long enough
_PAIR = struct.Struct("<II")
_INSN_SIZE = 8


class LineInfo(NamedTuple):
    """``struct bpf_line_info``: where in the source the code from ``insn_offset`` (bytes in its section) comes from.

    ``file_off`` and ``text_off`` are offsets of BTF strings; ``line_col`` is line << 10 | column.
    """

    insn_offset: int
    file_off: int
    text_off: int
    line_col: int

    @property
    def line(self) -> int:
        """Line in the source file, from 1; 0 where the compiler knew none."""
        return self.line_col >> 10

    @property
    def column(self) -> int:
        """Column in that line, from 1; 0 where the compiler knew none."""
        return self.line_col & 0x3FF


class CoreRelo(NamedTuple):
    """``struct bpf_core_relo``: the instruction at ``insn_offset`` (bytes in its section) depends on a type.

    ``type_id`` is the root type in the object's BTF, ``access_str`` the way from there ("0:1:2"), ``kind`` one of
    ``enum bpf_core_relo_kind`` (unknown kinds are kept: only the program that has one need fail).
    """

    insn_offset: int
    type_id: int
    access_str: str
    kind: int


class Source(NamedTuple):
    """A source position in words: file name, the line's text, line and column from 1."""

    file: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class BtfExt:
    """The tables by section name. Offsets are bytes within that section; records keep the file's order.

    ``funcs`` holds (offset of the function, id of its FUNC type).
    """

    btf: Btf
    funcs: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    lines: dict[str, list[LineInfo]] = field(default_factory=dict)
    relocations: dict[str, list[CoreRelo]] = field(default_factory=dict)

    def source(self, line: LineInfo) -> Source:
        """File, text, line and column of a record; ObjectError where its strings do not exist."""
        btf = self.btf
        return Source(btf.string(line.file_off), btf.string(line.text_off), line.line, line.column)

    def source_at(self, section: str, insn_offset: int) -> Source | None:
        """Where the instruction at a byte offset comes from: the last record at or before it, or None."""
        before = [one for one in self.lines.get(section, ()) if one.insn_offset <= insn_offset]
        return self.source(max(before, key=lambda one: one.insn_offset)) if before else None


def parse_ext(data: bytes, btf: Btf) -> BtfExt:
    """Parse the content of ``.BTF.ext`` whose types and strings are in ``btf``; ObjectError where it does not fit."""
    found = BtfExt(btf)
    funcs, lines, core = _header(data)
    for section, pairs in _table(data, btf, funcs, "func_info", "II"):
        for _, type_id in pairs:
            if btf.type(type_id).kind is not Kind.FUNC:
                raise ObjectError(f".BTF.ext: func_info names type {type_id}, which is no function")
        found.funcs.setdefault(section, []).extend((offset, type_id) for offset, type_id in pairs)
    for section, quads in _table(data, btf, lines, "line_info", "IIII"):
        found.lines.setdefault(section, []).extend(map(LineInfo._make, quads))
    for section, quads in _table(data, btf, core, "core_relo", "IIII"):
        found.relocations.setdefault(section, []).extend(
            CoreRelo(offset, type_id, btf.string(access), kind)
            for offset, type_id, access, kind in quads
        )
    return found


def _header(data: bytes) -> list[tuple[int, int]]:
    """Start and end of the three tables in ``data``, an absent one being empty."""
    shortest = _HEADER.size + _RANGES.size
    if len(data) < shortest:
        raise ObjectError(f".BTF.ext of {len(data)} bytes is too short for its header")
    magic, version, _, length = _HEADER.unpack_from(data)
    if magic != MAGIC:
        swapped = " (big-endian)" if magic == 0x9FEB else ""
        raise ObjectError(
            f".BTF.ext has the magic number {magic:#06x} instead of {MAGIC:#06x}{swapped}"
        )
    if version != 1 or not shortest <= length <= len(data):
        raise ObjectError(
            f".BTF.ext version {version} with a header of {length} bytes is not known"
        )
    words = _RANGES.unpack_from(data, _HEADER.size)
    if length >= shortest + _CORE_RANGE.size:
        words += _CORE_RANGE.unpack_from(data, shortest)
    ranges = [
        (length + offset, length + offset + size)
        for offset, size in zip(words[::2], words[1::2], strict=True)
    ]
    for start, end in ranges:
        if end > len(data):
            raise ObjectError(".BTF.ext is truncated: its tables end behind its data")
        if start % 4 and end > start:
            raise ObjectError(".BTF.ext has a table that is not aligned to 4 bytes")
    return [*ranges, (0, 0)][:3]


def _table(
    data: bytes, btf: Btf, bounds: tuple[int, int], name: str, layout: str
) -> Iterable[tuple[str, list[tuple[int, ...]]]]:
    """Each section's name and records. Records may be longer than known ones: newer fields are passed over."""
    position, end = bounds
    if position == end:
        return
    size = int.from_bytes(data[position : min(position + 4, end)], "little")
    known = struct.calcsize("<" + layout)
    position += 4
    if size < known or size % 4 or position + _PAIR.size + size > end:
        raise ObjectError(f".BTF.ext: {name} records of {size} bytes are not known or do not fit")
    record = struct.Struct(f"<{layout}{size - known}x")
    while position < end:
        if position + _PAIR.size > end:
            raise ObjectError(f".BTF.ext is truncated inside {name}")
        name_offset, count = _PAIR.unpack_from(data, position)
        section = btf.string(name_offset)
        position += _PAIR.size
        if count == 0 or position + count * size > end:
            raise ObjectError(f".BTF.ext: {name} claims {count} records for {escape(section)}")
        records = list(record.iter_unpack(memoryview(data)[position : position + count * size]))
        if any(one[0] % _INSN_SIZE for one in records):
            raise ObjectError(
                f".BTF.ext: {name} of {escape(section)} points into the middle of an instruction"
            )
        yield section, records
        position += count * size
