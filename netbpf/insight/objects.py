"""``inspect``: an object file as a report. What is wrong in one program is said there, and the rest is told."""

from collections.abc import Iterable

from netbpf.bpf.btf.decode import decode
from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import Value
from netbpf.bpf.btf.variables import Variable, describe, variables
from netbpf.bpf.elf import STB_LOCAL, STT_OBJECT
from netbpf.bpf.mapdefs import PIN_BY_NAME, PIN_BY_OBJECT, PIN_NONE, PIN_REPLACE, MapSpec
from netbpf.bpf.object import Function, ObjectSpec, ProgramSpec
from netbpf.bpf.targets import target
from netbpf.constants import AttachType, ProgFlag, ProgType
from netbpf.errors import NetbpfError, NotSupportedError, ObjectError
from netbpf.insight.code import Code, Uses
from netbpf.insight.model import (
    BtfSummary,
    CoreRelocation,
    Need,
    ObjectMap,
    ObjectProgram,
    ObjectReport,
    ObjectVariable,
    Subprogram,
)
from netbpf.insight.names import map_flags, map_type_name, type_name
from netbpf.insight.needs import Prober, gpl_compatible, kernel_function, map_here

_PINNINGS = {
    PIN_NONE: "",
    PIN_BY_NAME: "by name",
    PIN_BY_OBJECT: "by object",
    PIN_REPLACE: "by name, replaced",
}


def report(spec: ObjectSpec, *, notes: tuple[str, ...] = ()) -> ObjectReport:
    """Everything about an object, compared with the running kernel as far as it lets itself be asked."""
    code, prober = Code(spec), Prober(spec.license)
    relocations, unresolved = _relocations(spec)
    return ObjectReport(
        path=spec.path,
        size=len(spec.data),
        sha256=spec.sha256,
        license=spec.license,
        gpl=gpl_compatible(spec.license),
        btf=_btf(spec),
        programs=tuple(_program(spec, code, prober, one) for one in spec.programs),
        maps=tuple(_map(spec, one) for one in spec.maps.values() if not one.is_data),
        variables=tuple(_variables(spec)),
        relocations=relocations,
        unresolved=unresolved,
        notes=notes,
    )


def _btf(spec: ObjectSpec) -> BtfSummary | None:
    if spec.btf is None:
        return None
    functions = lines = 0
    if spec.ext:
        functions = sum(map(len, spec.ext.funcs.values()))
        lines = sum(map(len, spec.ext.lines.values()))
    return BtfSummary(len(spec.btf.data), spec.btf.count - 1, functions, lines)


# --- programs ---


