"""Classic BPF, as libpcap writes it for a filter, as a function of eBPF that says whether a packet matches.

The meaning is that of libpcap's interpreter (bpf_filter(), libpcap 1.10): numbers have 32 bits and no sign, a load
outside of the packet and a division by zero end the filter without a match, shifts by 32 and more give 0.

Bytes in the first piece of a packet are read directly. What lies behind it (pages of an skb, further buffers of an XDP
frame) is read by a helper, in a function of its own. In TC the kernel has taken the outer VLAN tag out of the packet,
most often; a filter sees the packet as it was on the wire, with its tag.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from netbpf.bpf import assembler as asm
from netbpf.bpf.tap.context import Context
from netbpf.bpf.tap.pieces import SLOW
from netbpf.errors import NotSupportedError

MOST_INSTRUCTIONS: Final = (
    4096  # of a classic program: BPF_MAXINSNS, include/uapi/linux/bpf_common.h
)
_INSN: Final = struct.Struct("=HBBI")
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_IMM, _ABS, _IND, _MEM, _LEN, _MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
_SIZES: Final = {0x00: asm.WORD, 0x08: asm.HALF, 0x10: asm.BYTE}
_JUMPS: Final = {
    0x10: (asm.JEQ, asm.JNE),
    0x20: (asm.JGT, asm.JLE),
    0x30: (asm.JGE, asm.JLT),
    0x40: (asm.JSET, None),
}
_OPS: Final = {
    0x00: asm.ADD,
    0x10: asm.SUB,
    0x20: asm.MUL,
    0x40: asm.OR,
    0x50: asm.AND,
    0xA0: asm.XOR,
}
_DIV, _LSH, _RSH, _NEG, _MOD = 0x30, 0x60, 0x70, 0x80, 0x90
_ACCUMULATOR, _INDEX = asm.R0, asm.R9
_CONTEXT, _DATA, _END = asm.R6, asm.R7, asm.R8
_FROM_X: Final = 0x08
_NEGATIVE: Final = (
    1 << 31
)  # offsets from here on are the kernel's own (SKF_AD_OFF ...), and mean no bytes
_DIRECT: Final = 0xFFF0  # bytes into a packet that the verifier follows (MAX_PACKET_OFF)
_FURTHEST: Final = 1 << 24  # bytes; no packet is longer
# Places on the stack.
_LENGTH, _KEPT, _MEMORY = -8, -16, -24
_WORDS: Final = 16  # of scratch memory: BPF_MEMWORDS


class Classic(NamedTuple):
    """One classic instruction (struct bpf_insn)."""

    code: int
    jt: int
    jf: int
    k: int

    @property
    def kind(self) -> int:
        """Its class."""
        return self.code & 7


def decode(code: bytes) -> list[Classic]:
    """The instructions of a classic program."""
    return [Classic(*one) for one in _INSN.iter_unpack(code)]


def translate(code: bytes, context: Context) -> asm.Assembler:
    """A function ``match(ctx)`` that gives 0 for packets that do not pass; it may call ``SLOW`` (see there).

    Raises NotSupportedError for a program that is too large, or that asks for what is no byte of the packet.
    """
    program = decode(code)
    if len(program) > MOST_INSTRUCTIONS:
        raise NotSupportedError(
            f"the filter is too large: libpcap makes {len(program)} instructions of it, and the kernel takes "
            f"{MOST_INSTRUCTIONS}",
            hint="name networks instead of hosts, port ranges instead of ports",
        )
    return _Translator(program, context).run()


class _Translator:
    def __init__(self, program: list[Classic], context: Context) -> None:
        self.program, self.context = program, context
        self.out = asm.Assembler("the filter")
        self.late: list[tuple[str, int, int | None, str]] = []  # loads by the helper, at the end

    def run(self) -> asm.Assembler:
        reached = sorted(self._reached())
        self._prologue([self.program[at] for at in reached])
        for at in reached:
            self.out.label(_at(at))
            self._one(at, self.program[at])
        self._late_loads()
        if self.out.wanted("no"):
            self.out.label("no")
            self.out.set(asm.R0, 0)
            self.out.exit()
        self.out.finish()
        return self.out

    def _reached(self) -> set[int]:
        """What is executed at all: the kernel refuses the rest."""
        found: set[int] = set()
        todo = [0]
        while todo:
            at = todo.pop()
            if at in found:
                continue
            if at >= len(self.program):
                raise NotSupportedError("the filter's code leaves its own end")
            found.add(at)
            todo += self._next(at)
        return found

    def _next(self, at: int) -> Iterator[int]:
        one = self.program[at]
        if one.kind == _RET:
            return
        if one.kind != _JMP:
            yield at + 1
        elif one.code & 0xF0 == 0:
            if one.k >= len(self.program):
                raise NotSupportedError(
                    "the filter goes back to what it has been through, which the kernel does not let programs do",
                    hint="ip6 protochain and the like loop; name the header's bytes, as in ip6[6]",
                )
            yield at + 1 + one.k
        else:
            yield at + 1 + one.jt
            yield at + 1 + one.jf

    # --- before ---

    def _prologue(self, used: list[Classic]) -> None:
        out = self.out
        out.mov(_CONTEXT, asm.R1)
        if any(one.kind in (_LD, _LDX) and one.code & 0xE0 == _LEN for one in used):
            self.context.length(out, _CONTEXT, asm.R1, label="length")
            out.store(asm.DOUBLE, asm.FRAME, _LENGTH, asm.R0)
        self.context.bounds(out, _CONTEXT, _DATA, _END)
        scratch = {one.k for one in used if self._uses_memory(one)}
        if any(number >= _WORDS for number in scratch):
            raise NotSupportedError("the filter uses scratch memory that there is not")
        for number in sorted(scratch):
            out.store_number(asm.WORD, asm.FRAME, _memory(number), 0)
        out.set(_ACCUMULATOR, 0)
        out.set(_INDEX, 0)

    @staticmethod
    def _uses_memory(one: Classic) -> bool:
        return one.kind in (_ST, _STX) or (one.kind in (_LD, _LDX) and one.code & 0xE0 == _MEM)

    # --- one instruction ---

    def _one(self, at: int, one: Classic) -> None:
        out = self.out
        if one.kind in (_LD, _LDX):
            self._load(at, one)
        elif one.kind == _ST:
            out.store(asm.WORD, asm.FRAME, _memory(one.k), _ACCUMULATOR)
        elif one.kind == _STX:
            out.store(asm.WORD, asm.FRAME, _memory(one.k), _INDEX)
        elif one.kind == _ALU:
            self._compute(one)
        elif one.kind == _JMP:
            self._jump(at, one)
        elif one.kind == _RET:
            if one.code & 0x18 == 0:
                out.set(asm.R0, one.k)
            out.exit()
        elif one.code & 0xF8:
            out.mov32(_ACCUMULATOR, _INDEX)  # TXA
        else:
            out.mov32(_INDEX, _ACCUMULATOR)  # TAX

    def _load(self, at: int, one: Classic) -> None:
        mode, out = one.code & 0xE0, self.out
        register = _ACCUMULATOR if one.kind == _LD else _INDEX
        if mode == _IMM:
            out.set(register, one.k)
        elif mode == _MEM:
            out.load(asm.WORD, register, asm.FRAME, _memory(one.k))
        elif mode == _LEN:
            out.load(asm.WORD, register, asm.FRAME, _LENGTH)
        elif one.k >= _NEGATIVE:
            raise NotSupportedError(
                "the filter asks for something that is no byte of the packet",
                hint="inbound, outbound, ifname and the like are for tcpdump's own sockets",
            )
        elif mode == _ABS and one.kind == _LD:
            self._fixed(at, _SIZES[one.code & 0x18], one.k)
        elif mode == _IND and one.kind == _LD:
            self._variable(at, _SIZES[one.code & 0x18], one.k)
        elif mode == _MSH and one.kind == _LDX:
            self._header_length(at, one.k)
        else:
            raise NotSupportedError(
                f"the filter has an instruction of an unknown kind ({one.code:#x})"
            )

    def _beyond(self, at: int, size: int, k: int | None, then: str) -> str:
        """Where to go for bytes behind the first piece of the packet; ``k`` None: the offset is in asm.R1."""
        if not self.context.pieces:
            return "no"
        name = f"slow{at}"
        self.late.append((name, size, k, then))
        return name

    def _fixed(self, at: int, size: int, k: int) -> None:
        out = self.out
        beyond = self._beyond(at, size, k, _at(at + 1))
        if k + size > _DIRECT:
            self._always(beyond)
            return
        self._unless_tagged(beyond)
        out.mov(asm.R1, _DATA)
        out.op(asm.ADD, asm.R1, k + size)
        out.jump_if_reg(asm.JGT, asm.R1, _END, beyond, wide=True)
        out.load(size, _ACCUMULATOR, asm.R1, -size)
        self._swap(size)

    def _variable(self, at: int, size: int, k: int) -> None:
        out = self.out
        out.set(asm.R1, k)
        out.op_reg(asm.ADD, asm.R1, _INDEX)
        beyond = self._beyond(at, size, None, _at(at + 1))
        self._unless_tagged(beyond)
        out.jump_if(asm.JGT, asm.R1, _DIRECT - 4, beyond, wide=True)
        out.mov(asm.R2, _DATA)
        out.op_reg(asm.ADD, asm.R2, asm.R1)
        out.mov(asm.R3, asm.R2)
        out.op(asm.ADD, asm.R3, size)
        out.jump_if_reg(asm.JGT, asm.R3, _END, beyond, wide=True)
        out.load(size, _ACCUMULATOR, asm.R2)
        self._swap(size)

    def _always(self, label: str) -> None:
        """Jump in a way that does not show: the kernel refuses what nothing leads to, as what follows would be."""
        self.out.jump_if(asm.JGE, _ACCUMULATOR, 0, label)

    def _unless_tagged(self, label: str) -> None:
        """Where the packet's tag is beside it, ``bounds`` gives 0 for its begin."""
        if self.context.tags:
            self.out.jump_if(asm.JEQ, _DATA, 0, label, wide=True)

    def _swap(self, size: int) -> None:
        if size != asm.BYTE:
            self.out.big_endian(_ACCUMULATOR, size * 8)

    def _header_length(self, at: int, k: int) -> None:
        """X = the header length of an IPv4 packet whose first byte is at k."""
        out = self.out
        beyond = self._beyond(at, asm.BYTE, k, f"msh{at}")
        if k + 1 > _DIRECT:
            self._always(beyond)
        else:
            self._unless_tagged(beyond)
            out.mov(asm.R1, _DATA)
            out.op(asm.ADD, asm.R1, k + 1)
            out.jump_if_reg(asm.JGT, asm.R1, _END, beyond, wide=True)
            out.load(asm.BYTE, _INDEX, asm.R1, -1)
        out.label(f"done{at}")
        out.op32(asm.AND, _INDEX, 15)
        out.op32(asm.LSH, _INDEX, 2)

    def _late_loads(self) -> None:
        out = self.out
        for name, size, k, then in self.late:
            out.label(name)
            keeps = then.startswith("msh")
            if keeps:
                out.store(asm.DOUBLE, asm.FRAME, _KEPT, _ACCUMULATOR)
            if k is None:
                out.jump_if(asm.JGT, asm.R1, _FURTHEST, "no", wide=True)
                out.mov(asm.R2, asm.R1)
            else:
                out.set(asm.R2, k)
            out.mov(asm.R1, _CONTEXT)
            out.set(asm.R3, size)
            out.call(SLOW)
            out.jump_if(asm.JSLT, asm.R0, 0, "no", wide=True)
            if keeps:
                out.mov(_INDEX, asm.R0)
                out.load(asm.DOUBLE, _ACCUMULATOR, asm.FRAME, _KEPT)
                out.jump(f"done{then.removeprefix('msh')}")
            else:
                out.jump(then)

    def _compute(self, one: Classic) -> None:
        out, op, from_x = self.out, one.code & 0xF0, bool(one.code & _FROM_X)
        if op == _NEG:
            out.op32(asm.NEG, _ACCUMULATOR)
        elif op in _OPS:
            if from_x:
                out.op32_reg(_OPS[op], _ACCUMULATOR, _INDEX)
            else:
                out.op32(_OPS[op], _ACCUMULATOR, one.k)
        elif op in (_DIV, _MOD):
            code = asm.DIV if op == _DIV else asm.MOD
            if from_x:
                out.jump_if(asm.JEQ, _INDEX, 0, "no")
                out.op32_reg(code, _ACCUMULATOR, _INDEX)
            elif one.k:
                out.op32(code, _ACCUMULATOR, one.k)
            else:
                self._always("no")
        elif op in (_LSH, _RSH):
            self._shift(asm.LSH if op == _LSH else asm.RSH, from_x=from_x, k=one.k)
        else:
            raise NotSupportedError(
                f"the filter computes what netbpf does not know ({one.code:#x})"
            )

    def _shift(self, code: int, *, from_x: bool, k: int) -> None:
        out = self.out
        if not from_x:
            if k < 32:
                out.op32(code, _ACCUMULATOR, k)
            else:
                out.set(_ACCUMULATOR, 0)
            return
        label = f"shift{out.here}"
        out.mov32(asm.R1, _ACCUMULATOR)
        out.set(_ACCUMULATOR, 0)
        out.jump_if(asm.JGT, _INDEX, 31, label)
        out.mov32(_ACCUMULATOR, asm.R1)
        out.op32_reg(code, _ACCUMULATOR, _INDEX)
        out.label(label)

    def _jump(self, at: int, one: Classic) -> None:
        out, op = self.out, one.code & 0xF0
        if op == 0:
            if one.k:
                out.jump(_at(at + 1 + one.k))
            return
        if op not in _JUMPS:
            raise NotSupportedError(f"the filter compares in an unknown way ({one.code:#x})")
        code, inverse = _JUMPS[op]
        yes, no = at + 1 + one.jt, at + 1 + one.jf
        if yes == at + 1 and inverse is not None:
            code, yes, no = inverse, no, yes
        if one.code & _FROM_X:
            out.jump_if_reg(code, _ACCUMULATOR, _INDEX, _at(yes))
        else:
            out.jump_if(code, _ACCUMULATOR, one.k, _at(yes))
        if no != at + 1:
            out.jump(_at(no))


def _at(number: int) -> str:
    return f"i{number}"


def _memory(number: int) -> int:
    return _MEMORY - 4 * number
