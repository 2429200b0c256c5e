"""The program that counts numbered packets where they arrive: a socket filter, which takes none of them.

It runs on every packet that the interface hands to the network stack, where tcpdump sees it too: behind XDP, before TC.
Nothing is queued for a reader, so nothing can be lost between counting and reading.

A packet's number says whether it came before: a window of the last ``WINDOW`` numbers has for each place how often the
numbers have gone round (``number / WINDOW + 1``) when one was seen there.
"""

from typing import Final

from netbpf.bpf.assembler import (
    ADD,
    AND,
    DOUBLE,
    FRAME,
    HALF,
    JEQ,
    JGT,
    JLE,
    JLT,
    JNE,
    LSH,
    OR,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    RSH,
    SUB,
    WORD,
    Assembler,
)  # fmt: skip
from netbpf.traffic.stamp import FURTHEST, NUMBERS, SIZE, Session

WINDOW_BITS: Final = 18
WINDOW: Final = 1 << WINDOW_BITS
# The value of the per-CPU map: counters of u64, then room for the packet's beginning and for a piece of its end.
RECEIVED, BYTES, DUPLICATES, REORDERED, DAMAGED, MERGED = range(0, 48, 8)
_AT, _HEAD, _PIECE = 48, 64, 256
VALUE_SIZE: Final = 384
_HEAD_SIZE: Final = 192  # FURTHEST + SIZE
_PIECE_SIZE: Final = 64
_PIECES: Final = 1056  # of _PIECE_SIZE, at most: 66 KiB
_LOOKUP, _LOAD_BYTES = 1, 26
_LEN, _PKT_TYPE, _GSO_SEGS = 0, 4, 164  # in struct __sk_buff
_OUTGOING: Final = 4  # PACKET_OUTGOING
_TRIES: Final = 4


def counter(counts_fd: int, window_fd: int, highest_fd: int, session: Session) -> bytes:
    """The program. ``counts`` is the per-CPU map, ``window`` u32 by place, ``highest`` the next number expected."""
    asm = Assembler()
    asm.mov(R6, R1)
    asm.load(WORD, R2, R6, _PKT_TYPE)
    asm.jump_if(JEQ, R2, _OUTGOING, "out", wide=True)
    asm.store_number(WORD, FRAME, -4, 0)
    asm.map_fd(R1, counts_fd)
    asm.mov(R2, FRAME)
    asm.op(ADD, R2, -4)
    asm.helper(_LOOKUP)
    asm.jump_if(JEQ, R0, 0, "out", wide=True)
    asm.mov(R7, R0)
    asm.load(WORD, R8, R6, _LEN)
    asm.jump_if(JLT, R8, 14 + SIZE, "out", wide=True)
    _find(asm, session)
    _check_number(asm)
    _check_rest(asm)
    _place(asm, window_fd)
    _order(asm, highest_fd)
    asm.label("out")
    asm.leave(0)
    asm.label("damaged")
    asm.add_to(R7, DAMAGED, R1)
    asm.leave(0)
    return bytes(asm.finish())


def _find(asm: Assembler, session: Session) -> None:
    """R9 = where the stamp is: any even place, so headers may have come or gone on the way."""
    asm.mov(R1, R6)
    asm.set(R2, 0)
    asm.mov(R3, R7)
    asm.op(ADD, R3, _HEAD)
    asm.mov(R4, R8)
    asm.jump_if(JLE, R4, _HEAD_SIZE, "fits", wide=True)
    asm.set(R4, _HEAD_SIZE)
    asm.label("fits")
    asm.helper(_LOAD_BYTES)
    asm.jump_if(JNE, R0, 0, "out", wide=True)
    asm.set(R9, 14)
    asm.label("look")
    asm.jump_if(JGT, R9, FURTHEST, "out", wide=True)
    asm.mov(R1, R9)
    asm.op(ADD, R1, SIZE)
    asm.jump_if_reg(JGT, R1, R8, "out", wide=True)
    asm.mov(R1, R7)
    asm.op_reg(ADD, R1, R9)
    asm.load(HALF, R2, R1, _HEAD + 6)
    asm.jump_if(JNE, R2, session.first, "not here", wide=True)
    asm.load(HALF, R2, R1, _HEAD + 14)
    asm.jump_if(JEQ, R2, session.second, "here", wide=True)
    asm.label("not here")
    asm.op(ADD, R9, 2)
    asm.jump("look")
    asm.label("here")
    # From memory the verifier knows nothing of it, and looks at what follows once, not once for each place.
    asm.store(DOUBLE, R7, _AT, R9)
    asm.load(DOUBLE, R9, R7, _AT)
    asm.jump_if(JGT, R9, FURTHEST, "out", wide=True)
    asm.mov(R1, R7)
    asm.op_reg(ADD, R1, R9)


