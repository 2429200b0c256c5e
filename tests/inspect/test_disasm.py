"""The disassembler against the kernel's own words, which the verifier's log has."""

import random
import re

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.disasm import branch_target, disassemble, falls_through
from netbpf.bpf.insn import Insn
from netbpf.constants import ProgType

SEEN = re.compile(r"^(\d+): (\([0-9a-f]{2}\) .*?)(?:\s+; .*)?$", re.MULTILINE)
EXIT = Insn(0x95)
ZERO = [Insn(0xB7, register) for register in range(10)]
STACK = [Insn(0x7A, 10, 0, -8), Insn(0x7A, 10, 0, -16)]


def kernel_text(insns: list[Insn]) -> dict[int, str]:
    """What the verifier prints of the instructions it comes to."""
    code = b"".join(one.pack() for one in insns)
    request = sys_bpf.ProgLoad(ProgType.SOCKET_FILTER, code, "GPL")
    fd, _, log = sys_bpf.prog_load(request, log_size=1 << 20, log_level=2)
    assert fd, log.decode()
    fd.close()
    return {int(index): text for index, text in SEEN.findall(log.decode())}


def same_as_kernel(insns: list[Insn]) -> int:
    """Compare what the kernel came to; how much that was."""
    ours = {one.index: one.text for one in disassemble(b"".join(one.pack() for one in insns))}
    seen = kernel_text(insns)
    assert {index: ours[index] for index in seen} == seen
    return len(seen)


def test_arithmetic() -> None:
    insns = list(ZERO)
    for operation in range(0x00, 0xD0, 0x10):
        for kind in (4, 7):
            shift = operation in (0x60, 0x70, 0xC0)
            number = 3 if shift else 1 if operation in (0x30, 0x90) else -7
            if operation == 0x80:
                insns.append(Insn(operation | kind, 1))
            else:
                insns.append(Insn(operation | kind, 1, 0, 0, number))
                insns.append(Insn(operation | kind | 8, 1, 2))
    assert same_as_kernel([*insns, EXIT]) > 55


def test_arithmetic_of_cpu_v4() -> None:
    divisions = [
        Insn(code | form | kind, 1, 2 if form else 0, 1, 0 if form else 5)
        for code in (0x30, 0x90) for form in (0, 8) for kind in (4, 7)
    ]  # fmt: skip
    moves = [
        Insn(0xB0 | 8 | kind, 1, 2, bits)
        for kind, widths in ((4, (8, 16)), (7, (8, 16, 32))) for bits in widths
    ]  # fmt: skip
    swaps = [Insn(code, 1, 0, 0, bits) for code in (0xD4, 0xDC, 0xD7) for bits in (16, 32, 64)]
    assert same_as_kernel([*ZERO, *divisions, *moves, *swaps, EXIT]) > 30


def test_memory_of_every_width() -> None:
    insns = []
    for size in (0x00, 0x08, 0x10, 0x18):
        insns += [
            Insn(0x62 | size, 10, 0, -8, -5), Insn(0x63 | size, 10, 1, -8), Insn(0x61 | size, 2, 10, -8)
        ]  # fmt: skip
        if size != 0x18:
            insns.append(Insn(0x81 | size, 3, 10, -8))
    assert same_as_kernel([*ZERO, *STACK, *insns, EXIT]) > 25


def test_atomics_of_every_kind() -> None:
    insns = []
    for size in (0xC3, 0xDB):
        operations = (0x00, 0x40, 0x50, 0xA0, 0x01, 0x41, 0x51, 0xA1, 0xE1, 0xF1)
        insns += [Insn(size, 10, 1, -8, operation) for operation in operations]
    for size in (0xC3, 0xCB, 0xD3, 0xDB):
        insns += [Insn(size, 1, 10, -8, 0x100), Insn(size, 10, 1, -8, 0x110)]
    assert same_as_kernel([*ZERO, *STACK, *insns, *ZERO, EXIT]) > 50


def test_jumps_of_every_kind() -> None:
    insns = []
    for operation in (0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xA0, 0xB0, 0xC0, 0xD0):
        for kind in (5, 6):
            insns += [Insn(operation | kind, 1, 0, 0, 9), Insn(operation | kind | 8, 1, 2, 0)]
    insns += [Insn(0x05, off=0), Insn(0x06, imm=0), Insn(0xE5, off=0)]
    assert same_as_kernel([*ZERO, *insns, EXIT]) > 50


def test_calls_and_constants() -> None:
    call = [Insn(0x85, 0, 0, 0, 5), Insn(0x85, 0, 1, 0, 2)]
    large = [Insn(0x18, 3, 0, 0, -1), Insn(0, imm=0x12345678)]
    packet = [Insn(0xBF, 6, 1), Insn(0x30, imm=9), Insn(0x50, 0, 7, imm=2)]
    insns = [
        *packet[:1],
        Insn(0xB7, 7),
        *packet[1:],
        *large,
        *call,
        *ZERO[:1],
        EXIT,
        *ZERO[:1],
        EXIT,
    ]
    seen = same_as_kernel(insns)
    assert seen > 8


def test_address_spaces_and_what_is_no_instruction() -> None:
    def text(one: Insn) -> str:
        return next(disassemble(one.pack())).text

    assert text(Insn(0xBF, 1, 2, 1, 1 << 16)) == "(bf) r1 = addr_space_cast(r2, 1, 0)"
    assert text(Insn(0xBF, 1, 2, -1)) == "(bf) r1 = &(void __percpu *)(r2)"
    assert text(Insn(0xDB, 1, 2, 0, 0x77)).startswith("(db) unknown instruction db 21")
    assert text(Insn(0xE7, 1)).startswith("(e7) unknown")


def test_any_bytes_have_a_text() -> None:
    seeded = random.Random(6)
    for _ in range(300):
        code = seeded.randbytes(8 * 40 + 3)
        shown = list(disassemble(code))
        assert b"".join(one.raw for one in shown) == code[:320]
        assert all(one.text.startswith(f"({one.raw[0]:02x}) ") for one in shown)


def test_where_a_jump_goes() -> None:
    assert branch_target(4, Insn(0x15, off=-3)) == 2
    assert branch_target(4, Insn(0x06, imm=70000)) == 70005
    assert branch_target(4, Insn(0x85, imm=1)) is None
    assert [falls_through(Insn(code)) for code in (0x05, 0x06, 0x95, 0x15, 0xE5, 0xB7)] == [
        False, False, False, True, True, True,
    ]  # fmt: skip
