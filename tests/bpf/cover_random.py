"""Random programs, and a second opinion of what runs in them: an interpreter that counts every instruction.

All registers hold something that is needed until the end, so that probes find none free.
"""

import random
import struct
from dataclasses import dataclass, field

from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image, Placed
from netbpf.bpf.object import Function

PACKET = 96  # bytes
_MASK = (1 << 64) - 1
_ADD, _SUB, _OR, _AND, _XOR, _MOV = 0x0F, 0x1F, 0x4F, 0x5F, 0xAF, 0xBF
_ALU = (_ADD, _SUB, _OR, _AND, _XOR, _MOV)
# Jumps that compare with a register: ==, >, >=, &, !=, s>, <
_JUMPS = (0x1D, 0x2D, 0x3D, 0x4D, 0x5D, 0x6D, 0xAD)
_IMM = 0x15 - 0x1D
_JA = 0x05
_STORE, _LOAD = 0x7B, 0x79


@dataclass
class Program:
    """Code, where its functions begin, and how deep it goes into its stack (bytes)."""

    code: list[Insn] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def image(self) -> Image:
        packed = bytearray(b"".join(one.pack() for one in self.code))
        ends = [*self.starts[1:], len(self.code)]
        placed = [
            Placed(start, Function(f"f{n}", 1, start * 8, (end - start) * 8, False, False), 0)
            for n, (start, end) in enumerate(zip(self.starts, ends, strict=True))
        ]
        return Image(packed, placed)


class Writer:
    """Writes one random program."""

    def __init__(self, choose: random.Random, *, deep: int = 64) -> None:
        self.choose, self.deep = choose, deep
        self.made = Program()
        self.calls: list[tuple[int, int]] = []

    def write(self, functions: int = 2, length: int = 30) -> Program:
        for number in range(functions + 1):
            self.made.starts.append(len(self.made.code))
            self._function(number, functions, length)
        for at, number in self.calls:
            one = self.made.code[at]
            self.made.code[at] = one._replace(imm=self.made.starts[number] - at - 1)
        return self.made

    def _function(self, number: int, last: int, length: int) -> None:
        out: list[Insn] = []
        if number == 0:
            out += [
                Insn(0x61, 6, 1, 0), Insn(0x61, 0, 1, 4), Insn(bpf.MOV64_REG, 7, 6), Insn(0x07, 7, imm=PACKET),
                Insn(0xBD, 7, 0, 2), Insn(bpf.MOV64_IMM, 0, imm=1), Insn(bpf.EXIT),
            ]  # fmt: skip
            out += [Insn(_LOAD, r, 6, 8 * r) for r in (0, 1, 2, 3, 4, 5, 7, 8, 9, 6)]
        else:
            out += [Insn(bpf.MOV64_REG, r, 1 + r % 5) for r in (0, 6, 7, 8, 9)]
        out += [Insn(_STORE, 10, r, -8 * (r + 1)) for r in range(4)]
        out.append(Insn(0x7A, 10, off=-self.deep, imm=7))
        first = len(out)
        loop = self.choose.random() < 0.5
        if loop:
            out.append(Insn(0x7A, 10, off=-40, imm=2))
            first += 1
        targets: list[int] = []
        for _ in range(length):
            self._item(out, number, last, targets)
        if loop:  # twice round, by a counter on the stack
            out += [
                Insn(_LOAD, 5, 10, -40), Insn(0x07, 5, imm=-1), Insn(_STORE, 10, 5, -40),
                Insn(0x55, 5, 0, first - len(out) - 4, 0),
            ]  # fmt: skip
        end = len(out) - (4 if loop else 0)
        for at in targets:  # forward, inside the loop
            out[at] = out[at]._replace(off=self.choose.randint(at + 1, end) - at - 1)
        # Everything is needed: registers and stack.
        out += [Insn(_XOR, 0, r) for r in range(1, 10)]
        out += [
            one for n in range(4) for one in (Insn(_LOAD, 1, 10, -8 * (n + 1)), Insn(_XOR, 0, 1))
        ]
        out += [Insn(_LOAD, 1, 10, -self.deep), Insn(_XOR, 0, 1), Insn(bpf.EXIT)]
        self.made.code += out

    def _item(self, out: list[Insn], number: int, last: int, targets: list[int]) -> None:
        choose = self.choose
        kind = choose.random()
        if kind < 0.25:
            if choose.random() < 0.15:  # behind a jump that jumps over it: nothing is unreachable
                out.append(Insn(0x55, choose.randrange(10), off=1, imm=3))
                targets.append(len(out))
                out.append(Insn(_JA))
                return
            targets.append(len(out))
            if choose.random() < 0.5:
                code = choose.choice(_JUMPS) + _IMM
                out.append(Insn(code, choose.randrange(10), imm=choose.choice((0, 1, -1, 5))))
            else:
                out.append(Insn(choose.choice(_JUMPS), choose.randrange(10), choose.randrange(10)))
        elif kind < 0.32 and number < last:
            self.calls.append((len(self.made.code) + len(out), choose.randint(number + 1, last)))
            out.append(Insn(bpf.CALL, src=bpf.PSEUDO_CALL))
            out += [Insn(bpf.MOV64_REG, r, choose.choice((0, 6, 7, 8, 9))) for r in range(1, 6)]
        elif kind < 0.45:
            slot, register = -8 * choose.randint(1, 4), choose.randrange(10)
            store = choose.random() < 0.5
            out.append(
                Insn(_STORE, 10, register, slot) if store else Insn(_LOAD, register, 10, slot)
            )
        elif kind < 0.7:
            out.append(
                Insn(choose.choice(_ALU) & ~8, choose.randrange(10), imm=choose.randint(-9, 99))
            )
        else:
            out.append(Insn(choose.choice(_ALU), choose.randrange(10), choose.randrange(10)))


