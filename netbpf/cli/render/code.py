"""Instructions with their source lines, of object files and of the kernel's programs."""

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from netbpf.cli.output import Line
from netbpf.insight.model import CodeLine
from netbpf.text import escape


def code_json(lines: Iterable[CodeLine], *, opcodes: bool = True) -> list[dict[str, Any]]:
    """bpftool's fields of ``prog dump``: ``disasm``, ``opcodes``; ``src``, ``file``, ``line_num``, ``line_col``."""
    return [_insn_json(one, opcodes) for one in lines]


def _insn_json(one: CodeLine, opcodes: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"index": one.index}
    if one.source:
        found |= {
            "src": one.source.text,
            "file": one.source.file,
            "line_num": one.source.line,
            "line_col": one.source.column,
        }
    found["disasm"] = one.text
    if one.note:
        found["map"] = one.note
    if opcodes:
        found["opcodes"] = opcodes_json(bytes.fromhex(one.opcodes))
    return found


def opcodes_json(raw: bytes) -> dict[str, Any]:
    """An instruction's bytes as bpftool shows them: a 64-bit load has 12 bytes of ``imm``."""
    code, registers, *rest = raw
    return {
        "code": f"{code:#04x}",
        "src_reg": f"{registers >> 4:#x}",
        "dst_reg": f"{registers & 0xF:#x}",
        "off": [f"{one:#04x}" for one in rest[:2]],
        "imm": [f"{one:#04x}" for one in rest[2:]],
    }


def code_lines(lines: Iterable[CodeLine], *, opcodes: bool) -> Iterator[Line]:
    """Source lines behind a semicolon, instructions with their index, opcodes below where they are wanted."""
    for one in lines:
        if one.source:
            place = f"[{escape(PurePath(one.source.file).name)}:{one.source.line}]"
            text = escape(one.source.text.expandtabs(1))
            yield Line(f"; {text} {place}" if text else f"; {place}", "dim")
        yield Line(f"{one.index:>4}: {one.text}" + (f" ; {escape(one.note)}" if one.note else ""))
        if opcodes:
            yield Line(f"       {one.opcodes}", "dim")
