"""Giving an object's global variables their values before it is loaded (``--set``)."""

from collections.abc import Mapping, Sequence

from netbpf.bpf.btf.encode import Encodable, assign, assign_text
from netbpf.bpf.btf.path import Path, parse_assignment
from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ObjectError
from netbpf.text import did_you_mean, escape

Settings = Sequence[str] | Mapping[str, Encodable]


def apply(spec: ObjectSpec, settings: Settings) -> tuple[str, ...]:
    """Write settings into an object's data; the names of the sections that were touched.

    ``settings`` are texts as typed, ``["limit=5", "cfg.port=53"]``, or a mapping with Python values.
    ObjectError for unknown names (with near ones) and objects without BTF, UsageError for values that do not fit.
    """
    touched: list[str] = []
    if isinstance(settings, Mapping):
        for text, value in settings.items():
            path = Path.parse(text)
            btf, section = _section(spec, path)
            assign(btf, section.id, _content(spec, section.name), path, value)
            touched.append(section.name)
    else:
        for text in settings:
            path, typed = parse_assignment(text)
            btf, section = _section(spec, path)
            assign_text(btf, section.id, _content(spec, section.name), path, typed)
            touched.append(section.name)
    return tuple(dict.fromkeys(touched))


def _content(spec: ObjectSpec, section: str) -> bytearray:
    content = spec.maps[section].initial
    assert content is not None
    return content


def variables(spec: ObjectSpec) -> dict[str, BtfType]:
    """The names of an object's global variables, and the section (a DATASEC) each is in."""
    if spec.btf is None:
        return {}
    found: dict[str, BtfType] = {}
    for section in spec.btf.types():
        if (
            section.kind is Kind.DATASEC
            and section.name in spec.maps
            and spec.maps[section.name].is_data
        ):
            for entry in spec.btf.section_vars(section):
                found.setdefault(spec.btf.type(entry.type_id).name, section)
    return found


def _section(spec: ObjectSpec, path: Path) -> tuple[Btf, BtfType]:
    name = str(path.steps[0])
    known = variables(spec)
    if spec.btf and name in known:
        return spec.btf, known[name]
    if spec.btf is None:
        raise ObjectError(
            f"{spec.elf.origin} does not name its variables: it was compiled without BTF",
            hint="compile with -g",
        )
    raise ObjectError(
        f"{spec.elf.origin} has no variable {escape(name)}",
        hint=did_you_mean(name, known, "its variables are"),
    )
