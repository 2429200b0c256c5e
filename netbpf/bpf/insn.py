"""BPF instructions as the kernel has them (Documentation/bpf/standardization/instruction-set.rst)."""

import struct
from typing import NamedTuple

SIZE = 8  # bytes
_FORMAT = struct.Struct("<BBhi")

# Opcodes netbpf itself looks at or writes.
LD_IMM64 = 0x18
CALL = 0x85
EXIT = 0x95
MOV64_IMM, MOV64_REG = 0xB7, 0xBF

# What the source register of LD_IMM64 and CALL means (BPF_PSEUDO_*, include/uapi/linux/bpf.h).
PSEUDO_MAP_FD, PSEUDO_MAP_VALUE, PSEUDO_BTF_ID, PSEUDO_FUNC = 1, 2, 3, 4
PSEUDO_MAP_IDX, PSEUDO_MAP_IDX_VALUE = 5, 6
PSEUDO_CALL, PSEUDO_KFUNC_CALL = 1, 2


class Insn(NamedTuple):
    """One 8-byte slot; LD_IMM64 takes two."""

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0

    def pack(self) -> bytes:
        """Its 8 bytes."""
        return _FORMAT.pack(self.code, self.src << 4 | self.dst, self.off, self.imm)


def read(code: bytes | bytearray, index: int) -> Insn:
    """The slot at an index; struct.error outside the code."""
    opcode, registers, off, imm = _FORMAT.unpack_from(code, index * SIZE)
    return Insn(opcode, registers & 0xF, registers >> 4, off, imm)


def write(code: bytearray, index: int, insn: Insn) -> None:
    """Put a slot at an index."""
    _FORMAT.pack_into(code, index * SIZE, insn.code, insn.src << 4 | insn.dst, insn.off, insn.imm)


def set_imm(code: bytearray, index: int, imm: int) -> None:
    """Change the 32-bit immediate of a slot; larger values keep their low 32 bits."""
    struct.pack_into("<I", code, index * SIZE + 4, imm & 0xFFFFFFFF)
