"""The assembler's instructions, as the kernel's words have them."""

from collections.abc import Callable

import pytest

from netbpf.bpf import assembler as asm
from netbpf.bpf import insn as bpf
from netbpf.bpf.disasm import disassemble
from netbpf.errors import NotSupportedError


def text(write: Callable[[asm.Assembler], None]) -> list[str]:
    out = asm.Assembler()
    write(out)
    return [one.text.split(") ", 1)[1] for one in disassemble(out.finish())]  # without "(opcode) "


def test_computing() -> None:
    def write(out: asm.Assembler) -> None:
        out.mov(asm.R1, asm.R2)
        out.mov32(asm.R1, asm.R2)
        out.op(asm.ADD, asm.R3, -4)
        out.op_reg(asm.SUB, asm.R3, asm.R4)
        out.op32(asm.AND, asm.R5, 0xFFFFFFFF)
        out.op32_reg(asm.MOD, asm.R5, asm.R9)
        out.big_endian(asm.R0, 16)

    assert text(write) == [
        "r1 = r2", "w1 = w2", "r3 += -4", "r3 -= r4", "w5 &= -1", "w5 %= w9", "r0 = be16 r0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "w1 = 0"),
        (0x7FFFFFFF, "w1 = 2147483647"),
        (0xFFFFFFFF, "w1 = -1"),  # 32 bits: what is above them is 0
        (1 << 32, "r1 = 0x100000000"),
        (0xFEDCBA9876543210, "r1 = 0xfedcba9876543210"),
    ],
)
def test_numbers_of_every_size(number: int, shown: str) -> None:
    assert text(lambda out: out.set(asm.R1, number)) == [shown]


def test_memory() -> None:
    def write(out: asm.Assembler) -> None:
        out.load(asm.BYTE, asm.R1, asm.R2, 3)
        out.load(asm.DOUBLE, asm.R1, asm.R2)
        out.store(asm.HALF, asm.FRAME, -8, asm.R7)
        out.store_number(asm.WORD, asm.R6, 4, 9)
        out.add_to(asm.R7, 16, asm.R1, -1)
        out.add_reg_to(asm.R7, 16, asm.R1, asm.R8)
        out.exchange32(asm.R2, asm.R4)
        out.compare_exchange(asm.R2, 8, asm.R5)

    assert text(write) == [
        "r1 = *(u8 *)(r2 +3)", "r1 = *(u64 *)(r2 +0)", "*(u16 *)(r10 -8) = r7", "*(u32 *)(r6 +4) = 9",
        "r1 = *(u64 *)(r7 +16)", "r1 += -1", "*(u64 *)(r7 +16) = r1",
        "r1 = *(u64 *)(r7 +16)", "r1 += r8", "*(u64 *)(r7 +16) = r1",
        "r4 = atomic_xchg((u32 *)(r2 +0), r4)", "r0 = atomic64_cmpxchg((u64 *)(r2 +8), r0, r5)",
    ]  # fmt: skip


def test_maps_are_named_by_descriptors() -> None:
    out = asm.Assembler()
    out.map_fd(asm.R1, 7)
    out.map_value(asm.R2, 8, 40)
    slots = [bpf.read(out.finish(), index) for index in range(4)]
    assert [(one.dst, one.src, one.imm) for one in slots] == [
        (1, bpf.PSEUDO_MAP_FD, 7), (0, 0, 0), (2, bpf.PSEUDO_MAP_VALUE, 8), (0, 0, 40),
    ]  # fmt: skip


def test_jumps_forth_and_back() -> None:
    def write(out: asm.Assembler) -> None:
        out.label("again")
        out.jump_if(asm.JEQ, asm.R1, 5, "out")
        out.jump_if(asm.JLT, asm.R1, 6, "out", wide=True)
        out.jump_if_reg(asm.JGT, asm.R1, asm.R2, "out", wide=True)
        assert out.wanted("out")
        assert not out.wanted("elsewhere")
        out.jump("again")
        out.label("out")
        out.leave(2)

    assert text(write) == [
        "if w1 == 0x5 goto pc+3", "if r1 < 0x6 goto pc+2", "if r1 > r2 goto pc+1", "goto pc-4", "w0 = 2", "exit",
    ]  # fmt: skip


def test_calls() -> None:
    out = asm.Assembler()
    out.helper(8)
    out.call("other")
    out.exit()
    assert out.calls == [(1, "other")]
    assert (out.here, bpf.read(out.code, 1).src) == (3, bpf.PSEUDO_CALL)
    assert next(disassemble(out.code)).text.endswith("call bpf_get_smp_processor_id#8")


def test_a_jump_that_is_too_far() -> None:
    out = asm.Assembler("the filter")
    out.jump("end")
    for _ in range(1 << 15):
        out.mov(asm.R1, asm.R1)
    out.label("end")
    out.exit()
    with pytest.raises(
        NotSupportedError, match="the filter is too large: a jump in it would be too far"
    ):
        out.finish()
