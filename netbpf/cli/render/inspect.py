"""Output of ``inspect``. Every name comes from a file that anybody may have written."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from netbpf.bpf.btf.values import format_value
from netbpf.cli.output import Line, Table, print_json, say
from netbpf.cli.render.code import code_json, code_lines
from netbpf.insight.model import (
    CoreRelocation,
    ElfHeaders,
    Listing,
    Need,
    ObjectMap,
    ObjectProgram,
    ObjectReport,
)
from netbpf.text import escape

_FEW = 60  # characters of a default value


def print_report(report: ObjectReport, *, as_json: bool) -> None:
    """What an object holds and needs."""
    if as_json:
        print_json("inspect", asdict(report))
    else:
        say(_report_lines(report))


def _report_lines(report: ObjectReport) -> Iterator[Line]:
    yield Line(_head(report), "bold")
    for note in report.notes:
        yield Line(f"note: {escape(note)}")
    for program in report.programs:
        yield Line("")
        yield from _program_lines(program)
    if report.maps:
        yield Line("")
        yield Line("maps", "bold")
        yield from _indented(_map_table(report.maps))
    if report.variables:
        yield Line("")
        yield Line("variables", "bold")
        yield from _indented(_variable_table(report))
    if report.relocations or report.unresolved:
        yield Line("")
        yield from _relocation_lines(report)
    yield Line("")
    yield from _verdict(report)


def _head(report: ObjectReport) -> str:
    btf = report.btf
    types = (
        f"BTF with {_many(btf.types, 'type')} and {_many(btf.lines, 'source line')}"
        if btf
        else "no BTF"
    )
    license_ = (
        f"license {escape(report.license)}{'' if report.gpl else ' (not the GPL)'}"
        if report.license
        else "no license"
    )
    return f"{escape(report.path)}: {report.size:,} bytes, {license_}, {types}"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _program_lines(one: ObjectProgram) -> Iterator[Line]:
    yield Line(f"program {escape(one.name)}", "bold")
    kind = one.type + (f", {one.attach_type}" if one.attach_type not in ("", one.type) else "")
    yield Line(f"  section       {escape(one.section)} ({kind})")
    size = f"{one.insns:,}"
    if one.subprograms:
        size += f", {one.total_insns:,} with its subprograms"
    yield Line(f"  instructions  {size}")
    parts = [f"{escape(sub.name)} ({sub.insns:,})" for sub in one.subprograms]
    for title, words in (
        ("subprograms", parts),
        ("maps", [escape(name) for name in one.maps]),
        ("helpers", _need_words(one.helpers)),
        ("kernel has", _need_words(one.kernel_functions)),
        ("needs", _need_words(one.features)),
    ):
        if words:
            yield Line(f"  {title:<12}  {', '.join(words)}")
    if one.relocations:
        yield Line(f"  {'CO-RE':<12}  {_many(one.relocations, 'relocation')}")
    if one.problem:
        yield Line(f"  {'problem':<12}  {escape(one.problem)}")


def _need_words(needs: Iterable[Need]) -> list[str]:
    return [_need(one) for one in needs]


def _need(one: Need) -> str:
    since = f"Linux {one.since}" if one.since else ""
    state = {True: "", False: one.why or "not in this kernel", None: ""}[one.here]
    more = "; ".join(part for part in (since, state) if part)
    return escape(one.name) + (f" ({more})" if more else "")


def _map_table(maps: Iterable[ObjectMap]) -> list[Line]:
    table = Table("NAME", "TYPE", "KEY", "VALUE", "ENTRIES", "FLAGS", right=("ENTRIES",))
    for one in maps:
        flags = [*one.flags, *([f"pinned {one.pinning}"] if one.pinning else [])]
        if one.here is False:
            flags.append(f"not in this kernel: {escape(one.why)}" if one.why else "not in this kernel")  # fmt: skip
        table.add_row(
            escape(one.name), one.type, escape(one.key) or _bytes(one.key_size),
            escape(one.value) or _bytes(one.value_size), str(one.max_entries), ", ".join(flags),
        )  # fmt: skip
    return table.lines()


def _bytes(size: int) -> str:
    return f"{size} bytes" if size else "-"


def _variable_table(report: ObjectReport) -> list[Line]:
    table = Table("NAME", "SECTION", "TYPE", "DEFAULT", "")
    for one in report.variables:
        value = format_value(one.default) if one.type else str(one.default)  # else hex
        shown = value if len(value) <= _FEW else value[: _FEW - 3] + "..."
        table.add_row(
            escape(one.name), escape(one.section), _short(one.type) or _bytes(one.size), shown, escape(one.description)
        )  # fmt: skip
    return table.lines()


def _short(type_: str) -> str:
    """A type without its enumerators."""
    return escape(type_.partition(" {")[0])


def _relocation_lines(report: ObjectReport) -> Iterator[Line]:
    if report.unresolved:
        yield Line(f"CO-RE relocations cannot be compared: {escape(report.unresolved)}")
        return
    missing = [one for one in report.relocations if one.found is None and one.why]
    yield Line("CO-RE relocations", "bold")
    moved = sum(one.found is not None and one.old != one.new for one in report.relocations)
    yield Line(
        f"  {len(report.relocations):,}, of which this kernel has {moved:,} at another place and lacks {len(missing):,}"
    )
    for one in _distinct(missing):
        yield Line(f"  not here: {escape(one.text)}: {escape(one.why)}")


def _distinct(found: Iterable[CoreRelocation]) -> list[CoreRelocation]:
    return list({one.text: one for one in found}.values())


def _verdict(report: ObjectReport) -> Iterator[Line]:
    needs = [
        need
        for one in report.programs
        for need in (*one.helpers, *one.kernel_functions, *one.features)
    ]
    lacking = [need.name for need in needs if need.here is False and not need.optional]
    lacking += [f"map {one.name}" for one in report.maps if one.here is False]
    unknown = {need.name for need in needs if need.here is None and not need.since}
    if lacking:
        names = ", ".join(escape(name) for name in dict.fromkeys(lacking))
        yield Line(f"this kernel lacks: {names}")
    elif unknown:
        names = ", ".join(sorted(escape(name) for name in unknown))
        yield Line(f"this kernel was not asked for {names}; it lacks nothing else")
    elif report.programs:
        yield Line("this kernel has everything that it needs")
    else:
        yield Line("it holds no program")


def _indented(lines: Iterable[Line]) -> Iterator[Line]:
    return (Line(f"  {text}", style) for text, style in lines)


# --- code ---


def print_listings(found: list[Listing], *, opcodes: bool, as_json: bool) -> None:
    """Disassembled functions."""
    if as_json:
        functions: list[dict[str, Any]] = [
            {"name": one.name, "section": one.section, "prototype": one.prototype, "insns": code_json(one.lines)}
            for one in found
        ]  # fmt: skip
        print_json("disassembly", {"functions": functions})
        return
    for number, one in enumerate(found):
        lines = [Line("")] if number else []
        lines.append(Line(f"{escape(one.prototype)}:    (section {escape(one.section)})", "bold"))
        say([*lines, *code_lines(one.lines, opcodes=opcodes)])


# --- ELF ---


def print_headers(found: ElfHeaders, *, as_json: bool) -> None:
    """ELF header, sections, symbols."""
    if as_json:
        print_json(
            "headers",
            {
                "header": dict(found.fields),
                "sections": [asdict(one) for one in found.sections],
                "symbols": [asdict(one) for one in found.symbols],
            },
        )
        return
    say(_header_lines(found))


def _header_lines(found: ElfHeaders) -> Iterator[Line]:
    yield Line("ELF header", "bold")
    for name, value in found.fields:
        yield Line(f"  {name + ':':<36}{value}")
    yield Line("")
    yield Line("sections", "bold")
    right = ("NR", "OFFSET", "SIZE", "ENTRY", "LINK", "INFO", "ALIGN")
    table = Table(
        "NR", "NAME", "TYPE", "OFFSET", "SIZE", "ENTRY", "FLAGS", "LINK", "INFO", "ALIGN", right=right
    )  # fmt: skip
    for one in found.sections:
        table.add_row(
            str(one.number), escape(one.name), one.type, f"{one.offset:#x}", f"{one.size:#x}", f"{one.entry_size:#x}",
            one.flags, str(one.link), str(one.info), str(one.align),
        )  # fmt: skip
    yield from _indented(table.lines())
    yield Line("")
    yield Line("symbols", "bold")
    numbers = ("NR", "VALUE", "SIZE")
    table = Table("NR", "VALUE", "SIZE", "TYPE", "BIND", "VISIBILITY", "SECTION", "NAME", right=numbers)  # fmt: skip
    for symbol in found.symbols:
        table.add_row(
            str(symbol.number), f"{symbol.value:#x}", str(symbol.size), symbol.type, symbol.binding, symbol.visibility,
            escape(symbol.section), escape(symbol.name),
        )  # fmt: skip
    yield from _indented(table.lines())
