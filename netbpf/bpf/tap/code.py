"""The functions of a tap: what is called before what it watches, and what is called after it.

``enter(ctx)`` runs the filter, and copies the packet as it comes if that matches; ``leave(verdict, who)`` hands the
copy with the verdict to the ring buffer, and gives the verdict back. What passes between them is kept in memory of the
CPU and not on the stack: members need all of that, and the code between may be several programs.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.assembler import (
    ADD,
    DOUBLE,
    JEQ,
    JGE,
    JGT,
    JLE,
    JLT,
    JSET,
    JSLT,
    LSH,
    MUL,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    SUB,
    WORD,
    Assembler,
)  # fmt: skip
from netbpf.bpf.tap.context import Context, context_of
from netbpf.bpf.tap.pieces import SLOW, slow
from netbpf.bpf.tap.place import (
    ARMED,
    BY_VERDICT,
    DEPTH,
    LEVELS,
    LOST,
    MATCHED,
    NESTED,
    RECORD,
    SEEN,
    SLOTS,
    slot_size,
    stride,
)  # fmt: skip
from netbpf.bpf.tap.translate import translate
from netbpf.constants import Hook

if TYPE_CHECKING:
    from netbpf.bpf.chain.verdicts import Layout

# A record: nanoseconds of CLOCK_MONOTONIC; length on the wire, bytes kept, verdict, who decided, interface, queue;
# the tag's presence, value and protocol (TC); what is left is 0.
HEAD: Final = struct.Struct("=QIIiIIIIIIIQ")
assert HEAD.size == RECORD
_TIME, _LENGTH, _KEPT, _VERDICT, _WHO, _INTERFACE, _QUEUE, _TAG_PRESENT, _TAG, _PROTOCOL = (
    0, 8, 12, 16, 20, 24, 28, 32, 36, 40,
)  # fmt: skip
_KTIME_GET_NS, _GET_SMP_PROCESSOR_ID, _RINGBUF_OUTPUT = 5, 8, 130  # BPF_FUNC_*
ENTER, LEAVE, MATCH = "enter", "leave", "match"


@dataclass(frozen=True, slots=True)
class Functions:
    """What makes up a tap, for the linker.

    ``member`` is the name of the member it watches, "" for the whole hook. ``filter`` is a classic program, empty for
    every packet. ``mask`` has the bit of each verdict's index that is wanted, 0 for all. Descriptors have to stay open
    until the program is loaded.
    """

    member: str
    filter: bytes
    state_fd: int
    ring_fd: int
    cpus: int
    snaplen: int
    mask: int = 0


def functions(
    tap: Functions, hook: Hook, shape: "Layout", *, frags: bool
) -> list[tuple[str, Assembler]]:
    """Its functions by name; the calls between them still need their targets. NotSupportedError for a filter.

    ``shape`` is how the verdicts of the hook are counted.
    """
    context = context_of(hook, frags=frags)
    made = [(ENTER, _enter(tap, context)), (LEAVE, _leave(tap, shape))]
    if tap.filter:
        made.append((MATCH, translate(tap.filter, context)))
        if any(name == SLOW for _, name in made[-1][1].calls):
            made.append((SLOW, slow(context)))
    return made


def _own_part(out: Assembler, tap: Functions, register: int, lost: str) -> None:
    """A register for the part of this CPU."""
    out.helper(_GET_SMP_PROCESSOR_ID)
    out.jump_if(JGE, R0, tap.cpus, lost)
    out.op(MUL, R0, stride(tap.snaplen))
    out.map_value(register, tap.state_fd)
    out.op_reg(ADD, register, R0)


def _enter(tap: Functions, context: Context) -> Assembler:
    out = Assembler()
    out.mov(R6, R1)
    _own_part(out, tap, R7, "end")
    out.add_to(R7, SEEN, R1)
    out.load(WORD, R8, R7, DEPTH)
    out.mov(R1, R8)
    out.op(ADD, R1, 1)
    out.store(WORD, R7, DEPTH, R1)
    out.jump_if(JGE, R8, LEVELS, "deep", wide=True)
    if tap.filter:
        # Nothing is known of R9 but that it may be 0: so what follows is verified once.
        out.mov(R9, R7)
        out.mov(R1, R8)
        out.op(LSH, R1, 2)
        out.op_reg(ADD, R9, R1)
        out.store_number(WORD, R9, ARMED, 0)
        out.mov(R1, R6)
        out.call(MATCH)
        out.jump_if(JEQ, R0, 0, "end")
    else:
        out.mov(R9, R7)
        out.mov(R1, R8)
        out.op(LSH, R1, 2)
        out.op_reg(ADD, R9, R1)
    out.store_number(WORD, R9, ARMED, 1)
    out.add_to(R7, MATCHED, R1)
    out.op(MUL, R8, slot_size(tap.snaplen))
    out.op_reg(ADD, R8, R7)
    _describe(out, context)
    _copy(out, tap, context)
    out.label("end")
    out.set(R0, 0)
    out.exit()
    out.label("deep")
    if tap.filter:
        out.mov(R1, R6)
        out.call(MATCH)
        out.jump_if(JEQ, R0, 0, "end")
    out.add_to(R7, NESTED, R1)
    out.add_to(R7, MATCHED, R1)
    out.jump("end")
    out.finish()
    return out


def _describe(out: Assembler, context: Context) -> None:
    """The record's head, at R8."""
    out.helper(_KTIME_GET_NS)
    out.store(DOUBLE, R8, SLOTS + _TIME, R0)
    for target, source in ((_INTERFACE, context.interface), (_QUEUE, context.queue)):
        out.load(WORD, R1, R6, source)
        out.store(WORD, R8, SLOTS + target, R1)
    if context.tags:
        for target, source in (
            (_TAG_PRESENT, context.tag_present), (_TAG, context.tag), (_PROTOCOL, context.tag_protocol),
        ):  # fmt: skip
            out.load(WORD, R1, R6, source)
            out.store(WORD, R8, SLOTS + target, R1)


