"""The global variables of an object or a running program, and how types are called."""

from dataclasses import dataclass

from netbpf.bpf.btf.shape import entries_of, shape
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.errors import ObjectError
from netbpf.text import did_you_mean, escape


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in a section. Offset and size in bytes; ``linkage`` 0 static, 1 global, 2 extern.

    ``type_id`` is that of its VAR; ``descriptions`` are the texts of its ``btf_decl_tag`` attributes.
    """

    name: str
    type_id: int
    offset: int
    size: int
    linkage: int
    descriptions: tuple[str, ...] = ()


def variables(btf: Btf, section: str | int) -> list[Variable]:
    """The variables of a DATASEC, by its name (``.bss``) or type id, in order of their offsets.

    Of two variables of one name (statics of two functions) the second is called ``name@offset``.
    Raises ObjectError where the BTF has no such section or describes it badly.
    """
    if isinstance(section, str):
        found = btf.find(section, Kind.DATASEC)
        if not found:
            names = [one.name for one in btf.types() if one.kind is Kind.DATASEC]
            hint = did_you_mean(section, names, "sections")
            raise ObjectError(f"BTF has no section {escape(section)}", hint=hint)
        kind = found[0]
    else:
        kind = btf.type(section)
        if kind.kind is not Kind.DATASEC:
            raise ObjectError(f"BTF type {section} is no section")
    texts: dict[int, list[str]] = {}
    for one in btf.types():
        if one.kind is Kind.DECL_TAG:
            texts.setdefault(one.size_or_type, []).append(one.name)
    return [
        Variable(
            name,
            variable.id,
            offset,
            size,
            btf.linkage(variable),
            tuple(texts.get(variable.id, ())),
        )
        for name, variable, offset, size in entries_of(btf, kind)
    ]


def describe(btf: Btf, type_id: int) -> str:
    """What C would call a type, with short integers: ``u32[4]``, ``struct cfg``, ``enum mode {OFF, ON}``.

    Types without a value are named too: ``void``, ``func f``. Raises ObjectError for BTF without sense.
    """
    kind = btf.resolve(type_id)
    if kind.kind is Kind.VOID:
        return "void"
    if kind.kind is Kind.FWD:
        return f"{'union' if kind.kind_flag else 'struct'} {escape(kind.name)}"
    if kind.kind in (Kind.FUNC, Kind.FUNC_PROTO, Kind.DECL_TAG):
        return f"{kind.kind.name.lower()} {escape(kind.name)}".strip()
    return shape(btf, type_id).c_name
