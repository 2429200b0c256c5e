"""CO-RE relocations of hand-made types: what no compiler at hand writes, and what the running kernel does not have."""

import struct
import time
from collections.abc import Callable

import pytest

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.ext import CoreRelo
from netbpf.bpf.btf.types import MAGIC, Btf, Member, Param
from netbpf.bpf.core import CoreKind, Resolution, Target, blame, needs, relocate
from netbpf.bpf.core.patch import POISON
from netbpf.bpf.core.target import Module
from netbpf.errors import NotSupportedError, ObjectError

LDX_W, LDX_DW, LDX_H, ST_W, STX_DW, MOV, MOV32, MOV_REG = (
    0x61,
    0x79,
    0x69,
    0x62,
    0x7B,
    0xB7,
    0xB4,
    0xBF,
)


def code(*insns: bpf.Insn) -> bytearray:
    return bytearray(b"".join(one.pack() for one in insns))


def imm64(value: int) -> bytearray:
    low, high = struct.unpack("<ii", struct.pack("<Q", value & (1 << 64) - 1))
    return code(bpf.Insn(bpf.LD_IMM64, dst=1, imm=low), bpf.Insn(0, imm=high))


def build(make: Callable[[Builder], object]) -> Btf:
    builder = Builder()
    make(builder)
    return builder.build()


def one(
    insns: bytearray, local: Btf, target: Btf | Target, type_name: str, access: str, kind: CoreKind
) -> Resolution:
    """Relocate the first instruction for one type; what became of it."""
    where = target if isinstance(target, Target) else Target(lambda: target)
    relo = CoreRelo(0, local.find(type_name)[0].id, access, kind)
    (resolution,) = relocate(insns, [(0, relo)], local, where)
    return resolution


def fields(
    builder: Builder, *names: str, size: int = 4, signed: bool = False, tag: str = "foo"
) -> int:
    number = builder.integer("number", size, signed=signed)
    return builder.record(tag, [(name, number) for name in names])


LOCAL = build(lambda b: fields(b, "a", "b"))
TARGET = build(lambda b: fields(b, "x", "y", "b", "a"))


# ------------------------------------------------------------------------------- instructions


@pytest.mark.parametrize("opcode", [LDX_W, ST_W, 0x63])
def test_loads_and_stores_hold_an_offset(opcode: int) -> None:
    insns = code(bpf.Insn(opcode, 1, 2, off=4, imm=99))
    done = one(insns, LOCAL, TARGET, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET)
    assert insns == code(bpf.Insn(opcode, 1, 2, off=8, imm=99))
    assert done == Resolution(
        0, CoreKind.FIELD_BYTE_OFFSET, "struct foo.b (0:1)", "struct foo.b (0:2)", 4, 8
    )


