"""Copying types from one BTF into another."""

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.copy import Copier
from netbpf.bpf.btf.types import Btf, Kind, Member, SectionVar
from netbpf.errors import ObjectError


def node() -> tuple[Btf, int]:
    """``struct node { int value; struct node *next; }``, whose pointer comes before it."""
    source = Builder()
    integer = source.integer("int", 4, signed=True)
    pointer = source.ptr(integer + 2)
    found = source.struct(
        "node", 16, [Member("value", integer, 0, 0), Member("next", pointer, 64, 0)]
    )
    return source.build(), found


def test_types_that_refer_to_each_other_in_circles_are_copied_once() -> None:
    original, found = node()
    target = Builder()
    target.ptr(0)
    copier = Copier(target, original)
    copied = copier.copy(found)
    assert copier.copy(found) == copied
    result = target.build()
    assert result.count - 1 == 4
    kind = result.type(copied)
    value, following = result.members(kind)
    assert (kind.name, kind.size_or_type, value.name) == ("node", 16, "value")
    assert result.type(result.type(following.type_id).size_or_type).id == copied
    assert result.integer(result.type(value.type_id)).signed


def test_every_kind_arrives_as_it_was() -> None:
    source = Builder()
    u32 = source.integer("unsigned int", 4)
    small = source.enum("mode", [("OFF", 0), ("ON", 1)])
    large = source.enum64("flags", [("FAR", 1 << 40)])
    bits = source.struct("bits", 4, [Member("low", u32, 0, 3), Member("high", u32, 3, 29)])
    inner = source.array(source.const(source.typedef("word", u32)), 7)
    outer = source.union(
        "any", 28, [Member("m", small, 0, 0), Member("l", large, 0, 0), Member("a", inner, 0, 0)]
    )
    proto = source.func_proto(source.ptr(outer), [])
    function = source.func("make", proto)
    tag = source.decl_tag("of interest", bits)
    original = source.build()
    target = Builder()
    copier = Copier(target, original)
    ids = {one: copier.copy(one) for one in (outer, bits, function, tag)}
    result = target.build()
    assert result.size(ids[outer]) == 28
    assert [m.name for m in result.members(result.type(ids[outer]))] == ["m", "l", "a"]
    enums = [result.resolve(m.type_id) for m in result.members(result.type(ids[outer]))[:2]]
    assert [result.enumerators(one) for one in enums] == [
        [("OFF", 0), ("ON", 1)],
        [("FAR", 1 << 40)],
    ]
    assert [
        (m.name, m.bit_offset, m.bitfield_size) for m in result.members(result.type(ids[bits]))
    ] == [("low", 0, 3), ("high", 3, 29)]
    made = result.type(ids[function])
    assert (made.kind, made.name) == (Kind.FUNC, "make")
    assert result.tags(ids[bits]) == ["of interest"]


def test_a_section_is_not_copied() -> None:
    source = Builder()
    u32 = source.integer("unsigned int", 4)
    section = source.datasec(".bss", 4, [SectionVar(source.var("x", u32), 0, 4)])
    with pytest.raises(ObjectError, match=r"section \.bss cannot be copied"):
        Copier(Builder(), source.build()).copy(section)