def _copy(out: Assembler, tap: Functions, context: Context) -> None:
    """Its length, and its bytes up to the limit."""
    if context.whole_length is not None:
        out.load(WORD, R0, R6, context.whole_length)
    else:
        context.length(out, R6, R1, label="")
    out.store(WORD, R8, SLOTS + _LENGTH, R0)
    out.store_number(WORD, R8, SLOTS + _KEPT, 0)
    out.mov32(R4, R0)
    out.jump_if(JLE, R4, tap.snaplen, "fits", wide=True)
    out.set(R4, tap.snaplen)
    out.label("fits")
    out.jump_if(JEQ, R4, 0, "end", wide=True)
    out.mov(R9, R4)
    out.mov(R1, R6)
    out.set(R2, 0)
    out.mov(R3, R8)
    out.op(ADD, R3, SLOTS + RECORD)
    out.helper(context.load_bytes)
    out.jump_if(JSLT, R0, 0, "end", wide=True)
    out.store(WORD, R8, SLOTS + _KEPT, R9)


def _leave(tap: Functions, shape: "Layout") -> Assembler:
    out = Assembler()
    out.mov(R6, R1)
    out.mov(R7, R2)
    _own_part(out, tap, R8, "end")
    out.load(WORD, R9, R8, DEPTH)
    out.op32(SUB, R9, 1)
    out.store(WORD, R8, DEPTH, R9)
    # The verdict's index, as the counters of chains have it.
    out.mov32(R2, R6)
    if shape.shift:
        out.op32(ADD, R2, shape.shift)
    out.jump_if(JLT, R2, shape.count, "known")
    out.set(R2, shape.count - 1)
    out.label("known")
    out.jump_if(JGE, R9, LEVELS, "end", wide=True)
    out.mov(R1, R9)
    out.op(LSH, R1, 2)
    out.op_reg(ADD, R1, R8)
    out.load(WORD, R3, R1, ARMED)
    out.jump_if(JEQ, R3, 0, "end")
    if not tap.filter:
        out.store_number(WORD, R1, ARMED, 0)
    out.mov(R1, R2)
    out.op(LSH, R1, 3)
    out.op_reg(ADD, R1, R8)
    out.add_to(R1, BY_VERDICT, R3)
    if tap.mask:
        out.set(R3, 1)
        out.op32_reg(LSH, R3, R2)
        out.jump_if(JSET, R3, tap.mask, "wanted")
        out.jump("end")
        out.label("wanted")
    out.op(MUL, R9, slot_size(tap.snaplen))
    out.op_reg(ADD, R9, R8)
    out.store(WORD, R9, SLOTS + _VERDICT, R6)
    out.store(WORD, R9, SLOTS + _WHO, R7)
    out.load(WORD, R3, R9, SLOTS + _KEPT)
    out.jump_if(JGT, R3, tap.snaplen, "end", wide=True)
    out.op(ADD, R3, RECORD)
    out.mov(R2, R9)
    out.op(ADD, R2, SLOTS)
    out.map_fd(R1, tap.ring_fd)
    out.set(R4, 0)
    out.helper(_RINGBUF_OUTPUT)
    out.jump_if(JEQ, R0, 0, "end", wide=True)
    out.add_to(R8, LOST, R1)
    out.label("end")
    out.mov32(R0, R6)
    out.exit()
    out.finish()
    return out


def link(made: Sequence[tuple[str, Assembler]]) -> tuple[bytearray, dict[str, int]]:
    """The functions of one tap behind each other, their calls in place, and where each begins."""
    code, starts = bytearray(), dict[str, int]()
    for name, one in made:
        starts[name] = len(code) // bpf.SIZE
        code += one.code
    for name, one in made:
        for at, target in one.calls:
            place = starts[name] + at
            bpf.set_imm(code, place, starts[target] - place - 1)
    return code, starts