@pytest.mark.parametrize("opcode", [MOV, MOV32, 0x07])
def test_arithmetic_holds_an_immediate(opcode: int) -> None:
    insns = code(bpf.Insn(opcode, 1, off=5, imm=4))
    assert one(insns, LOCAL, TARGET, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 8
    assert insns == code(bpf.Insn(opcode, 1, off=5, imm=8))


def test_a_64_bit_load_holds_two_halves() -> None:
    insns = imm64(4)
    one(insns, LOCAL, TARGET, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET)
    assert insns == imm64(8)


WRONG = {
    "another number": (code(bpf.Insn(MOV, imm=3)), "holds 3, its types say 4"),
    "another offset": (code(bpf.Insn(LDX_W, off=-4)), "holds -4, its types say 4"),
    "another half": (imm64(4 | 1 << 40), "its types say 4"),
    "a register": (code(bpf.Insn(MOV_REG, 1, 2, imm=4)), "holds no number"),
    "a jump": (code(bpf.Insn(0x05, off=4)), "code 0x05 cannot be relocated"),
    "a call": (code(bpf.Insn(bpf.CALL, imm=4)), "code 0x85 cannot be relocated"),
    "an absolute load": (code(bpf.Insn(0x20, imm=4)), "code 0x20 cannot be relocated"),
    "half a load": (imm64(4)[:8], "cut off"),
    "a map": (imm64(4)[:1] + b"\x11" + imm64(4)[2:], "unexpected form"),
    "a false second half": (imm64(4)[:8] + code(bpf.Insn(MOV)), "unexpected form"),
    "not there": (bytearray(), "instruction 0, which does not exist"),
}


@pytest.mark.parametrize(("insns", "why"), WRONG.values(), ids=WRONG)
def test_an_instruction_that_cannot_be_meant(insns: bytearray, why: str) -> None:
    before = bytes(insns)
    with pytest.raises(ObjectError, match=why):
        one(insns, LOCAL, TARGET, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET)
    assert insns == before


def test_an_offset_that_no_load_can_hold() -> None:
    target = build(
        lambda b: b.struct("foo", 1 << 20, [Member("b", b.integer("number", 4), 8 << 15, 0)])
    )
    with pytest.raises(ObjectError, match=r"struct foo.b .*offset 32768 does not fit the 16 bits"):
        one(code(bpf.Insn(LDX_W, off=4)), LOCAL, target, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET)
    insns = code(bpf.Insn(MOV, imm=4))
    assert one(insns, LOCAL, target, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 32768


def test_a_size_that_no_immediate_can_hold() -> None:
    target = build(
        lambda b: b.struct("foo", 4, [Member("b", b.array(b.integer("n", 4), 1 << 31), 0, 0)])
    )
    local = build(lambda b: b.record("foo", [("b", b.array(b.integer("n", 4), 1))]))
    with pytest.raises(ObjectError, match="does not fit the 32 bits"):
        one(code(bpf.Insn(MOV, imm=4)), local, target, "foo", "0:0", CoreKind.FIELD_BYTE_SIZE)
    insns = imm64(4)
    assert one(insns, local, target, "foo", "0:0", CoreKind.FIELD_BYTE_SIZE).new == 1 << 33


# ------------------------------------------------------------------------------------- poison


def test_what_is_missing_is_poisoned_and_explained() -> None:
    empty = build(lambda b: fields(b, "x"))
    for insns in (code(bpf.Insn(LDX_W, off=4)), imm64(4)):
        done = one(insns, LOCAL, empty, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET)
        assert done.poisoned
        assert insns == code(bpf.Insn(bpf.CALL, imm=POISON)) * (len(insns) // 8)
        assert needs(done) == "it needs struct foo.b (0:1): the kernel has no struct foo.b (0:1)"
    done = one(
        imm64(4), LOCAL, build(lambda b: b.fwd("foo")), "foo", "0:1", CoreKind.FIELD_BYTE_SIZE
    )
    assert done.why == "the kernel has no struct foo"


@pytest.mark.parametrize(
    ("kind", "type_name", "access"),
    [
        (CoreKind.FIELD_EXISTS, "foo", "0:1"),
        (CoreKind.TYPE_EXISTS, "foo", "0"),
        (CoreKind.TYPE_MATCHES, "foo", "0"),
        (CoreKind.ENUMVAL_EXISTS, "bar", "0"),
    ],
)
def test_whether_something_exists_is_always_answered(
    kind: CoreKind, type_name: str, access: str
) -> None:
    def make(builder: Builder) -> None:
        fields(builder, "a", "b")
        builder.enum("bar", [("ONE", 1)])

    local = build(make)
    insns = code(bpf.Insn(MOV, imm=1))
    assert one(insns, local, local, type_name, access, kind).new == 1
    nothing = build(lambda b: b.integer("number", 4))
    done = one(insns, local, nothing, type_name, access, kind)
    assert (done.new, done.found, done.poisoned) == (0, None, False)
    assert insns == code(bpf.Insn(MOV, imm=0))


def test_the_log_of_the_verifier_leads_to_the_relocation() -> None:
    gone = Resolution(7, CoreKind.FIELD_BYTE_OFFSET, "struct foo.b (0:1)", None, None, None, "gone")
    other = Resolution(
        3, CoreKind.FIELD_BYTE_OFFSET, "struct foo.a (0:0)", None, None, None, "gone"
    )
    found = Resolution(9, CoreKind.FIELD_BYTE_OFFSET, "struct foo.c (0:2)", "x", 1, 1)
    log = "6: (bf) r1 = r2\n7: (85) call unknown#195896080\ninvalid func unknown#195896080\n"
    assert blame(log, [other, gone, found]) is gone
    assert blame(log.replace("7:", "9:"), [other, gone, found]) is None
    assert blame(log.replace("195896080", "12345"), [other, gone]) is None
    assert blame("", [other, gone]) is None


# -------------------------------------------------------------------------------- field sizes


@pytest.mark.parametrize(
    ("old", "new", "opcode"), [(4, 8, LDX_DW), (4, 2, LDX_H), (4, 1, 0x71), (4, 4, LDX_W)]
)
def test_a_load_takes_the_size_of_the_kernels_unsigned_field(
    old: int, new: int, opcode: int
) -> None:
    local = build(lambda b: fields(b, "a", size=old))
    target = build(lambda b: fields(b, "a", size=new))
    insns = code(bpf.Insn(LDX_W, 1, 2))
    assert not one(insns, local, target, "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET).poisoned
    assert insns == code(bpf.Insn(opcode, 1, 2))


@pytest.mark.parametrize(("mine", "theirs"), [(True, False), (False, True), (True, True)])
def test_a_load_of_a_signed_field_of_another_size_is_poisoned(mine: bool, theirs: bool) -> None:
    local = build(lambda b: fields(b, "a", size=4, signed=mine))
    target = build(lambda b: fields(b, "a", size=8, signed=theirs))
    insns = code(bpf.Insn(LDX_W, 1, 2))
    done = one(insns, local, target, "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET)
    assert done.poisoned
    assert "another size" in done.why
    # The offset on its own is right, whatever the size.
    insns = code(bpf.Insn(MOV, imm=0))
    assert not one(insns, local, target, "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET).poisoned


def test_a_pointer_of_a_32_bit_kernel() -> None:
    local = build(lambda b: b.record("foo", [("a", b.ptr(0))]))
    target = build(lambda b: b.struct("foo", 8, [Member("a", b.ptr(0), 32, 0)]))
    target.pointer_size = 4
    insns = code(bpf.Insn(LDX_DW, 1, 2))
    assert one(insns, local, target, "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET).new == 4
    assert insns == code(bpf.Insn(LDX_W, 1, 2, off=4))


def test_sizes_that_no_load_has() -> None:
    local = build(lambda b: fields(b, "a", size=4))
    target = build(lambda b: fields(b, "a", size=16))
    with pytest.raises(ObjectError, match="no instruction accesses 16 bytes"):
        one(code(bpf.Insn(LDX_W)), local, target, "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET)
    with pytest.raises(ObjectError, match="accesses 8 bytes of 4"):
        one(code(bpf.Insn(LDX_DW)), local, target, "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET)


def test_a_bitfield_that_no_load_holds() -> None:
    def make(builder: Builder) -> None:
        number = builder.integer("number", 8)
        builder.struct("foo", 16, [Member("a", number, 33, 40)])

    with pytest.raises(ObjectError, match="no load holds the whole bitfield"):
        one(imm64(0), build(make), build(make), "foo", "0:0", CoreKind.FIELD_BYTE_SIZE)


# -------------------------------------------------------------------------------- enumerators

HIGH = 1 << 31


@pytest.mark.parametrize(
    ("held", "signed", "new", "becomes"),
    [
        # clang writes an unsigned enumerator without a sign,
        (HIGH, False, HIGH + 1, HIGH + 1),
        (HIGH, False, 5, 5),
        # and a negative one with it, though before clang 15 BTF calls it unsigned.
        (-HIGH, False, HIGH + 1, -HIGH + 1),
        (-HIGH, True, -7, -7),
        (5, False, HIGH, -HIGH),
    ],
)
def test_the_upper_half_of_a_32_bit_enumerator(
    held: int, signed: bool, new: int, becomes: int
) -> None:
    old = held if signed else held & 0xFFFFFFFF
    local = build(lambda b: b.enum("foo", [("A", old)], signed=signed))
    target = build(lambda b: b.enum("foo", [("A", new)], signed=new < 0))
    insns = imm64(held)
    one(insns, local, target, "foo", "0", CoreKind.ENUMVAL_VALUE)
    assert insns == imm64(becomes)


def test_enums_of_32_and_64_bits_are_of_a_kind() -> None:
    local = build(lambda b: b.enum("foo", [("A", 1), ("B", 2)]))
    target = build(lambda b: b.enum64("foo", [("C", 0), ("B", 1 << 40), ("A___x", -(1 << 40))]))
    for access, value in (("1", 1 << 40), ("0", -(1 << 40))):
        insns = imm64(int(access) + 1)
        one(insns, local, target, "foo", access, CoreKind.ENUMVAL_VALUE)
        assert insns == imm64(value)


# ------------------------------------------------------------------------------------ targets


def module(base: Btf, builder: Builder) -> bytes:
    """What a builder added to ``base``, as a module's split BTF would have it."""
    whole = builder.build()
    types = whole.data[whole.offset_of(base.count) : len(whole.data) - len(whole.strings)]
    strings = whole.strings[len(base.strings) :]
    header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings


def test_modules_are_asked_only_for_what_the_kernel_does_not_have() -> None:
    base = build(lambda b: fields(b, "b", tag="known"))
    builder = Builder(base)
    builder.record("foo", [("pad", 1), ("b", 1)])
    builder.record("known", [("pad", 1), ("b", 1)])
    read: list[str] = []

    def give(name: str, data: bytes) -> Module:
        def content() -> bytes:
            read.append(name)
            return data

        return Module(name, content)

    other = Builder(base)
    other.struct("unrelated", 4, [])
    target = Target(
        lambda: base, lambda: [give("one", module(base, other)), give("two", module(base, builder))]
    )
    known = build(lambda b: fields(b, "a", "b", tag="known___mine"))
    assert one(imm64(4), known, target, "known___mine", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 0
    assert read == []
    assert one(imm64(4), LOCAL, target, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 4
    assert read == ["one", "two"]
    assert one(imm64(4), LOCAL, target, "foo", "0", CoreKind.TYPE_ID_TARGET).new == base.count
    assert read == ["one", "two"]  # each once


def test_a_broken_module_that_has_nothing_to_do_with_it() -> None:
    target = Target(lambda: TARGET, lambda: [Module("broken", lambda: b"no BTF at all")])
    missing = build(lambda b: fields(b, "a", tag="missing"))
    assert one(imm64(0), missing, target, "missing", "0:0", CoreKind.FIELD_BYTE_OFFSET).poisoned


def test_local_ids_need_no_kernel() -> None:
    def none() -> Btf:
        raise NotSupportedError("no BTF")

    insns = imm64(77)
    assert one(insns, LOCAL, Target(none), "foo", "0", CoreKind.TYPE_ID_LOCAL).new == 2
    assert insns == imm64(2)
    with pytest.raises(NotSupportedError):
        one(insns, LOCAL, Target(none), "foo", "0", CoreKind.TYPE_ID_TARGET)


def test_candidates_must_agree() -> None:
    def make(builder: Builder) -> None:
        fields(builder, "a", "b")
        fields(builder, "b", tag="foo___other")

    with pytest.raises(
        ObjectError, match=r"FIELD_BYTE_OFFSET of struct foo.b \(0:1\) is ambiguous"
    ):
        one(imm64(4), LOCAL, build(make), "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET)
    assert one(imm64(1), LOCAL, build(make), "foo", "0", CoreKind.TYPE_EXISTS).new == 1


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
    self_containing, anonymously_self_containing, entangled_functions, entangled_structs, deep_pointers,
    deep_modifiers, typedef_loop, large_arrays,
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
