"""Instructions written one after the other, with labels: for the few small programs that sending needs.

They are assembled and not compiled, because numbers of the moment are in them and the whole is some dozen lines.
"""

from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)
# Jumps of 64 bits; J...R compare two registers.
JA, JEQ, JGT, JNE, JLE, JLT = 0x05, 0x15, 0x25, 0x55, 0xB5, 0xA5
JEQR, JGTR, JNER, JLER = 0x1D, 0x2D, 0x5D, 0xBD
ADD, ADDR, SUBR, AND, ANDR, ORR, LSH, RSH = 0x07, 0x0F, 0x1F, 0x57, 0x5F, 0x4F, 0x67, 0x77
# Loads and stores by size.
LD16, LD32, LD64 = 0x69, 0x61, 0x79
ST64, ST32_IMM, ST64_IMM = 0x7B, 0x62, 0x7A
_ATOMIC32, _ATOMIC64 = 0xC3, 0xDB
_XCHG, _CMPXCHG = 0xE1, 0xF1  # Linux 5.12


class Assembler:
    """Code that grows; ``done`` gives it with every jump in place."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._jumps: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}

    def put(self, code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> None:
        """One instruction."""
        if imm >= 1 << 31:
            imm -= 1 << 32
        self._code += Insn(code, dst, src, off, imm).pack()

    def move(self, dst: int, src: int) -> None:
        """``dst = src``."""
        self.put(bpf.MOV64_REG, dst, src)

    def set(self, dst: int, value: int) -> None:
        """``dst = value``, of 64 bits."""
        if 0 <= value < 1 << 31:
            self.put(bpf.MOV64_IMM, dst, imm=value)
            return
        self.put(bpf.LD_IMM64, dst, imm=value & 0xFFFFFFFF)
        self.put(0, imm=value >> 32)

    def map(self, dst: int, map_fd: int) -> None:
        """``dst`` is a map."""
        self.put(bpf.LD_IMM64, dst, bpf.PSEUDO_MAP_FD, imm=map_fd)
        self.put(0)

    def value(self, dst: int, map_fd: int, offset: int = 0) -> None:
        """``dst`` is the address of a place in the only value of an array."""
        self.put(bpf.LD_IMM64, dst, bpf.PSEUDO_MAP_VALUE, imm=map_fd)
        self.put(0, imm=offset)

    def call(self, helper: int) -> None:
        """Call a helper (enum bpf_func_id)."""
        self.put(bpf.CALL, imm=helper)

    def jump(self, code: int, dst: int, label: str, *, imm: int = 0, src: int = 0) -> None:
        """Go to a label where the condition holds."""
        self._jumps.append((len(self._code) // bpf.SIZE, label))
        self.put(code, dst, src, 0, imm)

    def go(self, label: str) -> None:
        """Go to a label."""
        self.jump(JA, 0, label)

    def label(self, name: str) -> None:
        """The next instruction's name."""
        self._labels[name] = len(self._code) // bpf.SIZE

    def count(self, base: int, offset: int, work: int) -> None:
        """Add one to a u64."""
        self.put(LD64, work, base, offset)
        self.put(ADD, work, imm=1)
        self.put(ST64, base, work, offset)

    def exchange32(self, base: int, src: int) -> None:
        """``src`` and the u32 at ``base`` change places, atomically."""
        self.put(_ATOMIC32, base, src, 0, _XCHG)

    def compare_exchange64(self, base: int, offset: int, src: int) -> None:
        """The u64 becomes ``src`` if it is R0; R0 is what it was."""
        self.put(_ATOMIC64, base, src, offset, _CMPXCHG)

    def leave(self, value: int) -> None:
        """Return a number."""
        self.set(R0, value)
        self.put(bpf.EXIT)

    def exit(self) -> None:
        """Return R0."""
        self.put(bpf.EXIT)

    def done(self) -> bytes:
        """The code."""
        for at, label in self._jumps:
            one = bpf.read(self._code, at)
            bpf.write(self._code, at, one._replace(off=self._labels[label] - at - 1))
        return bytes(self._code)
