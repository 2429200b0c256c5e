"""Which registers hold something that is still needed: found from the instructions alone, as compilers do.

What is said of a register errs to the safe side: one that may be read later counts as needed.
"""

from collections.abc import Callable, Sequence
from typing import Final

from netbpf.bpf import insn as bpf

_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)
_CLASS, _MODE, _OPERATION, _REGISTER = 0x07, 0xE0, 0xF0, 0x08
_IND, _ATOMIC = 0x40, 0xC0
_MOV, _NEG, _END, _JA, _CALL, _EXIT, _JCOND = 0xB0, 0x80, 0xD0, 0x00, 0x80, 0x90, 0xE0
_FETCH, _CMPXCHG, _LOAD_ACQ, _STORE_REL = 0x01, 0xF1, 0x100, 0x110
_ARGUMENTS: Final = 0b111110  # r1 to r5
_CLOBBERED: Final = 0b111111  # r0 to r5
_CONTEXT_OF_LOADS: Final = 1 << 6  # LD_ABS and LD_IND take the context from r6
_CONTEXT: Final = 1 << 1  # what the program itself is given
_FRAME: Final = 1 << 10
ALL: Final = (1 << 10) - 1  # r0 to r9


def needed(code: Sequence[Sequence[bpf.Insn]], leaving: Sequence[Sequence[int]]) -> list[int]:
    """By block, the registers that may be read before they are written; as bits."""
    read, lost = [0] * len(code), [0] * len(code)
    for number, block in enumerate(code):
        for one in block:
            uses, defines, clobbers = effects(one)
            read[number] |= uses & ~lost[number]
            lost[number] |= defines | clobbers
    found = list(read)

    def again(number: int) -> int:
        after = 0
        for one in leaving[number]:
            after |= found[one]
        return read[number] | (after & ~lost[number])

    _settle(found, again, range(len(code) - 1, -1, -1))
    return found


def written(
    code: Sequence[Sequence[bpf.Insn]], sources: Sequence[Sequence[int]], *, certainly: bool
) -> list[int]:
    """By block, the registers written on some way (``certainly``: every way) to its beginning; as bits.

    ``sources`` are the blocks from where control comes, -1: from outside the function. The first block is the
    program's own beginning.
    """
    defined, lost = [0] * len(code), [0] * len(code)
    for number, block in enumerate(code):
        for one in block:
            _, defines, clobbers = effects(one)
            defined[number] = defined[number] & ~clobbers | defines
            lost[number] |= clobbers
    everything = ALL | _FRAME
    before = [everything if certainly else 0] * len(code)

    def outside(number: int) -> int:
        # The context for the program itself; for functions and callbacks, who knows which arguments.
        if number == 0:
            return _CONTEXT | _FRAME
        return _FRAME if certainly else _ARGUMENTS | _FRAME

    def again(number: int) -> int:
        found = everything if certainly else 0
        for one in sources[number]:
            way = outside(number) if one < 0 else before[one] & ~lost[one] | defined[one]
            found = found & way if certainly else found | way
        return found

    _settle(before, again, range(len(code)))
    return before


def _settle(values: list[int], again: Callable[[int], int], order: range) -> None:
    """Compute every value anew from the others until none changes."""
    changed = True
    while changed:
        changed = False
        for number in order:
            new = again(number)
            if new != values[number]:
                values[number] = new
                changed = True


def effects(one: bpf.Insn) -> tuple[int, int, int]:
    """The registers an instruction reads, writes, and leaves without a value; as bits."""
    kind, dst, src = one.code & _CLASS, 1 << one.dst, 1 << one.src
    by_register = bool(one.code & _REGISTER)
    if kind in (_ALU, _ALU64):
        operation = one.code & _OPERATION
        if operation in (_NEG, _END):
            return dst, dst, 0
        uses = src if by_register else 0
        return (uses if operation == _MOV else uses | dst), dst, 0
    if kind in (_JMP, _JMP32):
        operation = one.code & _OPERATION
        if operation == _CALL:
            return _ARGUMENTS, 1, _CLOBBERED
        if operation == _EXIT:
            return 1, 0, 0
        if operation in (_JA, _JCOND):
            return 0, 0, 0
        return (dst | src if by_register else dst), 0, 0
    if kind == _LDX:
        return src, dst, 0
    if kind == _ST:
        return dst, 0, 0
    if kind == _STX:
        return _store(one, dst, src)
    if one.code == bpf.LD_IMM64:
        return 0, dst, 0
    return _CONTEXT_OF_LOADS | (src if one.code & _MODE == _IND else 0), 1, _CLOBBERED


def _store(one: bpf.Insn, dst: int, src: int) -> tuple[int, int, int]:
    if one.code & _MODE != _ATOMIC or one.imm == _STORE_REL:
        return dst | src, 0, 0
    if one.imm == _LOAD_ACQ:
        return src, dst, 0
    if one.imm == _CMPXCHG:
        return dst | src | 1, 1, 0
    return dst | src, (src if one.imm & _FETCH else 0), 0
