"""Instructions written one after the other, with labels: for the small programs that netbpf makes itself.

They are assembled and not compiled, because numbers of the moment are in them: what a filter says, where things lie.
"""

from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn
from netbpf.errors import NotSupportedError

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FRAME = range(11)
# Sizes of what is loaded and stored, in bytes.
BYTE, HALF, WORD, DOUBLE = 1, 2, 4, 8
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR, MOV = (number << 4 for number in range(12))
JA, JEQ, JGT, JGE, JSET, JNE, JSGT, JSGE = (number << 4 for number in range(8))
JLT, JLE, JSLT = 0xA0, 0xB0, 0xC0
_SIZES: Final = {BYTE: 0x10, HALF: 0x08, WORD: 0x00, DOUBLE: 0x18}
_LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(1, 8)
_MEM, _ATOMIC = 0x60, 0xC0
_REGISTER: Final = 0x08
_XCHG, _CMPXCHG = 0xE1, 0xF1  # Linux 5.12
_TO_BIG_ENDIAN: Final = 0xDC
_FURTHEST: Final = 32767  # instructions that a jump may go


class Assembler:
    """Code that grows; labels are names, and are looked up in ``finish``. ``what`` is what an error calls it."""

    def __init__(self, what: str = "the program") -> None:
        self._what = what
        self.code = bytearray()
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []
        self.calls: list[tuple[int, str]] = []  # places of calls to other functions, by their names

    @property
    def here(self) -> int:
        """The index of the next instruction."""
        return len(self.code) // bpf.SIZE

    def put(self, *given: Insn) -> None:
        """Add instructions as they are."""
        for one in given:
            self.code += one.pack()

    def label(self, name: str) -> None:
        """The next instruction is called so."""
        self._labels[name] = self.here

    def wanted(self, name: str) -> bool:
        """Whether something jumps to a label: code that nothing leads to is refused by the kernel."""
        return any(one == name for _, one in self._jumps)

    # --- computing ---

    def mov(self, dst: int, src: int) -> None:
        """dst = src, 64 bits."""
        self.put(Insn(_ALU64 | MOV | _REGISTER, dst, src))

    def mov32(self, dst: int, src: int) -> None:
        """dst = the low 32 bits of src."""
        self.put(Insn(_ALU | MOV | _REGISTER, dst, src))

    def set(self, dst: int, number: int) -> None:
        """dst = a number of up to 64 bits without sign."""
        if number >> 32:
            self.put(
                Insn(bpf.LD_IMM64, dst, imm=_signed(number)), Insn(0, imm=_signed(number >> 32))
            )
        else:
            self.put(Insn(_ALU | MOV, dst, imm=_signed(number)))

    def op(self, code: int, dst: int, number: int) -> None:
        """dst = dst OP number, 64 bits; the number has 32, with a sign."""
        self.put(Insn(_ALU64 | code, dst, imm=number))

    def op_reg(self, code: int, dst: int, src: int) -> None:
        """dst = dst OP src, 64 bits."""
        self.put(Insn(_ALU64 | code | _REGISTER, dst, src))

    def op32(self, code: int, dst: int, number: int = 0) -> None:
        """dst = dst OP number, 32 bits."""
        self.put(Insn(_ALU | code, dst, imm=_signed(number)))

    def op32_reg(self, code: int, dst: int, src: int) -> None:
        """dst = dst OP src, 32 bits."""
        self.put(Insn(_ALU | code | _REGISTER, dst, src))

    def big_endian(self, dst: int, bits: int) -> None:
        """The bytes of dst as a number in network order; above ``bits`` it is 0."""
        self.put(Insn(_TO_BIG_ENDIAN, dst, imm=bits))

    # --- memory ---

    def load(self, size: int, dst: int, base: int, offset: int = 0) -> None:
        """dst = *(size *)(base + offset)."""
        self.put(Insn(_LDX | _MEM | _SIZES[size], dst, base, offset))

    def store(self, size: int, base: int, offset: int, src: int) -> None:
        """*(size *)(base + offset) = src."""
        self.put(Insn(_STX | _MEM | _SIZES[size], base, src, offset))

    def store_number(self, size: int, base: int, offset: int, number: int) -> None:
        """*(size *)(base + offset) = number."""
        self.put(Insn(_ST | _MEM | _SIZES[size], base, 0, offset, number))

    def add_to(self, base: int, offset: int, work: int, number: int = 1) -> None:
        """*(u64 *)(base + offset) += number; not atomic."""
        self.load(DOUBLE, work, base, offset)
        self.op(ADD, work, number)
        self.store(DOUBLE, base, offset, work)

    def add_reg_to(self, base: int, offset: int, work: int, src: int) -> None:
        """*(u64 *)(base + offset) += src; not atomic."""
        self.load(DOUBLE, work, base, offset)
        self.op_reg(ADD, work, src)
        self.store(DOUBLE, base, offset, work)

    def exchange32(self, base: int, src: int) -> None:
        """src and *(u32 *)base change places, atomically (Linux 5.12)."""
        self.put(Insn(_STX | _ATOMIC | _SIZES[WORD], base, src, 0, _XCHG))

    def compare_exchange(self, base: int, offset: int, src: int) -> None:
        """*(u64 *)(base + offset) becomes src if it is R0, atomically; R0 is what it was (Linux 5.12)."""
        self.put(Insn(_STX | _ATOMIC | _SIZES[DOUBLE], base, src, offset, _CMPXCHG))

    def map_fd(self, dst: int, fd: int) -> None:
        """dst = a map."""
        self.put(Insn(bpf.LD_IMM64, dst, bpf.PSEUDO_MAP_FD, imm=fd), Insn(0))

    def map_value(self, dst: int, fd: int, offset: int = 0) -> None:
        """dst = the address of a place in the one value of an array (Linux 5.2)."""
        self.put(Insn(bpf.LD_IMM64, dst, bpf.PSEUDO_MAP_VALUE, imm=fd), Insn(0, imm=offset))

    # --- going on ---

    def helper(self, number: int) -> None:
        """Call a helper of the kernel (enum bpf_func_id)."""
        self.put(Insn(bpf.CALL, imm=number))

    def call(self, name: str) -> None:
        """Call another function; see ``calls``."""
        self.calls.append((self.here, name))
        self.put(Insn(bpf.CALL, src=bpf.PSEUDO_CALL))

    def exit(self) -> None:
        """Leave the function."""
        self.put(Insn(bpf.EXIT))

    def leave(self, number: int) -> None:
        """Leave the function with a number."""
        self.set(R0, number)
        self.exit()

    def jump(self, label: str) -> None:
        """To a label."""
        self._to(Insn(_JMP | JA), label)

    def jump_if(self, code: int, dst: int, number: int, label: str, *, wide: bool = False) -> None:
        """If dst OP number, 32 bits unless ``wide``; the number has 32, and then a sign."""
        kind = _JMP if wide else _JMP32
        self._to(Insn(kind | code, dst, imm=_signed(number)), label)

    def jump_if_reg(self, code: int, dst: int, src: int, label: str, *, wide: bool = False) -> None:
        """If dst OP src, 32 bits unless ``wide``."""
        self._to(Insn((_JMP if wide else _JMP32) | code | _REGISTER, dst, src), label)

    def _to(self, one: Insn, label: str) -> None:
        self._jumps.append((self.here, label))
        self.put(one)

    def finish(self) -> bytearray:
        """The code with its jumps in place; NotSupportedError where one has to go too far."""
        for at, label in self._jumps:
            distance = self._labels[label] - at - 1
            if abs(distance) > _FURTHEST:
                raise NotSupportedError(f"{self._what} is too large: a jump in it would be too far")
            bpf.write(self.code, at, bpf.read(self.code, at)._replace(off=distance))
        return self.code


def _signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number
