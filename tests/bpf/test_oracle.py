"""The loader against libbpf: the same program tags and the same maps, and every program does what it should."""

from pathlib import Path
from typing import Any

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.constants import Hook, MapType, ProgType
from tests.support import bpftool
from tests.support.compiling import CLANGS, compile_object

GOOD = 7  # tests/support/objects/check.h
SAME = (
    "assembly callbacks core_types externs frags globals locks maps nested_maps subprograms tail_calls"
).split()
TOOLCHAINS = [
    (CLANGS[0], "v1"),
    (CLANGS[0], "v3"),
    (CLANGS[-1], "v2"),
    (CLANGS[-1], "v3"),
]
# What a call of a missing weak function becomes differs between versions of libbpf too.
_TAG_DIFFERS = {"weak_function"}


def hook_of(program: ProgramSpec) -> Hook:
    return Hook.XDP if program.declared.type is ProgType.XDP else Hook.TC_INGRESS


def verdict(loaded: Loaded) -> int:
    return sys_bpf.prog_test_run(loaded.program.fd.fileno(), bytes(64)).retval


def loaded_maps(loaded: Loaded) -> set[tuple[Any, ...]]:
    return {
        (
            m.info.name,
            MapType(m.info.type).name.lower(),
            m.info.key_size,
            m.info.value_size,
            m.info.max_entries,
        )
        for m in loaded.maps.values()
        if m.info.id in loaded.program.info.map_ids
    }


@pytest.mark.parametrize(("clang", "cpu"), TOOLCHAINS)
@pytest.mark.parametrize("name", SAME)
def test_same_as_libbpf(name: str, clang: str, cpu: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.bpf.o"
    path.write_bytes(compile_object(name, clang=clang, cpu=cpu))
    theirs = bpftool.loadall(path, tmp_path)
    assert not theirs.refused, theirs.log
    names = {program.name for program in ObjectSpec.open(path).programs}
    assert names == set(theirs.programs)
    for program in ObjectSpec.open(path).programs:
        with load(ObjectSpec.open(path), program, hook_of(program)) as ours:
            assert verdict(ours) == GOOD, program.name
            assert ours.program.info.btf_id, program.name
            if program.name not in _TAG_DIFFERS:
                assert ours.program.info.tag == theirs.programs[program.name]["tag"], program.name
            # libbpf also binds every .rodata to every program, and lays out .kconfig in an order of its own.
            mine, theirs_too = loaded_maps(ours), theirs.maps[program.name]
            assert {one for one in mine if ".kconfig" not in one[0]} <= theirs_too, program.name
            assert all(".rodata" in one[0] or ".kconfig" in one[0] for one in theirs_too - mine)


@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
@pytest.mark.parametrize("name", ["globals", "subprograms", "frags"])
def test_without_types(name: str, clang: str, tmp_path: Path) -> None:
    """Without -g there are no map definitions, but programs, global data and calls are as ever."""
    path = tmp_path / f"{name}.bpf.o"
    path.write_bytes(compile_object(name, clang=clang, debug=False))
    theirs = bpftool.loadall(path, tmp_path)
    assert not theirs.refused, theirs.log
    for program in ObjectSpec.open(path).programs:
        with load(ObjectSpec.open(path), program, hook_of(program)) as ours:
            assert verdict(ours) == GOOD, program.name
            assert ours.program.info.tag == theirs.programs[program.name]["tag"], program.name


@pytest.mark.parametrize(("clang", "cpu"), TOOLCHAINS)
def test_what_libbpf_refuses(clang: str, cpu: str, tmp_path: Path) -> None:
    path = tmp_path / "dialects.bpf.o"
    path.write_bytes(compile_object("dialects", clang=clang, cpu=cpu))
    assert bpftool.loadall(path, tmp_path).refused
    programs = ObjectSpec.open(path).programs
    assert [p.name for p in programs if hook_of(p) is Hook.XDP] == ["firewall", "caller"]
    for program in programs:
        with load(ObjectSpec.open(path), program, hook_of(program)) as ours:
            assert verdict(ours) == GOOD, program.name
            assert ours.program.info.btf_id


def test_types_of_every_map(tmp_path: Path) -> None:
    """The object of the test above has the map types that it says it has."""
    types = {spec.type for spec in ObjectSpec(compile_object("maps")).maps.values()}
    assert len(types & set(MapType)) >= 16
