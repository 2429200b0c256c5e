"""The program that counts numbered packets where they arrive: a socket filter, which takes none of them.

It runs on every packet that the interface hands to the network stack, where tcpdump sees it too: behind XDP, before TC.
Nothing is queued for a reader, so nothing can be lost between counting and reading.

A packet's number says whether it came before: a window of the last ``WINDOW`` numbers has for each place how often the
numbers have gone round (``number / WINDOW + 1``) when one was seen there.
"""

from typing import Final

from netbpf.traffic.assembler import (
    ADD,
    ADDR,
    AND,
    ANDR,
    FP,
    JEQ,
    JEQR,
    JGT,
    JGTR,
    JLE,
    JLER,
    JLT,
    JNE,
    JNER,
    LD16,
    LD32,
    LD64,
    LSH,
    ORR,
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
    ST32_IMM,
    ST64,
    ST64_IMM,
    SUBR,
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
    asm.move(R6, R1)
    asm.put(LD32, R2, R6, _PKT_TYPE)
    asm.jump(JEQ, R2, "out", imm=_OUTGOING)
    asm.put(ST32_IMM, FP, 0, -4, 0)
    asm.map(R1, counts_fd)
    asm.move(R2, FP)
    asm.put(ADD, R2, imm=-4)
    asm.call(_LOOKUP)
    asm.jump(JEQ, R0, "out", imm=0)
    asm.move(R7, R0)
    asm.put(LD32, R8, R6, _LEN)
    asm.jump(JLT, R8, "out", imm=14 + SIZE)
    _find(asm, session)
    _check_number(asm)
    _check_rest(asm)
    _place(asm, window_fd)
    _order(asm, highest_fd)
    asm.label("out")
    asm.leave(0)
    asm.label("damaged")
    asm.count(R7, DAMAGED, R1)
    asm.leave(0)
    return asm.done()


def _find(asm: Assembler, session: Session) -> None:
    """R9 = where the stamp is: any even place, so headers may have come or gone on the way."""
    asm.move(R1, R6)
    asm.set(R2, 0)
    asm.move(R3, R7)
    asm.put(ADD, R3, imm=_HEAD)
    asm.move(R4, R8)
    asm.jump(JLE, R4, "fits", imm=_HEAD_SIZE)
    asm.set(R4, _HEAD_SIZE)
    asm.label("fits")
    asm.call(_LOAD_BYTES)
    asm.jump(JNE, R0, "out", imm=0)
    asm.set(R9, 14)
    asm.label("look")
    asm.jump(JGT, R9, "out", imm=FURTHEST)
    asm.move(R1, R9)
    asm.put(ADD, R1, imm=SIZE)
    asm.jump(JGTR, R1, "out", src=R8)
    asm.move(R1, R7)
    asm.put(ADDR, R1, R9)
    asm.put(LD16, R2, R1, _HEAD + 6)
    asm.jump(JNE, R2, "not here", imm=session.first)
    asm.put(LD16, R2, R1, _HEAD + 14)
    asm.jump(JEQ, R2, "here", imm=session.second)
    asm.label("not here")
    asm.put(ADD, R9, imm=2)
    asm.go("look")
    asm.label("here")
    # From memory the verifier knows nothing of it, and looks at what follows once, not once for each place.
    asm.put(ST64, R7, R9, _AT)
    asm.put(LD64, R9, R7, _AT)
    asm.jump(JGT, R9, "out", imm=FURTHEST)
    asm.move(R1, R7)
    asm.put(ADDR, R1, R9)


def _check_number(asm: Assembler) -> None:
    """The number, kept on the stack at -16; its complement has to be that."""
    for target, at in ((R2, 0), (R3, 8)):
        asm.put(LD16, target, R1, _HEAD + at)
        for shift, place in ((16, 2), (32, 4)):
            asm.put(LD16, R4, R1, _HEAD + at + place)
            asm.put(LSH, R4, imm=shift)
            asm.put(ORR, target, R4)
    asm.put(ST64, FP, R2, -16)
    asm.put(ADDR, R2, R3)
    asm.set(R3, NUMBERS)
    asm.jump(JNER, R2, "damaged", src=R3)
    asm.put(LD16, R1, R1, _HEAD + 16)
    asm.put(ST64, FP, R1, -24)  # the sum


def _check_rest(asm: Assembler) -> None:
    """The sum of what stands behind the stamp. R9 goes on by pieces; -32 has the sum so far, -40 pieces left."""
    asm.put(ST64_IMM, FP, 0, -32, 0)
    asm.put(ST64_IMM, FP, 0, -40, _PIECES)
    asm.put(ADD, R9, imm=SIZE)
    asm.label("piece")
    asm.jump(JLER, R8, "summed", src=R9)
    asm.put(LD64, R1, FP, -40)
    asm.jump(JEQ, R1, "out", imm=0)
    asm.put(ADD, R1, imm=-1)
    asm.put(ST64, FP, R1, -40)
    for at in range(0, _PIECE_SIZE, 8):
        asm.put(ST64_IMM, R7, 0, _PIECE + at, 0)
    asm.move(R4, R8)
    asm.put(SUBR, R4, R9)
    asm.jump(JLE, R4, "last piece", imm=_PIECE_SIZE)
    asm.set(R4, _PIECE_SIZE)
    asm.label("last piece")
    asm.jump(JEQ, R4, "summed", imm=0)
    asm.move(R1, R6)
    asm.move(R2, R9)
    asm.move(R3, R7)
    asm.put(ADD, R3, imm=_PIECE)
    asm.call(_LOAD_BYTES)
    asm.jump(JNE, R0, "out", imm=0)
    asm.put(LD64, R1, FP, -32)
    for at in range(0, _PIECE_SIZE, 4):
        asm.put(LD32, R2, R7, _PIECE + at)
        asm.put(ADDR, R1, R2)
    asm.put(ST64, FP, R1, -32)
    asm.put(ADD, R9, imm=_PIECE_SIZE)
    asm.go("piece")
    asm.label("summed")
    asm.put(LD64, R1, FP, -32)
    for shift in (32, 32, 16, 16, 16):  # fold: twice to 32 bits, then to 16
        asm.move(R2, R1)
        asm.put(RSH, R2, imm=shift)
        mask = (1 << shift) - 1
        asm.set(R3, mask)
        asm.put(ANDR, R1, R3)
        asm.put(ADDR, R1, R2)
    asm.put(LD64, R2, FP, -24)
    asm.jump(JNER, R1, "damaged", src=R2)


def _place(asm: Assembler, window_fd: int) -> None:
    """Whether the number was there before; R5 keeps it."""
    asm.put(LD64, R5, FP, -16)
    asm.move(R1, R5)
    asm.put(AND, R1, imm=WINDOW - 1)
    asm.put(LSH, R1, imm=2)
    asm.value(R2, window_fd)
    asm.put(ADDR, R2, R1)
    asm.move(R3, R5)
    asm.put(RSH, R3, imm=WINDOW_BITS)
    asm.put(ADD, R3, imm=1)
    asm.move(R4, R3)
    asm.exchange32(R2, R4)
    asm.jump(JNER, R4, "new", src=R3)
    asm.count(R7, DUPLICATES, R1)
    asm.leave(0)
    asm.label("new")
    asm.jump(JLER, R4, "kept", src=R3)
    asm.exchange32(R2, R4)  # older than the window: what was there goes back
    asm.label("kept")
    asm.count(R7, RECEIVED, R1)
    asm.put(LD64, R1, R7, BYTES)
    asm.put(ADDR, R1, R8)
    asm.put(ST64, R7, R1, BYTES)
    asm.put(LD32, R1, R6, _GSO_SEGS)
    asm.jump(JLE, R1, "single", imm=1)
    asm.count(R7, MERGED, R2)
    asm.label("single")


def _order(asm: Assembler, highest_fd: int) -> None:
    """A number below one that came before is reordered (RFC 4737, 3.3)."""
    asm.put(ADD, R5, imm=1)
    asm.value(R2, highest_fd)
    for attempt in range(_TRIES):
        asm.put(LD64, R0, R2)
        asm.jump(JGTR, R0, "reordered", src=R5)
        asm.move(R3, R0)
        asm.compare_exchange64(R2, 0, R5)
        if attempt < _TRIES - 1:
            asm.jump(JEQR, R0, "out", src=R3)
    asm.go("out")
    asm.label("reordered")
    asm.count(R7, REORDERED, R1)
