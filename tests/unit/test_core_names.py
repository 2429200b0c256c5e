"""Finding types by name in the BTF reader, as CO-RE needs it: flavors, modules, strings that share their ends."""

import struct

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.types import MAGIC, Btf, Kind
from netbpf.bpf.core.relocation import access_path, essential_name
from netbpf.errors import ObjectError
from tests.unit.core_types import split_bytes


def test_find_gives_every_type_of_a_name_and_no_other() -> None:
    builder = Builder()
    number = builder.integer("number", 4)
    structs = [builder.struct(name, 4, []) for name in ("foo", "foobar", "a_foo", "foo", "fo")]
    builder.typedef("foo", number)
    btf = builder.build()
    assert [one.id for one in btf.find("foo", Kind.STRUCT)] == [structs[0], structs[3]]
    assert [one.kind for one in btf.find("foo")] == [Kind.STRUCT, Kind.STRUCT, Kind.TYPEDEF]
    assert btf.find("oo") == btf.find("") == btf.find("foo\udcff") == []


def test_find_knows_strings_that_are_the_end_of_others() -> None:
    builder = Builder()
    whole = builder.string("long_name")
    builder._string_offsets["name"] = whole + 5
    type_id = builder.struct("name", 4, [])
    assert [one.id for one in builder.build().find("name")] == [type_id]


def test_find_is_not_misled_by_numbers_that_lie_across_two_names() -> None:
    builder = Builder()
    builder.string("x")  # at offset 1
    builder.string("f" * (256 - len(builder._strings) - 1))
    assert builder.string("at_256") == 256
    number = builder.integer("at_256", 4)
    builder.ptr(number)  # offset 0: together with 256 the bytes of a 1, one byte too early
    wanted = builder.typedef("x", number)
    assert [one.id for one in builder.build().find("x")] == [wanted]


@pytest.mark.parametrize("others", [0, 30], ids=["few strings", "many strings"])
def test_flavors_are_found_with_the_name(others: int) -> None:
    builder = Builder()
    for number in range(others):  # more than are worth being looked for one by one
        builder.struct(f"x{number}_foo", 4, [])
    wanted = [builder.struct(name, 4, []) for name in ("foo", "foo___1", "foo___a___b")]
    builder.struct("foo_", 4, [])
    builder.struct("foo__x", 4, [])
    btf = builder.build()
    assert btf.named(btf.name_offsets("foo", flavors=True)) == wanted


def test_a_module_names_types_with_its_own_strings_and_the_kernels() -> None:
    base_builder = Builder()
    base_builder.struct("known", 4, [])
    base = base_builder.build()
    builder = Builder(base)
    mine = builder.struct("own", 4, [])
    builder._string_offsets["known"] = base.strings.index(b"known")
    shared = builder.struct("known", 8, [])
    module = Btf(split_bytes(base, builder), base)
    assert [one.id for one in module.find("own")] == [mine]
    assert [(one.id, one.size_or_type) for one in module.find("known")] == [(shared, 8)]
    assert [one.size_or_type for one in base.find("known")] == [4]


@pytest.mark.parametrize(
    ("name", "essential"),
    [
        ("sock", "sock"), ("sock___x", "sock"), ("a___b___c", "a___b"), ("sock___", "sock___"),
        ("___x", "___x"), ("sock__x", "sock__x"), ("a____b", "a____b"), ("a___b____c", "a"), ("", ""),
    ],
)  # fmt: skip
def test_essential_names(name: str, essential: str) -> None:
    assert essential_name(name) == essential


def test_access_strings() -> None:
    assert access_path("0") == (0,)
    assert access_path("0:12:3") == (0, 12, 3)
    for bad in (
        "",
        ":",
        "0:",
        ":0",
        "0::1",
        "-1",
        "0:-1",
        "a",
        "0 1",
        "0:٣",
        "1" * 11,
        "0" + ":0" * 64,
    ):
        with pytest.raises(ObjectError, match="access string"):
            access_path(bad)


BROKEN = {
    "unknown kind": (struct.pack("<III", 0, 20 << 24, 0), "type 1 is of the unknown kind 20"),
    "void": (struct.pack("<III", 0, 0, 0), "type 1 is of the unknown kind 0"),
    "cut off head": (struct.pack("<II", 0, 2 << 24), "cut off"),
    "one word": (struct.pack("<I", 0), "cut off"),
    "cut off tail": (struct.pack("<III", 0, 1 << 24, 4), "cut off"),
    "cut off members": (struct.pack("<III", 0, 4 << 24 | 1, 4) + bytes(8), "cut off"),
    "odd length": (struct.pack("<III", 0, 2 << 24, 0) + b"x", "cut off"),
}


@pytest.mark.parametrize(("types", "why"), BROKEN.values(), ids=BROKEN)
def test_broken_types_are_an_object_error(types: bytes, why: str) -> None:
    header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), 1)
    with pytest.raises(ObjectError, match=why):
        Btf(header + types + b"\0")
