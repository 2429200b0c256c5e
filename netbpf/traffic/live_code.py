"""The programs behind ``send --xdp``: one makes packets and redirects them, two count what became of them.

BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18, kernel commit b530e9e1063e) runs an XDP program on frames
that then really go where its verdict sends them. Frames come back from the driver and are used again, as whoever had
them left them, so each is written anew.

What the driver did with the frames is said by tracepoints. They are ours if they come while frames of ours are on their
way, on the processor that made them: between making and flushing, softirqs are off (xdp_test_run_batch), so nobody
else's frames can come in between there.
"""

from typing import Final, NamedTuple

from netbpf.bpf.assembler import (
    ADD,
    DOUBLE,
    JEQ,
    JGT,
    JLT,
    JNE,
    LSH,
    OR,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    RSH,
    SUB,
    WORD,
    Assembler,
)  # fmt: skip
from netbpf.traffic.stamp import NUMBERS, Session

LONGEST: Final = 3400  # bytes: what fits into a page beside the headroom and what the kernel keeps there, rounded down
# The state: u64 each.
NUMBER, INDEX, PENDING, CPU, SENT, DROPPED, REFUSED, ERROR, BYTES = range(0, 72, 8)
STATE_SIZE: Final = 128
_REDIRECT, _ADJUST_TAIL, _CPU_ID, _STORE_BYTES = 23, 65, 8, 190
_ABORTED: Final = 0


class Table(NamedTuple):
    """Where the frames lie in their map: the bytes, and from ``entries`` on u32 offset, length and stamp of each."""

    frames: int
    entries: int
    size: int
    uniform: bool  # all of one length


_ENTRY: Final = 16  # bytes of an index entry


def generator(
    state_fd: int, frames_fd: int, table: Table, ifindex: int, session: Session | None
) -> bytes:
    """The XDP program: the next frame's bytes, perhaps its number, and a redirect to the interface."""
    asm = Assembler()
    asm.mov(R6, R1)
    asm.map_value(R7, state_fd)
    asm.load(DOUBLE, R8, R7, INDEX)
    asm.jump_if(JGT, R8, table.frames - 1, "bad", wide=True)
    # The next one's index.
    asm.mov(R1, R8)
    asm.op(ADD, R1, 1)
    asm.jump_if(JLT, R1, table.frames, "no turn", wide=True)
    asm.set(R1, 0)
    asm.label("no turn")
    asm.store(DOUBLE, R7, INDEX, R1)
    asm.op(LSH, R8, 4)
    asm.map_value(R9, frames_fd, table.entries)
    asm.op_reg(ADD, R9, R8)  # the entry
    asm.load(WORD, R8, R9, 4)  # length
    asm.jump_if(JGT, R8, LONGEST, "bad", wide=True)
    asm.jump_if(JEQ, R8, 0, "bad", wide=True)
    if not table.uniform:
        asm.load(WORD, R3, R6, 4)
        asm.load(WORD, R4, R6, 0)
        asm.op_reg(SUB, R3, R4)
        asm.mov(R2, R8)
        asm.op_reg(SUB, R2, R3)
        asm.jump_if(JEQ, R2, 0, "right length", wide=True)
        asm.mov(R1, R6)
        asm.helper(_ADJUST_TAIL)
        asm.jump_if(JNE, R0, 0, "bad", wide=True)
        asm.label("right length")
    asm.load(WORD, R2, R9, 0)  # offset
    asm.jump_if(JGT, R2, table.size, "bad", wide=True)
    asm.map_value(R3, frames_fd)
    asm.op_reg(ADD, R3, R2)
    if session is not None:
        _number(asm, table, session)
    asm.mov(R1, R6)
    asm.set(R2, 0)
    asm.mov(R4, R8)
    asm.helper(_STORE_BYTES)
    asm.jump_if(JNE, R0, 0, "bad", wide=True)
    asm.helper(_CPU_ID)
    asm.store(DOUBLE, R7, CPU, R0)
    asm.add_to(R7, NUMBER, R1)
    asm.add_to(R7, PENDING, R1)
    asm.set(R1, ifindex)
    asm.set(R2, 0)
    asm.helper(_REDIRECT)
    asm.exit()
    asm.label("bad")
    asm.leave(_ABORTED)
    return bytes(asm.finish())


def _number(asm: Assembler, table: Table, session: Session) -> None:
    """Write the number into the frame's bytes at R3, where they lie."""
    asm.load(WORD, R1, R9, 8)  # the stamp's place
    asm.jump_if(JGT, R1, 256, "bad", wide=True)
    asm.op_reg(ADD, R1, R3)
    asm.load(DOUBLE, R2, R7, NUMBER)
    asm.set(R4, session.first << 48)
    asm.op_reg(OR, R4, R2)
    asm.store(DOUBLE, R1, 0, R4)
    asm.set(R4, session.second << 48 | NUMBERS)
    asm.op_reg(SUB, R4, R2)
    asm.store(DOUBLE, R1, 8, R4)


def transmitted(state_fd: int) -> bytes:
    """On xdp_devmap_xmit (from, to, sent, drops, err): frames that the driver was given, and took or dropped."""
    asm = _ours(state_fd)
    asm.load(DOUBLE, R2, R6, 16)
    asm.load(DOUBLE, R3, R6, 24)
    for register in (R2, R3):
        asm.op(LSH, register, 32)
        asm.op(RSH, register, 32)
    for register, field in ((R2, SENT), (R3, DROPPED)):
        asm.add_reg_to(R7, field, R1, register)
    asm.op_reg(ADD, R2, R3)
    asm.load(DOUBLE, R1, R7, PENDING)
    asm.op_reg(SUB, R1, R2)
    asm.store(DOUBLE, R7, PENDING, R1)
    asm.load(DOUBLE, R2, R6, 32)
    _note_error(asm, R2)
    return bytes(asm.finish())


def refused(state_fd: int) -> bytes:
    """On xdp_redirect_err (from, program, target, err ...): a frame that did not come as far as the driver."""
    asm = _ours(state_fd)
    asm.add_to(R7, REFUSED, R1)
    asm.add_to(R7, PENDING, R1, -1)
    asm.load(DOUBLE, R2, R6, 24)
    _note_error(asm, R2)
    return bytes(asm.finish())


def _ours(state_fd: int) -> Assembler:
    asm = Assembler()
    asm.mov(R6, R1)
    asm.map_value(R7, state_fd)
    asm.load(DOUBLE, R1, R7, PENDING)
    asm.jump_if(JEQ, R1, 0, "foreign", wide=True)
    asm.helper(_CPU_ID)
    asm.load(DOUBLE, R1, R7, CPU)
    asm.jump_if_reg(JNE, R0, R1, "foreign", wide=True)
    return asm


def _note_error(asm: Assembler, register: int) -> None:
    asm.op(LSH, register, 32)
    asm.op(RSH, register, 32)
    asm.jump_if(JEQ, register, 0, "foreign", wide=True)
    asm.store(DOUBLE, R7, ERROR, register)
    asm.label("foreign")
    asm.leave(0)