class Machine:
    """Runs a program of a Writer on a packet. ``order`` are the instructions that ran, ``result`` is r0."""

    def __init__(self, program: Program, packet: bytes) -> None:
        self.code, self.packet = program.code, packet
        self.order: list[int] = []
        self.result = self._run(0, [0] * 10) & 0xFFFFFFFF

    def _run(self, at: int, given: list[int]) -> int:
        r = list(given)
        stack: dict[int, int] = {}
        main = at == 0
        while True:
            one = self.code[at]
            self.order.append(at)
            at += 1
            dst, src = one.dst, one.src
            if one.code == bpf.EXIT:
                return r[0]
            if one.code == bpf.CALL:
                r[0] = self._run(at + one.imm, r)
            elif one.code == 0x61 or (main and one.code == 0x07 and at <= 4) or one.code == 0xBD:
                if one.code == 0xBD:
                    at += one.off  # the packet is long enough
            elif one.code == _LOAD and src != 10:
                r[dst] = struct.unpack_from("<Q", self.packet, one.off)[0]
            elif one.code == _LOAD:
                r[dst] = stack[one.off]
            elif one.code == _STORE:
                stack[one.off] = r[src]
            elif one.code == 0x7A:
                stack[one.off] = one.imm
            elif one.code & 7 == 5:
                if self._jumps(one, r[dst], r[src] if one.code & 8 else one.imm & _MASK):
                    at += one.off
            else:
                r[dst] = self._alu(one.code, r[dst], r[src] if one.code & 8 else one.imm) & _MASK

    @staticmethod
    def _jumps(one: Insn, left: int, right: int) -> bool:
        def signed(x: int) -> int:
            return x - (1 << 64) if x >> 63 else x

        return {
            0x00: True, 0x10: left == right, 0x20: left > right, 0x30: left >= right, 0x40: bool(left & right),
            0x50: left != right, 0x60: signed(left) > signed(right), 0xA0: left < right,
        }[one.code & 0xF0]  # fmt: skip

    @staticmethod
    def _alu(code: int, left: int, right: int) -> int:
        right &= _MASK
        return {
            0x00: left + right, 0x10: left - right, 0x40: left | right, 0x50: left & right, 0xA0: left ^ right,
            0xB0: right,
        }[code & 0xF0]  # fmt: skip
