"""Laying a member's code into the dispatcher itself: its exits become jumps, its registers make room.

That saves the call and the return (about 1.2 ns a member on a machine without return thunks, 7 ns on one with them;
measured by BPF_PROG_TEST_RUN). It is done only where nothing else can change: no functions, no tail calls, at most
two callee-saved registers.
"""

import struct
from collections.abc import Iterator

from netbpf.bpf import insn as bpf

CONTEXT, COUNTERS = 9, 8  # the dispatcher's registers; inlined members keep to r6 and r7
LONGEST = 4096  # instructions of a member that is laid in: jumps reach 32767
_SAVED = range(6, 10)
_FREE = (6, 7)
_TAIL_CALL = 12  # BPF_FUNC_tail_call
_FRAME = 10
_CLASS, _MODE = 0x07, 0xE0
_LD, _ABS, _IND = 0x00, 0x20, 0x40
_JA = 0x05
_LOAD, _STORE_IMM, _STORE = 0x01, 0x02, 0x03
_ADD64_IMM, _MOV64_REG = 0x07, 0xBF
_RAW = struct.Struct("<BBhi")  # opcode, registers, offset, immediate


def instructions(code: bytes | bytearray) -> Iterator[tuple[int, bpf.Insn]]:
    """Every instruction with its index; 64-bit loads once."""
    index, count = 0, len(code) // bpf.SIZE
    while index < count:
        one = bpf.read(code, index)
        yield index, one
        index += 2 if one.code == bpf.LD_IMM64 else 1


def inlined(code: bytes | bytearray) -> bytearray | None:
    """The same code with its exits as jumps to its end and its registers renamed, or None where that cannot be.

    ``code`` is a whole program of one function.
    """
    count = len(code) // bpf.SIZE
    if count > LONGEST or has_tail_calls(code):
        return None
    renamed = _renaming(code)
    if renamed is None:
        return None
    out = bytearray(code)
    for index, one in instructions(code):
        if one.code == bpf.EXIT:
            # The last one would jump to where it goes anyway; the kernel removes such a jump.
            bpf.write(out, index, bpf.Insn(_JA, off=count - index - 1))
        elif one.code == bpf.LD_IMM64:
            bpf.write(out, index, one._replace(dst=renamed[one.dst]))
        elif one.code != bpf.CALL:
            bpf.write(out, index, one._replace(dst=renamed[one.dst], src=renamed[one.src]))
    return out


def _renaming(code: bytes | bytearray) -> list[int] | None:
    """Where each register goes; None for code that cannot be inlined."""
    used: set[int] = set()
    for _, one in instructions(code):
        if one.code == bpf.CALL:
            if one.src == bpf.PSEUDO_CALL:
                return None
            continue
        if one.code & _CLASS == _LD and one.code & _MODE in (_ABS, _IND):
            return None  # they take the packet from r6, whatever stands in the instruction, and may leave the program
        if one.code == bpf.LD_IMM64:
            if one.src == bpf.PSEUDO_FUNC:
                return None
            used.add(one.dst)
        else:
            used |= {one.dst, one.src}
    saved = sorted(used & set(_SAVED))
    if len(saved) > len(_FREE) or max(used, default=0) > _FRAME:
        return None
    renamed = list(range(16))
    for old, new in zip(saved, _FREE, strict=False):
        renamed[old] = new
    return renamed


def frame(code: bytes | bytearray) -> int:
    """Bytes of stack that code seems to use: what it says against r10. The verifier knows better."""
    lowest, base = 0, {_FRAME}
    for opcode, registers, off, imm in _RAW.iter_unpack(code):
        kind = opcode & _CLASS
        if kind in (_LOAD, _STORE_IMM, _STORE):
            if (registers >> 4 if kind == _LOAD else registers & 0xF) == _FRAME:
                lowest = min(lowest, off)
        elif opcode == _MOV64_REG:
            if registers >> 4 == _FRAME:
                base.add(registers & 0xF)
            elif registers & 0xF != _FRAME:
                base.discard(registers & 0xF)
        elif opcode == _ADD64_IMM and registers & 0xF in base:
            lowest = min(lowest, imm)
            base.discard(registers & 0xF)
    return -lowest


def has_tail_calls(code: bytes | bytearray) -> bool:
    """Whether it calls bpf_tail_call()."""
    # Second halves of 64-bit loads have opcode 0.
    calls = (index for index, opcode in enumerate(code[:: bpf.SIZE]) if opcode == bpf.CALL)
    return any((one := bpf.read(code, index)).src == 0 and one.imm == _TAIL_CALL for index in calls)
