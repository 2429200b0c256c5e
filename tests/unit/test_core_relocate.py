"""CO-RE relocations of hand-made types: instructions, poison, numbers, and where types come from."""

import pytest

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.types import Btf, Member
from netbpf.bpf.core import CoreKind, Resolution, Target, blame, needs
from netbpf.bpf.core.patch import POISON
from netbpf.bpf.core.target import Module
from netbpf.errors import NotSupportedError, ObjectError
from tests.unit.core_types import (
    LDX_DW,
    LDX_H,
    LDX_W,
    MOV,
    MOV32,
    MOV_REG,
    ST_W,
    build,
    code,
    fields,
    imm64,
    one,
    split_bytes,
)

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
        words = "it needs struct foo.b (0:1), but the kernel's struct foo has no field of that name and type"
        assert needs(done) == words
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


def bitfield(bits: int, offset: int, size: int) -> Btf:
    def make(builder: Builder) -> None:
        builder.struct("foo", 16, [Member("a", builder.integer("number", size), offset, bits)])

    return build(make)


@pytest.mark.parametrize(
    ("bits", "offset", "size", "load"),
    [
        (3, 0, 1, (0, 1)),
        (4, 6, 1, (0, 2)),
        (4, 14, 1, (0, 4)),
        (9, 30, 2, (0, 8)),
        (5, 33, 4, (4, 4)),
    ],
)
def test_a_bitfield_is_read_by_the_smallest_load_that_holds_it(
    bits: int, offset: int, size: int, load: tuple[int, int]
) -> None:
    btf = bitfield(bits, offset, size)
    start, loaded = load
    expected = {
        CoreKind.FIELD_BYTE_OFFSET: start,
        CoreKind.FIELD_BYTE_SIZE: loaded,
        CoreKind.FIELD_LSHIFT_U64: 64 - (offset + bits - start * 8),
        CoreKind.FIELD_RSHIFT_U64: 64 - bits,
    }
    for kind, number in expected.items():
        # Compilers choose other loads, so only the right shift is known beforehand.
        held = number if kind is CoreKind.FIELD_RSHIFT_U64 else 99
        insns = code(bpf.Insn(MOV, imm=held))
        assert one(insns, btf, btf, "foo", "0:0", kind).new == number
    wrong = code(bpf.Insn(MOV, imm=99))
    with pytest.raises(ObjectError, match="holds 99"):
        one(wrong, btf, btf, "foo", "0:0", CoreKind.FIELD_RSHIFT_U64)


def test_the_sign_of_a_field() -> None:
    def make(builder: Builder) -> None:
        types = [
            builder.integer("int", 4, signed=True),
            builder.integer("unsigned", 4),
            builder.enum("signed", [("A", -1)]),
            builder.enum("unsigned_", [("B", 1)]),
            builder.ptr(0),
        ]
        builder.record("foo", [(f"f{number}", type_id) for number, type_id in enumerate(types)])

    btf = build(make)
    for number, sign in enumerate([1, 0, 1, 0, 0]):
        insns = code(bpf.Insn(MOV, imm=sign))
        assert one(insns, btf, btf, "foo", f"0:{number}", CoreKind.FIELD_SIGNED).new == sign


def test_a_char_counts_as_unsigned_for_loads() -> None:
    """As in libbpf: only plain signed integers are refused."""

    def make(size: int) -> Btf:
        return build(
            lambda b: b.record("foo", [("a", b.integer("c", size, signed=True, char=True))])
        )

    insns = code(bpf.Insn(0x71, 1, 2))
    assert not one(insns, make(1), make(2), "foo", "0:0", CoreKind.FIELD_BYTE_OFFSET).poisoned
    assert insns == code(bpf.Insn(LDX_H, 1, 2))


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
        lambda: base,
        lambda: [give("one", split_bytes(base, other)), give("two", split_bytes(base, builder))],
    )
    known = build(lambda b: fields(b, "a", "b", tag="known___mine"))
    assert one(imm64(4), known, target, "known___mine", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 0
    assert read == []
    assert one(imm64(4), LOCAL, target, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 4
    assert read == ["one", "two"]
    assert one(imm64(4), LOCAL, target, "foo", "0", CoreKind.TYPE_ID_TARGET).new == base.count
    assert read == ["one", "two"]  # each once


def test_a_module_may_use_the_kernels_name_for_another_thing() -> None:
    base = build(lambda b: b.typedef("foo", b.integer("number", 4)))
    builder = Builder(base)
    builder._string_offsets["foo"] = base.strings.index(b"foo\0")
    builder.record("foo", [("pad", 1), ("b", 1)])
    target = Target(lambda: base, lambda: [Module("one", lambda: split_bytes(base, builder))])
    assert one(imm64(4), LOCAL, target, "foo", "0:1", CoreKind.FIELD_BYTE_OFFSET).new == 4


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
    # The same size at two places is two fields still.
    with pytest.raises(ObjectError, match=r"FIELD_BYTE_SIZE of struct foo.b \(0:1\) is ambiguous"):
        one(imm64(4), LOCAL, build(make), "foo", "0:1", CoreKind.FIELD_BYTE_SIZE)
