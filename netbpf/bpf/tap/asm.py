"""Writing instructions with labels, for code that netbpf generates."""

from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn
from netbpf.errors import NotSupportedError

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FRAME = range(11)
BYTE, HALF, WORD, DOUBLE = 1, 2, 4, 8
_SIZES: Final = {BYTE: 0x10, HALF: 0x08, WORD: 0x00, DOUBLE: 0x18}
_LDX, _ST, _STX, _MEM = 0x61 & 7, 0x62 & 7, 0x63 & 7, 0x60
_ALU, _JMP, _JMP32, _ALU64 = 0x04, 0x05, 0x06, 0x07
_REGISTER: Final = 0x08
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR, MOV = (number << 4 for number in range(12))
JA, JEQ, JGT, JGE, JSET, JNE, JSGT, JSGE = (number << 4 for number in range(8))
JLT, JLE, JSLT = 0xA0, 0xB0, 0xC0
_TO_BIG_ENDIAN: Final = 0xDC
_FURTHEST: Final = 32767


class Assembler:
    """Code that grows; labels are names, and are looked up in ``finish``."""

    def __init__(self) -> None:
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

    # --- instructions ---

    def mov(self, dst: int, src: int) -> None:
        """dst = src, 64 bits."""
        self.put(Insn(_ALU64 | MOV | _REGISTER, dst, src))

    def mov32(self, dst: int, src: int) -> None:
        """dst = the low 32 bits of src."""
        self.put(Insn(_ALU | MOV | _REGISTER, dst, src))

    def set(self, dst: int, number: int) -> None:
        """dst = a number of 32 bits without sign."""
        self.put(Insn(_ALU | MOV, dst, imm=_signed(number)))

    def op(self, code: int, dst: int, number: int) -> None:
        """dst = dst OP number, 64 bits; the number has a sign."""
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

    def big_endian(self, dst: int, bits: int) -> None:
        """The bytes of dst as a number in network order; above ``bits`` it is 0."""
        self.put(Insn(_TO_BIG_ENDIAN, dst, imm=bits))

    def map_fd(self, dst: int, fd: int) -> None:
        """dst = a map."""
        self.put(Insn(bpf.LD_IMM64, dst, bpf.PSEUDO_MAP_FD, imm=fd), Insn(0))

    def map_value(self, dst: int, fd: int) -> None:
        """dst = the one value of an array (Linux 5.2)."""
        self.put(Insn(bpf.LD_IMM64, dst, bpf.PSEUDO_MAP_VALUE, imm=fd), Insn(0))

    def helper(self, number: int) -> None:
        """Call a helper of the kernel."""
        self.put(Insn(bpf.CALL, imm=number))

    def call(self, name: str) -> None:
        """Call another function; see ``calls``."""
        self.calls.append((self.here, name))
        self.put(Insn(bpf.CALL, src=bpf.PSEUDO_CALL))

    def exit(self) -> None:
        """Leave the function."""
        self.put(Insn(bpf.EXIT))

    # --- jumps ---

    def jump(self, label: str) -> None:
        """To a label."""
        self._to(Insn(_JMP | JA), label)

    def jump_if(self, code: int, dst: int, number: int, label: str, *, wide: bool = False) -> None:
        """If dst OP number, 32 bits unless ``wide``."""
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
                raise NotSupportedError("the filter is too large: a jump in it would be too far")
            bpf.write(self.code, at, bpf.read(self.code, at)._replace(off=distance))
        return self.code


def _signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number
