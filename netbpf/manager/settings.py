"""What a user sets before an object is loaded: values of its global variables (``--set``), sizes of its maps."""

import re
from collections.abc import Mapping, Sequence

from netbpf.bpf.btf.encode import Encodable, assign, assign_text
from netbpf.bpf.btf.path import Path, parse_assignment
from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.bpf.map import possible_cpus
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ObjectError, UsageError
from netbpf.text import did_you_mean, escape

Settings = Sequence[str] | Mapping[str, Encodable]
MapSizes = Sequence[str] | Mapping[str, int]
ONE_PER_CPU = "cpus"
_MOST = (1 << 32) - 1  # max_entries is a __u32


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


def shares(
    specs: Sequence[ObjectSpec], programs: Sequence[str], settings: Settings
) -> list[Settings]:
    """Which of ``settings`` go to which of several objects: to the one that has the variable.

    A name may begin with that of an object's program and a dot. ObjectError for variables that none has,
    UsageError for those that several have.
    """
    if len(specs) == 1:
        return [settings]
    if isinstance(settings, Mapping):
        values: list[dict[str, Encodable]] = [{} for _ in specs]
        for name, value in settings.items():
            number, rest = _owner(specs, programs, name)
            values[number][rest] = value
        return list(values)
    texts: list[list[str]] = [[] for _ in specs]
    for text in settings:
        number, rest = _owner(specs, programs, text)
        texts[number].append(rest)
    return list(texts)


def shares_of_sizes(specs: Sequence[ObjectSpec], sizes: MapSizes) -> list[MapSizes]:
    """Which of ``sizes`` go to which of several objects: to all that have a map of the name."""
    if len(specs) == 1:
        return [sizes]
    texts = (
        [f"{name}={size}" for name, size in sizes.items()] if isinstance(sizes, Mapping) else sizes
    )
    for text in texts:
        name = text.partition("=")[0].strip()
        if not any(name in spec.maps for spec in specs):
            raise ObjectError(
                f"none of the objects has a map {escape(name)}",
                hint=did_you_mean(
                    name, (one for spec in specs for one in spec.maps), "their maps are"
                ),
            )
    return [
        [text for text in texts if text.partition("=")[0].strip() in spec.maps] for spec in specs
    ]


def _owner(specs: Sequence[ObjectSpec], programs: Sequence[str], text: str) -> tuple[int, str]:
    """The number of the object that a setting is for, and the setting without the name of its program."""
    name = re.split(r"[.\[=]", text, maxsplit=1)[0].strip()
    owners = [number for number, spec in enumerate(specs) if name in variables(spec)]
    if len(owners) == 1:
        return owners[0], text
    if owners:
        which = " and ".join(escape(programs[number]) for number in owners)
        raise UsageError(
            f"{escape(name)} is a variable of {which}",
            hint=f"say whose: --set {escape(programs[owners[0]])}.{escape(text)}",
        )
    if programs.count(name) == 1 and "." in text:
        return programs.index(name), text.partition(".")[2]
    known = [one for spec in specs for one in variables(spec)]
    raise ObjectError(
        f"none of the objects has a variable {escape(name)}",
        hint=did_you_mean(name, known, "their variables are"),
    )


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


def resize(spec: ObjectSpec, sizes: MapSizes) -> None:
    """Set ``max_entries`` of maps: ``["flows=100000", "cpus=cpus"]`` as typed, or a mapping with numbers.

    ``cpus`` as a number is one entry per possible CPU. For ring buffers the number is bytes.
    ObjectError for unknown maps (with near names) and global data, UsageError for what is no size.
    """
    if isinstance(sizes, Mapping):
        wanted = {name: _size(str(one), name) for name, one in sizes.items()}
    else:
        wanted = {}
        for text in sizes:
            name, equals, number = text.partition("=")
            if not equals or not name:
                raise UsageError(
                    f"--map-size '{escape(text)}' is not NAME=N",
                    hint="such as --map-size flows=65536",
                )
            wanted[name] = _size(number, name)
    for name, entries in wanted.items():
        found = spec.maps.get(name)
        if found is None:
            names = [one.name for one in spec.maps.values() if not one.is_data]
            raise ObjectError(
                f"{spec.elf.origin} has no map {escape(name)}",
                hint=did_you_mean(name, names, "its maps are"),
            )
        if found.is_data:
            raise ObjectError(
                f"{escape(name)} of {spec.elf.origin} holds its global variables; their size is fixed"
            )
        found.max_entries = entries


def _size(text: str, name: str) -> int:
    if text == ONE_PER_CPU:
        return possible_cpus()
    try:
        number = int(text, 0)
    except ValueError:
        number = 0
    if not 0 < number <= _MOST:
        raise UsageError(
            f"'{escape(text)}' is no size for map {escape(name)}",
            hint=f"a size is a number from 1 to {_MOST}, or {ONE_PER_CPU!r}: one entry per CPU",
        )
    return number
