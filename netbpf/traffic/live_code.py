"""The programs behind ``send --xdp``: one makes packets and redirects them, two count what became of them.

BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18, kernel commit b530e9e1063e) runs an XDP program on frames
that then really go where its verdict sends them. Frames come back from the driver and are used again, as whoever had
them left them, so each is written anew.

What the driver did with the frames is said by tracepoints. They are ours if they come while frames of ours are on their
way, on the processor that made them: between making and flushing, softirqs are off (xdp_test_run_batch), so nobody
else's frames can come in between there.
"""

from typing import Final, NamedTuple

from netbpf.traffic.assembler import (
    ADD,
    ADDR,
    JEQ,
    JGT,
    JLT,
    JNE,
    JNER,
    LD32,
    LD64,
    LSH,
    ORR,
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
    ST64,
    SUBR,
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
    asm.move(R6, R1)
    asm.value(R7, state_fd)
    asm.put(LD64, R8, R7, INDEX)
    asm.jump(JGT, R8, "bad", imm=table.frames - 1)
    # The next one's index.
    asm.move(R1, R8)
    asm.put(ADD, R1, imm=1)
    asm.jump(JLT, R1, "no turn", imm=table.frames)
    asm.set(R1, 0)
    asm.label("no turn")
    asm.put(ST64, R7, R1, INDEX)
    asm.put(LSH, R8, imm=4)
    asm.value(R9, frames_fd, table.entries)
    asm.put(ADDR, R9, R8)  # the entry
    asm.put(LD32, R8, R9, 4)  # length
    asm.jump(JGT, R8, "bad", imm=LONGEST)
    asm.jump(JEQ, R8, "bad", imm=0)
    if not table.uniform:
        asm.put(LD32, R3, R6, 4)
        asm.put(LD32, R4, R6, 0)
        asm.put(SUBR, R3, R4)
        asm.move(R2, R8)
        asm.put(SUBR, R2, R3)
        asm.jump(JEQ, R2, "right length", imm=0)
        asm.move(R1, R6)
        asm.call(_ADJUST_TAIL)
        asm.jump(JNE, R0, "bad", imm=0)
        asm.label("right length")
    asm.put(LD32, R2, R9, 0)  # offset
    asm.jump(JGT, R2, "bad", imm=table.size)
    asm.value(R3, frames_fd)
    asm.put(ADDR, R3, R2)
    if session is not None:
        _number(asm, table, session)
    asm.move(R1, R6)
    asm.set(R2, 0)
    asm.move(R4, R8)
    asm.call(_STORE_BYTES)
    asm.jump(JNE, R0, "bad", imm=0)
    asm.call(_CPU_ID)
    asm.put(ST64, R7, R0, CPU)
    asm.count(R7, NUMBER, R1)
    asm.count(R7, PENDING, R1)
    asm.set(R1, ifindex)
    asm.set(R2, 0)
    asm.call(_REDIRECT)
    asm.exit()
    asm.label("bad")
    asm.leave(_ABORTED)
    return asm.done()


def _number(asm: Assembler, table: Table, session: Session) -> None:
    """Write the number into the frame's bytes at R3, where they lie."""
    asm.put(LD32, R1, R9, 8)  # the stamp's place
    asm.jump(JGT, R1, "bad", imm=256)
    asm.put(ADDR, R1, R3)
    asm.put(LD64, R2, R7, NUMBER)
    asm.set(R4, session.first << 48)
    asm.put(ORR, R4, R2)
    asm.put(ST64, R1, R4, 0)
    asm.set(R4, session.second << 48 | NUMBERS)
    asm.put(SUBR, R4, R2)
    asm.put(ST64, R1, R4, 8)


def transmitted(state_fd: int) -> bytes:
    """On xdp_devmap_xmit (from, to, sent, drops, err): frames that the driver was given, and took or dropped."""
    asm = _ours(state_fd)
    asm.put(LD64, R2, R6, 16)
    asm.put(LD64, R3, R6, 24)
    for register in (R2, R3):
        asm.put(LSH, register, imm=32)
        asm.put(RSH, register, imm=32)
    for register, field in ((R2, SENT), (R3, DROPPED)):
        asm.put(LD64, R1, R7, field)
        asm.put(ADDR, R1, register)
        asm.put(ST64, R7, R1, field)
    asm.put(ADDR, R2, R3)
    asm.put(LD64, R1, R7, PENDING)
    asm.put(SUBR, R1, R2)
    asm.put(ST64, R7, R1, PENDING)
    asm.put(LD64, R2, R6, 32)
    _note_error(asm, R2)
    return asm.done()


def refused(state_fd: int) -> bytes:
    """On xdp_redirect_err (from, program, target, err ...): a frame that did not come as far as the driver."""
    asm = _ours(state_fd)
    asm.count(R7, REFUSED, R1)
    asm.put(LD64, R1, R7, PENDING)
    asm.put(ADD, R1, imm=-1)
    asm.put(ST64, R7, R1, PENDING)
    asm.put(LD64, R2, R6, 24)
    _note_error(asm, R2)
    return asm.done()


def _ours(state_fd: int) -> Assembler:
    asm = Assembler()
    asm.move(R6, R1)
    asm.value(R7, state_fd)
    asm.put(LD64, R1, R7, PENDING)
    asm.jump(JEQ, R1, "foreign", imm=0)
    asm.call(_CPU_ID)
    asm.put(LD64, R1, R7, CPU)
    asm.jump(JNER, R0, "foreign", src=R1)
    return asm


def _note_error(asm: Assembler, register: int) -> None:
    asm.put(LSH, register, imm=32)
    asm.put(RSH, register, imm=32)
    asm.jump(JEQ, register, "foreign", imm=0)
    asm.put(ST64, R7, register, ERROR)
    asm.label("foreign")
    asm.leave(0)
