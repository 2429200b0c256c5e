"""Which types of the object and of the kernel CO-RE takes for the same."""

from collections.abc import Callable

import pytest

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.types import Btf, Member
from netbpf.bpf.core import CoreKind
from netbpf.errors import ObjectError
from tests.unit.core_types import MOV, build, code, one


def exists(local: Btf, target: Btf, access: str = "0:0") -> bool:
    done = one(code(bpf.Insn(MOV, imm=1)), local, target, "foo", access, CoreKind.FIELD_EXISTS)
    return bool(done.new)


def test_only_the_last_member_can_be_a_flexible_array() -> None:
    def make(*members: tuple[str, int]) -> Btf:
        def add(builder: Builder) -> None:
            number = builder.integer("number", 4)
            placed = [
                Member(name, number if count < 0 else builder.array(number, count), 32 * index, 0)
                for index, (name, count) in enumerate(members)
            ]
            builder.struct("foo", 4, placed)

        return build(add)

    last, first, fixed = make(("b", -1), ("a", 0)), make(("a", 0), ("b", -1)), make(("a", 9))
    assert exists(last, last, "0:1:8")
    assert exists(fixed, last, "0:0:8")
    assert not exists(fixed, first, "0:0:8")
    assert not exists(fixed, make(("a", 8)), "0:0:8")
    with pytest.raises(ObjectError, match="array of 0 has no element 8"):
        exists(first, last, "0:0:8")


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [
        ("bar", "bar", True), ("bar___old", "bar___new", True), ("bar", "other", False),
        ("", "other", True), ("bar", "", True),
    ],
)  # fmt: skip
def test_fields_of_enums_need_the_same_name(mine: str, theirs: str, same: bool) -> None:
    def make(name: str) -> Btf:
        return build(lambda b: b.record("foo", [("a", b.enum(name, [("A", 1)]))]))

    assert exists(make(mine), make(theirs)) is same


def matches(local: Callable[[Builder], object], target: Callable[[Builder], object]) -> bool:
    insns = code(bpf.Insn(MOV, imm=1))
    return bool(one(insns, build(local), build(target), "foo", "0", CoreKind.TYPE_MATCHES).new)


def test_matching_structs_have_as_many_members() -> None:
    def unions(*groups: str) -> Callable[[Builder], object]:
        def make(builder: Builder) -> None:
            number = builder.integer("number", 4)
            members = [
                Member(
                    "", builder.union("", 4, [Member(name, number, 0, 0) for name in group]), 0, 0
                )
                for group in groups
            ]
            builder.struct("foo", 8, members)

        return make

    assert matches(unions("a"), unions("ab"))
    assert matches(unions("a", "b"), unions("ab", "c"))
    assert not matches(unions("a", "b"), unions("ab"))
    assert not matches(unions("ab"), unions("a", "b"))


def test_a_struct_does_not_match_a_union() -> None:
    def holding(*, union: bool) -> Callable[[Builder], object]:
        def make(builder: Builder) -> None:
            inner = [Member("b", builder.integer("number", 4), 0, 0)]
            made = builder.union("in", 4, inner) if union else builder.struct("in", 4, inner)
            builder.struct("foo", 4, [Member("a", made, 0, 0)])

        return make

    assert matches(holding(union=True), holding(union=True))
    assert not matches(holding(union=False), holding(union=True))
    assert not matches(holding(union=True), holding(union=False))


def test_matching_enums_have_one_size() -> None:
    def make(size: int, names: str) -> Callable[[Builder], object]:
        return lambda b: b.enum("foo", [(name, 0) for name in names], size=size)

    assert matches(make(4, "ab"), make(4, "bca"))
    assert not matches(make(4, "ab"), make(1, "ab"))
    assert not matches(make(4, "ab"), make(4, "a"))


@pytest.mark.parametrize(
    ("mine", "theirs", "same"),
    [("fwd", "struct", True), ("struct", "fwd", True), ("fwd", "union", False), ("fwdu", "union", True),
     ("union", "fwdu", True), ("union", "fwd", False), ("fwd", "fwdu", False), ("fwd", "int", False)],
)  # fmt: skip
def test_behind_a_pointer_a_declaration_matches(mine: str, theirs: str, same: bool) -> None:
    def make(word: str) -> Callable[[Builder], object]:
        def add(builder: Builder) -> None:
            kinds: dict[str, Callable[[], int]] = {
                "fwd": lambda: builder.fwd("in"),
                "fwdu": lambda: builder.fwd("in", union=True),
                "struct": lambda: builder.struct("in", 4, []),
                "union": lambda: builder.union("in", 4, []),
                "int": lambda: builder.integer("in", 4),
            }
            builder.record("foo", [("a", builder.ptr(kinds[word]()))])

        return add

    assert matches(make(mine), make(theirs)) is same
