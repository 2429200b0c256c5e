"""The sources of the shipped programs: their header comments tell the truth, and both clangs build what loads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from netbpf.bpf.btf.types import Kind
from netbpf.bpf.btf.variables import variables
from netbpf.bpf.cover.active import collecting
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook, MapType, ProgType
from netbpf.live.reader import OpenMap
from tests.programs.building import CLANG_14_AND_NEWEST, ROOT, build
from tests.support.bpftool import loadall
from tests.support.compiling import CLANGS

SOURCES: Final = sorted([*ROOT.glob("xdp/*.bpf.c"), *ROOT.glob("tc/*.bpf.c")])
FIELDS: Final = ("Hook", "Needs", "Config", "Maps", "Verdict")
SPDX: Final = "(GPL-2.0-only OR BSD-2-Clause)"
DATA: Final = (".rodata", ".data", ".bss")
SETTINGS: Final = (".rodata", ".data")  # what starts from a value; .bss counts

every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name.split(".")[0])
every_clang = pytest.mark.parametrize("clang", CLANG_14_AND_NEWEST)


def name_of(source: Path) -> str:
    return source.name.removesuffix(".bpf.c")


def hook_of(source: Path) -> Hook:
    return Hook.XDP if source.parent.name == "xdp" else Hook.TC_INGRESS


def spec_of(source: Path) -> ObjectSpec:
    return ObjectSpec.open(ROOT / "netbpf" / "_objects" / f"{name_of(source)}.bpf.o")


def header(source: Path) -> dict[str, str]:
    """The fields of the comment at the top, each joined to one line, and under "" what comes before."""
    text = source.read_text()
    comment = text[text.index("/*") + 2 : text.index("*/")]
    found, field = {"": ""}, ""
    for line in comment.splitlines():
        line = line.strip().removeprefix("*").strip()
        match = re.match(r"([A-Z][a-z]+): +(.*)", line)
        if match:
            field, line = match.groups()
            found[field] = ""
        found[field] = f"{found[field]} {line}".strip()
    return found


def settings_of(spec: ObjectSpec) -> dict[str, str]:
    """The variables that are there to be set, and the section of each."""
    assert spec.btf is not None
    return {
        one.name: name
        for name in SETTINGS
        if name in spec.maps
        for one in variables(spec.btf, name)
    }


# --- what the comment says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*SOURCES, *sorted(ROOT.glob("netbpf/include/netbpf/*.h"))], ids=lambda path: path.name
)
def test_the_license_is_in_the_first_line(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    comment = (
        f"// SPDX-License-Identifier: {SPDX}"
        if path.suffix == ".c"
        else f"/* SPDX-License-Identifier: {SPDX} */"
    )
    assert first == comment


@every_source
def test_the_header_has_all_fields_in_order(source: Path) -> None:
    fields = header(source)
    assert tuple(fields) == ("", *FIELDS)
    assert all(fields.values())
    assert fields[""].startswith(f"{name_of(source)} - ")


@every_source
def test_the_hook_is_that_of_the_directory_and_the_section(source: Path) -> None:
    words = header(source)["Hook"]
    spec = spec_of(source)
    [program] = spec.programs
    assert program.name == name_of(source)
    assert program.section == source.parent.name  # "xdp" or "tc", which every loader knows
    xdp = hook_of(source) is Hook.XDP
    assert program.declared.type is (ProgType.XDP if xdp else ProgType.SCHED_CLS)
    assert words.startswith("xdp (native, skb)" if xdp else "tc ingress, tc egress (clsact")
    assert spec.license == "Dual BSD/GPL"


@every_source
def test_the_kernel_it_needs_is_a_version(source: Path) -> None:
    assert re.search(r"\bLinux [5-9]\.\d+ \(", header(source)["Needs"])


@pytest.mark.root
@every_source
def test_config_lists_the_settings_of_the_object(source: Path) -> None:
    """Each by name, with its type and default, and whether it may change while running."""
    text = header(source)["Config"]
    spec = spec_of(source)
    settings = settings_of(spec)
    listed = re.findall(r"(\w+) \((enum \w+|\w+), default (-?\w+)\)", text)
    assert {name for name, *_ in listed} == set(settings)
    with load_of(source) as loaded:
        values = dict(shown(loaded))
    for name, kind, default in listed:
        assert values[name] == (kind, default), name
    live = ".data" in settings.values()
    assert ("may change while running" in text) == live
    assert ("set before load" in text) == (".rodata" in settings.values())


def load_of(source: Path) -> Loaded:
    spec = spec_of(source)
    return load(spec, spec.select(hook_of(source)), hook_of(source))


def shown(loaded: Loaded) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each setting's C type and value, as a person reads them."""
    from netbpf.bpf.btf.values import format_value
    from netbpf.bpf.program import btf_by_id
    from netbpf.live.reader import read_variables

    for name in SETTINGS:
        if name in loaded.maps:
            one = loaded.maps[name]
            for variable in read_variables(OpenMap(one, btf_by_id(one.info.btf_id))):
                yield (
                    variable.name,
                    (variable.type.partition(" {")[0], format_value(variable.value)),
                )