def _program(spec: ObjectSpec, code: Code, prober: Prober, one: ProgramSpec) -> ObjectProgram:
    reached = code.reached(one.function)
    uses = [code.uses(function) for function in reached]
    kind, attach = _kind(one)
    sections = spec.elf.sections
    return ObjectProgram(
        name=one.name,
        section=one.section,
        type=type_name(kind),
        attach_type=attach.name.lower() if attach else "",
        insns=one.function.size // 8,
        total_insns=sum(function.size for function in reached) // 8,
        subprograms=tuple(
            Subprogram(f.name, sections[f.section].name, f.size // 8, f.static) for f in reached[1:]
        ),
        maps=tuple(dict.fromkeys(name for use in uses for name in use.maps)),
        helpers=tuple(
            prober.helper(number, kind, attach)
            for number in sorted({number for use in uses for number in use.helpers})
        ),
        kernel_functions=tuple(_externs(uses, spec)),
        features=tuple(_features(uses, prober, one, kind, attach)),
        relocations=_count_relocations(spec, reached),
        problem=next((use.problem for use in uses if use.problem), ""),
    )


def _kind(one: ProgramSpec) -> tuple[ProgType, AttachType]:
    attach = one.declared.attach_type
    if one.declared.type in (ProgType.XDP, ProgType.SCHED_CLS, ProgType.SCHED_ACT):
        return one.declared.type, attach
    found = target(one.section)
    return (found.type, found.expected) if found else (one.declared.type, attach)


def _externs(uses: Iterable[Uses], spec: ObjectSpec) -> Iterable[Need]:
    weak: dict[str, bool] = {}
    for use in uses:
        weak |= use.externs
    config = _config_names(spec)
    return (kernel_function(name, weak=weak[name]) for name in weak if name not in config)


def _config_names(spec: ObjectSpec) -> set[str]:
    """Variables of .kconfig: the loader answers them, from the kernel's configuration."""
    if spec.btf is None or not spec.btf.find(".kconfig"):
        return set()
    return {
        spec.btf.type(one.type_id).name
        for section in spec.btf.find(".kconfig")
        for one in spec.btf.section_vars(section)
    }


def _features(
    uses: list[Uses], prober: Prober, one: ProgramSpec, kind: ProgType, attach: AttachType
) -> Iterable[Need]:
    if kind is not ProgType.UNSPEC:
        yield prober.program_type(kind, attach, type_name(kind))
    if one.declared.flags & ProgFlag.XDP_HAS_FRAGS:
        yield prober.frags()
    for name in sorted({name for use in uses for name in use.features}):
        yield prober.feature(name)


def _count_relocations(spec: ObjectSpec, functions: list[Function]) -> int:
    if spec.ext is None:
        return 0
    total = 0
    for function in functions:
        name, end = spec.elf.sections[function.section].name, function.start + function.size
        total += sum(function.start <= one.insn_offset < end for one in spec.ext.relocations.get(name, ()))  # fmt: skip
    return total


# --- CO-RE ---


def _relocations(spec: ObjectSpec) -> tuple[tuple[CoreRelocation, ...], str]:
    if spec.ext is None or spec.btf is None or not spec.ext.relocations:
        return (), ""
    from netbpf.bpf.core import relocate, running_kernel

    kernel, found = running_kernel(), []
    for name, relos in spec.ext.relocations.items():
        section = spec.elf.section(name)
        if section is None:
            raise spec.elf.fail(f"its BTF has relocations of section {name}, which is not there")
        code = bytearray(spec.elf.content(section))
        if any(one.insn_offset + 8 > len(code) for one in relos):
            raise spec.elf.fail(f"a CO-RE relocation of {name} lies outside the section")
        try:
            resolutions = relocate(
                code, [(one.insn_offset // 8, one) for one in relos], spec.btf, kernel
            )
        except (NotSupportedError, ObjectError) as error:
            return (), error.message
        found += [
            CoreRelocation(
                name, one.index * 8, one.kind.name.lower(), one.text, one.found, one.old, one.new, one.why
            )
            for one in resolutions
        ]  # fmt: skip
    return tuple(found), ""


# --- maps ---


def _map(spec: ObjectSpec, one: MapSpec) -> ObjectMap:
    here, why = map_here(one)
    return ObjectMap(
        name=one.name,
        type=map_type_name(one.type),
        key=_type_text(spec.btf, one.key_type_id),
        value=_type_text(spec.btf, one.value_type_id),
        key_size=one.key_size,
        value_size=one.value_size,
        max_entries=one.max_entries,
        flags=map_flags(one.flags),
        pinning=_PINNINGS.get(one.pinning, str(one.pinning)),
        here=here,
        why=why,
    )


def _type_text(btf: Btf | None, type_id: int) -> str:
    if btf is None or not type_id:
        return ""
    try:
        return describe(btf, type_id)
    except ObjectError:
        return ""


# --- variables ---


def _variables(spec: ObjectSpec) -> Iterable[ObjectVariable]:
    for one in spec.maps.values():
        if one.initial is None:
            continue
        if spec.btf is not None and one.value_type_id:
            yield from _typed(spec.btf, one)
        else:
            yield from _untyped(spec, one)


def _typed(btf: Btf, one: MapSpec) -> Iterable[ObjectVariable]:
    assert one.initial is not None
    for variable in variables(btf, one.value_type_id):
        yield ObjectVariable(
            variable.name, one.name, _type_text(btf, variable.type_id) or _whole(btf, variable),
            variable.size, _default(btf, one, variable), not one.read_only, variable.linkage == 0,
            "; ".join(variable.descriptions),
        )  # fmt: skip


def _whole(btf: Btf, variable: Variable) -> str:
    return _type_text(btf, btf.type(variable.type_id).size_or_type)


def _default(btf: Btf, one: MapSpec, variable: Variable) -> Value:
    assert one.initial is not None
    data = bytes(one.initial[variable.offset : variable.offset + variable.size])
    kind = btf.type(variable.type_id).size_or_type
    try:
        return decode(btf, kind, data, name=variable.name)
    except NetbpfError:
        return decode_raw(data)


def _untyped(spec: ObjectSpec, one: MapSpec) -> Iterable[ObjectVariable]:
    assert one.initial is not None
    for symbol in sorted(spec.elf.symbols_in(one.section), key=lambda symbol: symbol.value):
        if symbol.type == STT_OBJECT and symbol.name:
            data = bytes(one.initial[symbol.value : symbol.value + symbol.size])
            yield ObjectVariable(
                symbol.name, one.name, "", symbol.size, decode_raw(data), not one.read_only,
                symbol.binding == STB_LOCAL,
            )  # fmt: skip
