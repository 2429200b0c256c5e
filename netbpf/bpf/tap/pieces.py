"""Reading what lies behind the first piece of a packet, and the VLAN tag that the kernel keeps beside it."""

from typing import Final

from netbpf.bpf import assembler as asm
from netbpf.bpf.tap.context import Context

SLOW: Final = "slow"


def slow(context: Context) -> asm.Assembler:
    """The function ``SLOW(ctx, offset, size)``: a number of the packet in network order, or less than 0.

    ``size`` is 1, 2 or 4. The packet is seen as it was on the wire: with the VLAN tag that the kernel has taken out.
    """
    out = asm.Assembler()
    buffer = -24
    out.mov(asm.R6, asm.R1)
    out.mov(asm.R7, asm.R2)
    out.mov(asm.R8, asm.R3)
    out.mov(asm.R9, asm.FRAME)
    out.op(asm.ADD, asm.R9, buffer)
    if context.tags:
        _with_tag(out, context, buffer)
    out.label("plain")
    context.copy(out, asm.R6, asm.R7, asm.R9, asm.R8)
    out.jump_if(asm.JSLT, asm.R0, 0, "outside", wide=True)
    out.label("bytes")
    out.load(asm.BYTE, asm.R0, asm.R9)
    for number in range(1, asm.WORD):
        if number != 3:
            out.jump_if(asm.JEQ, asm.R8, number, "done")
        out.load(asm.BYTE, asm.R1, asm.R9, number)
        out.op(asm.LSH, asm.R0, 8)
        out.op_reg(asm.OR, asm.R0, asm.R1)
    out.label("done")
    out.exit()
    out.label("outside")
    out.set(asm.R0, 0)
    out.op(asm.SUB, asm.R0, 1)
    out.exit()
    out.finish()
    return out


def _with_tag(out: asm.Assembler, context: Context, buffer: int) -> None:
    """Behind the addresses come four bytes that are not in the packet: the tag, kept beside it."""
    out.load(asm.WORD, asm.R0, asm.R6, context.tag_present)
    out.jump_if(asm.JEQ, asm.R0, 0, "plain")
    out.jump_if(asm.JLT, asm.R7, 16, "near", wide=True)
    out.op(asm.SUB, asm.R7, 4)
    out.jump("plain")
    out.label("near")
    out.mov(asm.R1, asm.R7)
    out.op_reg(asm.ADD, asm.R1, asm.R8)
    out.jump_if(asm.JLE, asm.R1, 12, "plain", wide=True)
    out.store_number(asm.DOUBLE, asm.FRAME, buffer, 0)
    out.store_number(asm.DOUBLE, asm.FRAME, buffer + 8, 0)
    out.store_number(asm.DOUBLE, asm.FRAME, buffer + 16, 0)
    for source, target, size in ((0, 0, 12), (12, 16, 2), (14, 18, 1)):
        if source == 14:
            out.mov(asm.R1, asm.R7)
            out.op_reg(asm.ADD, asm.R1, asm.R8)
            out.jump_if(asm.JLE, asm.R1, 18, "tagged", wide=True)
        out.set(asm.R2, source)
        out.mov(asm.R3, asm.FRAME)
        out.op(asm.ADD, asm.R3, buffer + target)
        out.set(asm.R4, size)
        out.mov(asm.R1, asm.R6)
        out.helper(context.load_bytes)
        out.jump_if(asm.JSLT, asm.R0, 0, "outside", wide=True)
    out.label("tagged")
    out.load(asm.WORD, asm.R0, asm.R6, context.tag_protocol)
    out.store(asm.HALF, asm.FRAME, buffer + 12, asm.R0)
    out.load(asm.WORD, asm.R0, asm.R6, context.tag)
    out.big_endian(asm.R0, 16)
    out.store(asm.HALF, asm.FRAME, buffer + 14, asm.R0)
    out.op_reg(asm.ADD, asm.R9, asm.R7)
    out.jump("bytes")