def _check_number(asm: Assembler) -> None:
    """The number, kept on the stack at -16; its complement has to be that."""
    for target, at in ((R2, 0), (R3, 8)):
        asm.load(HALF, target, R1, _HEAD + at)
        for shift, place in ((16, 2), (32, 4)):
            asm.load(HALF, R4, R1, _HEAD + at + place)
            asm.op(LSH, R4, shift)
            asm.op_reg(OR, target, R4)
    asm.store(DOUBLE, FRAME, -16, R2)
    asm.op_reg(ADD, R2, R3)
    asm.set(R3, NUMBERS)
    asm.jump_if_reg(JNE, R2, R3, "damaged", wide=True)
    asm.load(HALF, R1, R1, _HEAD + 16)
    asm.store(DOUBLE, FRAME, -24, R1)  # the sum


def _check_rest(asm: Assembler) -> None:
    """The sum of what stands behind the stamp. R9 goes on by pieces; -32 has the sum so far, -40 pieces left."""
    asm.store_number(DOUBLE, FRAME, -32, 0)
    asm.store_number(DOUBLE, FRAME, -40, _PIECES)
    asm.op(ADD, R9, SIZE)
    asm.label("piece")
    asm.jump_if_reg(JLE, R8, R9, "summed", wide=True)
    asm.load(DOUBLE, R1, FRAME, -40)
    asm.jump_if(JEQ, R1, 0, "out", wide=True)
    asm.op(ADD, R1, -1)
    asm.store(DOUBLE, FRAME, -40, R1)
    for at in range(0, _PIECE_SIZE, 8):
        asm.store_number(DOUBLE, R7, _PIECE + at, 0)
    asm.mov(R4, R8)
    asm.op_reg(SUB, R4, R9)
    asm.jump_if(JLE, R4, _PIECE_SIZE, "last piece", wide=True)
    asm.set(R4, _PIECE_SIZE)
    asm.label("last piece")
    asm.jump_if(JEQ, R4, 0, "summed", wide=True)
    asm.mov(R1, R6)
    asm.mov(R2, R9)
    asm.mov(R3, R7)
    asm.op(ADD, R3, _PIECE)
    asm.helper(_LOAD_BYTES)
    asm.jump_if(JNE, R0, 0, "out", wide=True)
    asm.load(DOUBLE, R1, FRAME, -32)
    for at in range(0, _PIECE_SIZE, 4):
        asm.load(WORD, R2, R7, _PIECE + at)
        asm.op_reg(ADD, R1, R2)
    asm.store(DOUBLE, FRAME, -32, R1)
    asm.op(ADD, R9, _PIECE_SIZE)
    asm.jump("piece")
    asm.label("summed")
    asm.load(DOUBLE, R1, FRAME, -32)
    for shift in (32, 32, 16, 16, 16):  # fold: twice to 32 bits, then to 16
        asm.mov(R2, R1)
        asm.op(RSH, R2, shift)
        mask = (1 << shift) - 1
        asm.set(R3, mask)
        asm.op_reg(AND, R1, R3)
        asm.op_reg(ADD, R1, R2)
    asm.load(DOUBLE, R2, FRAME, -24)
    asm.jump_if_reg(JNE, R1, R2, "damaged", wide=True)


def _place(asm: Assembler, window_fd: int) -> None:
    """Whether the number was there before; R5 keeps it."""
    asm.load(DOUBLE, R5, FRAME, -16)
    asm.mov(R1, R5)
    asm.op(AND, R1, WINDOW - 1)
    asm.op(LSH, R1, 2)
    asm.map_value(R2, window_fd)
    asm.op_reg(ADD, R2, R1)
    asm.mov(R3, R5)
    asm.op(RSH, R3, WINDOW_BITS)
    asm.op(ADD, R3, 1)
    asm.mov(R4, R3)
    asm.exchange32(R2, R4)
    asm.jump_if_reg(JNE, R4, R3, "new", wide=True)
    asm.add_to(R7, DUPLICATES, R1)
    asm.leave(0)
    asm.label("new")
    asm.jump_if_reg(JLE, R4, R3, "kept", wide=True)
    asm.exchange32(R2, R4)  # older than the window: what was there goes back
    asm.label("kept")
    asm.add_to(R7, RECEIVED, R1)
    asm.add_reg_to(R7, BYTES, R1, R8)
    asm.load(WORD, R1, R6, _GSO_SEGS)
    asm.jump_if(JLE, R1, 1, "single", wide=True)
    asm.add_to(R7, MERGED, R2)
    asm.label("single")


def _order(asm: Assembler, highest_fd: int) -> None:
    """A number below one that came before is reordered (RFC 4737, 3.3)."""
    asm.op(ADD, R5, 1)
    asm.map_value(R2, highest_fd)
    for attempt in range(_TRIES):
        asm.load(DOUBLE, R0, R2)
        asm.jump_if_reg(JGT, R0, R5, "reordered", wide=True)
        asm.mov(R3, R0)
        asm.compare_exchange(R2, 0, R5)
        if attempt < _TRIES - 1:
            asm.jump_if_reg(JEQ, R0, R3, "out", wide=True)
    asm.jump("out")
    asm.label("reordered")
    asm.add_to(R7, REORDERED, R1)
