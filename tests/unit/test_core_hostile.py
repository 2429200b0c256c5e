"""CO-RE relocations of types that no compiler makes: contradictions, loops, and work without end."""

import time
from collections.abc import Callable

import pytest

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.ext import CoreRelo
from netbpf.bpf.btf.types import Member, Param
from netbpf.bpf.core import CoreKind, Target, relocate
from netbpf.errors import ObjectError
from tests.unit.core_types import LDX_W, build, code, fields, imm64, one

LOCAL = build(lambda b: fields(b, "a", "b"))
TARGET = build(lambda b: fields(b, "x", "y", "b", "a"))


# ------------------------------------------------------------------------------ hostile types


def test_relocations_that_contradict_their_types() -> None:
    cases = [
        ("0:2", CoreKind.FIELD_EXISTS, "has no member 2"),
        ("0:1:0", CoreKind.FIELD_EXISTS, "number has no members"),
        ("x", CoreKind.FIELD_EXISTS, "makes no sense"),
        ("1", CoreKind.TYPE_EXISTS, "whole type has the access string 1"),
        ("0", CoreKind.ENUMVAL_VALUE, "struct foo has no enumerator 0"),
        ("0", 13, "kind 13 are not known"),
    ]
    for access, kind, why in cases:
        relo = CoreRelo(0, LOCAL.find("foo")[0].id, access, kind)
        with pytest.raises(ObjectError, match=why):
            relocate(imm64(1), [(0, relo)], LOCAL, Target(lambda: TARGET))
    relo = CoreRelo(0, 99, "0", CoreKind.TYPE_EXISTS)
    with pytest.raises(ObjectError, match="no type 99"):
        relocate(imm64(1), [(0, relo)], LOCAL, Target(lambda: TARGET))


def test_types_without_a_name_cannot_be_looked_up() -> None:
    local = build(lambda b: b.ptr(b.integer("number", 4)))
    relo = CoreRelo(0, 2, "0", CoreKind.TYPE_EXISTS)
    with pytest.raises(ObjectError, match="only types with a name"):
        relocate(imm64(1), [(0, relo)], local, Target(lambda: local))


def self_containing(builder: Builder) -> None:
    builder.struct("foo", 4, [Member("a", 1, 0, 0)] * 1000)


def anonymously_self_containing(builder: Builder) -> None:
    builder.struct("foo", 4, [Member("", 1, 0, 0)] * 1000)


def entangled_functions(builder: Builder) -> None:
    """Functions with 50 parameters that are functions with 50 parameters, and so on, 20 deep."""
    inner = builder.integer("number", 4)
    for _ in range(20):
        inner = builder.func_proto(0, [Param("p", inner)] * 50)
    builder.typedef("foo", inner)


def entangled_structs(builder: Builder) -> None:
    """Structs whose thousand members of one name are structs, and so on; all but the innermost fit."""
    inner = builder.struct("s0", 4, [Member("gone" if builder.next_id % 2 else "x", 0, 0, 0)])
    for number in range(1, 25):
        inner = builder.struct(f"s{number}", 4, [Member("a", inner, 0, 0)] * 1000)
    builder.typedef("foo", inner)


def entangled_anonymous(builder: Builder) -> None:
    """Anonymous structs twice in anonymous structs, 50 deep, and no member of that name at the end."""
    inner = builder.struct("", 4, [])
    for _ in range(50):
        inner = builder.struct("", 4, [Member("", inner, 0, 0)] * 2)
    builder.struct("foo", 4, [Member("", inner, 0, 0), Member("a", inner, 0, 0)])


def many_of_one_name(builder: Builder) -> None:
    """A thousand members of one name, all of types of their own; none matches because of its last member."""
    gone = Member(f"gone{time.monotonic_ns()}", 0, 0, 0)
    inner = [builder.struct("s", 4, [gone]) for _ in range(2000)]
    builder.struct("foo", 4, [Member("a", one, 0, 0) for one in inner])


def deep_pointers(builder: Builder) -> None:
    inner = builder.integer("number", 4)
    for _ in range(100):
        inner = builder.ptr(inner)
    builder.typedef("foo", inner)


def deep_modifiers(builder: Builder) -> None:
    inner = builder.integer("number", 4)
    for _ in range(100):
        inner = builder.const(inner)
    builder.typedef("foo", inner)


def typedef_loop(builder: Builder) -> None:
    builder.typedef("foo", 2)
    builder.const(1)


def large_arrays(builder: Builder) -> None:
    inner = builder.integer("number", 4)
    for _ in range(40):
        inner = builder.array(inner, 0xFFFFFFFF)
    builder.struct("foo", 4, [Member("a", inner, 0, 0)])


HOSTILE = (
    self_containing, anonymously_self_containing, entangled_functions, entangled_structs, entangled_anonymous,
    many_of_one_name, deep_pointers, deep_modifiers, typedef_loop, large_arrays,
)  # fmt: skip


@pytest.mark.parametrize("make", HOSTILE)
def test_hostile_types_end_soon(make: Callable[[Builder], None]) -> None:
    """On both sides at once, for every kind and the ways that look promising."""
    local, target = build(make), build(make)
    start = time.process_time()
    for kind in CoreKind:
        for access in ("0", "0:0", "0:0:0:0", "4294967295:0"):
            for insns in (imm64(1), code(bpf.Insn(LDX_W))):
                try:
                    one(insns, local, target, "foo", access, kind)
                except ObjectError:
                    continue
    assert time.process_time() - start < 5
