"""Output of ``prog dump``: the code of a program."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from netbpf.cli.output import Line, print_json, say
from netbpf.cli.render.code import code_json, code_lines
from netbpf.insight.model import Listing
from netbpf.text import escape

if TYPE_CHECKING:
    from netbpf.insight.jited import MachineCode


def print_code(found: list[Listing], *, opcodes: bool, as_json: bool) -> None:
    """The verifier's version, function by function."""
    if as_json:
        functions = [
            {"name": one.name, "proto": one.prototype, "insns": code_json(one.lines)} for one in found
        ]  # fmt: skip
        print_json("prog_dump", {"functions": functions})
        return
    for number, one in enumerate(found):
        lines = [Line("")] if number else []
        say([*lines, Line(f"{escape(one.prototype)}:", "bold"), *code_lines(one.lines, opcodes=opcodes)])  # fmt: skip


def print_machine_code(found: "list[MachineCode]", *, opcodes: bool, as_json: bool) -> None:
    """Machine code; what could not be disassembled is said to be hex."""
    plain = any(not line.text for one in found for line in one.lines)
    if plain:
        click.echo(
            "netbpf: the machine code is shown in hex: objdump (binutils) is not installed, or not for this machine",
            err=True,
        )
    if as_json:
        functions = [
            {"name": one.name, "address": f"{one.address:#x}", "insns": [*map(_machine_json, one.lines)]}
            for one in found
        ]  # fmt: skip
        print_json("prog_jited", {"functions": functions, "disassembled": not plain})
        return
    for number, one in enumerate(found):
        lines = [Line("")] if number else []
        say([*lines, Line(f"{escape(one.name)}: at {one.address:#x}", "bold"), *_machine(one, opcodes)])  # fmt: skip


def _machine_json(line: Any) -> dict[str, Any]:
    operation, _, operands = line.text.partition(" ")
    found: dict[str, Any] = {"pc": f"{line.offset:#x}", "opcodes": line.opcodes}
    if line.source:
        found |= {"src": line.source.text, "file": line.source.file, "line_num": line.source.line,
                  "line_col": line.source.column}  # fmt: skip
    return found | ({"operation": operation, "operands": operands} if line.text else {})


def _machine(one: "MachineCode", opcodes: bool) -> Iterator[Line]:
    for line in one.lines:
        if line.source:
            yield Line(f"; {escape(line.source.text)}", "dim")
        text = line.text or line.opcodes
        more = f"{line.opcodes:<32}" if opcodes and line.text else ""
        yield Line(f"{line.offset:>5x}: {more}{text}")


def print_graph(found: list[Listing], how: str) -> None:
    """The control flow in DOT, or as SVG, called after the program's first function."""
    from netbpf.insight.cfg import dot, svg

    lines = dot(found, found[0].name if found else "")
    if how == "svg":
        sys.stdout.write(svg("\n".join(lines)))
        return
    for line in lines:
        sys.stdout.write(line + "\n")