@every_source
def test_maps_lists_the_maps_of_the_object_and_their_kinds(source: Path) -> None:
    text = header(source)["Maps"]
    spec = spec_of(source)
    maps = {name: MapType(one.type) for name, one in spec.maps.items() if name not in DATA}
    if not maps:
        assert text.startswith("none but the variables")
        for name in DATA:
            assert name in text
        return
    words = {
        MapType.PERCPU_ARRAY: "per-CPU array",
        MapType.ARRAY: "arrays",
        MapType.HASH: "hash",
        MapType.LPM_TRIE: "LPM tries",
    }
    listed: dict[str, str] = {}
    for names, kind in re.findall(r"([\w, ]+?) \(([^)]*)\)", text):
        for name in names.replace(",", " ").split():
            listed[name] = kind
    assert set(listed) - {"rules", "written", "by", "user", "space"} == set(maps)
    for name, kind in maps.items():
        assert listed[name].startswith(words[kind]), name


@every_source
def test_the_verdicts_named_are_verdicts(source: Path) -> None:
    text = header(source)["Verdict"]
    prefix = "XDP_" if hook_of(source) is Hook.XDP else "TC_ACT_"
    other = "TC_ACT_" if prefix == "XDP_" else "XDP_"
    assert other not in text
    assert prefix in text or "`verdict`" in text


@every_source
def test_every_name_fits_the_kernels_15_characters(source: Path) -> None:
    spec = spec_of(source)
    names = [one.name for one in spec.programs] + [name for name in spec.maps if name not in DATA]
    names += list(settings_of(spec))
    assert [name for name in names if len(name) > 15] == []


@every_source
def test_every_variable_says_what_it_is_for(source: Path) -> None:
    """NETBPF_DESCRIBE puts the text into the object, where netbpf finds it."""
    spec = spec_of(source)
    assert spec.btf is not None
    sections = [
        one.name for one in spec.btf.types() if one.kind is Kind.DATASEC and one.name in DATA
    ]
    described = {
        one.name: one.descriptions for name in sections for one in variables(spec.btf, name)
    }
    text = source.read_text() + (ROOT / "netbpf/include/netbpf/filter.h").read_text()
    text = re.sub(r'"\s*"', "", text)
    assert bool(described)
    for name, descriptions in described.items():
        assert len(descriptions) == 1, name
        assert f'"{descriptions[0]}"' in text
        assert len(descriptions[0]) > 10


# --- both compilers ------------------------------------------------------------------------------


@pytest.mark.root
@every_clang
@every_source
def test_it_builds_without_a_warning_and_loads(source: Path, clang: str, tmp_path: Path) -> None:
    made = tmp_path / f"{name_of(source)}.bpf.o"
    build(source, clang, made)
    spec = ObjectSpec.open(made)
    with load(spec, spec.select(hook_of(source)), hook_of(source)) as loaded:
        assert loaded.program.info.name == name_of(source)


@pytest.mark.root
@every_source
def test_it_loads_without_the_newer_instructions(source: Path, tmp_path: Path) -> None:
    """-mcpu=v2, which kernels before 5.1 and some JITs need."""
    made = tmp_path / f"{name_of(source)}.bpf.o"
    build(source, CLANGS[0], made, cpu="v2")
    spec = ObjectSpec.open(made)
    load(spec, spec.select(hook_of(source)), hook_of(source)).close()


@pytest.mark.root
@every_source
def test_libbpf_loads_the_same_program(source: Path, tmp_path: Path) -> None:
    oracle = loadall(ROOT / "netbpf" / "_objects" / f"{name_of(source)}.bpf.o", tmp_path)
    assert not oracle.refused, oracle.log
    with collecting(None), load_of(source) as loaded:  # without probes, if there are any
        assert oracle.programs[name_of(source)]["tag"] == loaded.program.info.tag
