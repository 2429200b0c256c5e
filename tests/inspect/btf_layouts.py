"""Headers judged by clang: what it makes of them has the layout of the BTF they were made of."""

import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netbpf.bpf.btf.header import header
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.object import ObjectSpec

_KINDS = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64)


def header_of(btf: Btf, **more: Any) -> str:
    return "".join(header(btf, guard="__TYPES_H__", **more))


def compiled(text: str, *, clang: str, flags: tuple[str, ...] = ()) -> Btf:
    """The BTF of some C; AssertionError where clang says anything."""
    with tempfile.TemporaryDirectory() as directory:
        source, made = Path(directory, "types.c"), Path(directory, "types.o")
        source.write_text(text)
        done = subprocess.run(
            [clang, "-target", "bpf", "-g", "-O2", "-Wall", "-Werror", *flags,
             "-idirafter", f"/usr/include/{platform.machine()}-linux-gnu", "-c", str(source), "-o", str(made)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[:3000]
        btf = ObjectSpec(made.read_bytes()).btf
        assert btf
        return btf


def used(btf: Btf) -> str:
    """C that has clang describe every type of a header: a variable of all of them (many would take clang a minute)."""
    lines: list[str] = []
    seen = set()
    for one in _all(btf):
        words = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
        if one.kind in words and one.name and (one.vlen or words[one.kind] != "enum"):
            named = f"{words[one.kind]} {one.name}"
        elif one.kind is Kind.TYPEDEF and _anonymous(btf, one.size_or_type):
            named = one.name
        else:
            continue
        if (one.kind is Kind.TYPEDEF, one.name) not in seen and one.name.isidentifier():
            seen.add((one.kind is Kind.TYPEDEF, one.name))
            lines.append(f"\t{named} value_{len(lines)};\n")
    return "union {\n" + "".join(lines) + "\tlong one;\n} every;\n"


def _all(btf: Btf) -> Iterator[Any]:
    if btf.base:
        yield from btf.base.types()
    yield from btf.types()


def _anonymous(btf: Btf, number: int) -> bool:
    one = btf.type(number)
    return one.kind in _KINDS and not one.name


def shape(btf: Btf, number: int) -> Any:
    """Size and members of a type, those without a name within it; names of types that have one."""
    one = btf.resolve(number)
    if one.kind in (Kind.STRUCT, Kind.UNION):
        members = []
        for each in btf.members(one):
            inner = btf.resolve(each.type_id)
            nested = (
                shape(btf, inner.id)
                if inner.kind in _KINDS and not inner.name
                else _word(btf, inner)
            )
            members.append((each.name, each.bit_offset, each.bitfield_size, nested))
        return one.kind, one.size_or_type, tuple(members)
    if one.kind in (Kind.ENUM, Kind.ENUM64):
        return one.size_or_type, tuple(value for _, value in btf.enumerators(one))
    return _word(btf, one)


def _word(btf: Btf, one: Any) -> Any:
    if one.kind is Kind.ARRAY:
        array = btf.array(one)
        return (array.count, _word(btf, btf.resolve(array.type_id)))
    if one.kind is Kind.FWD:
        return "pointed to"
    if one.kind is Kind.PTR:
        return "pointer"
    if one.kind in (Kind.ENUM, Kind.ENUM64):
        return (Kind.INT, one.size_or_type)  # the constants of one without a name are written once
    return one.kind, one.size_or_type


def differences(theirs: Btf, ours: Btf) -> list[str]:
    """Types of the first BTF that the second has otherwise, or not at all."""
    found, index = [], {}
    for one in ours.types():
        if one.name and (one.kind in _KINDS or one.kind is Kind.TYPEDEF):
            index[_key(ours, one)] = one.id
    seen = set()
    for one in _all(theirs):
        key = _key(theirs, one)
        if not one.name or (one.kind is Kind.TYPEDEF, one.name) in seen:
            continue
        if one.kind is Kind.TYPEDEF and not _anonymous(theirs, one.size_or_type):
            continue
        if one.kind not in (*_KINDS, Kind.TYPEDEF) or (one.kind in _KINDS[2:] and not one.vlen):
            continue
        seen.add((one.kind is Kind.TYPEDEF, one.name))
        if key not in index:
            found.append(f"{key} is missing")
        elif (was := shape(theirs, one.id)) != (now := shape(ours, index[key])):
            found.append(f"{key}: {was} became {now}")
    return found


def _key(btf: Btf, one: Any) -> tuple[str, str]:
    words = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.TYPEDEF: "typedef"}
    return words.get(one.kind, "enum"), one.name
