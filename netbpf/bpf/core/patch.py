"""Putting a relocation's number into its instruction (Documentation/bpf/llvm_reloc.rst, "CO-RE Relocations")."""

from netbpf.bpf import insn as bpf
from netbpf.bpf.core.compute import U32, U64, Change
from netbpf.errors import ObjectError

POISON = 0xBAD2310  # the helper that does not exist; 195896080 in the verifier's words, "bad relo" to libbpf
_LDX, _ST, _STX, _ALU, _ALU64 = 1, 2, 3, 4, 7  # BPF_CLASS
_SOURCE_REGISTER = 0x08  # BPF_X
_SIZES = {8: 0x18, 4: 0x00, 2: 0x08, 1: 0x10}  # BPF_SIZE by bytes
_BYTES = {code: size for size, code in _SIZES.items()}
_MAX_OFFSET = (1 << 15) - 1


def poison(insns: bytearray, index: int) -> None:
    """Make an instruction (both slots of a 64-bit load) one that the verifier refuses, if it can be reached at all."""
    wide = bpf.read(insns, index).code == bpf.LD_IMM64
    for slot in range(index, min(index + 1 + wide, len(insns) // bpf.SIZE)):
        bpf.write(insns, slot, bpf.Insn(bpf.CALL, imm=POISON))


def patch(insns: bytearray, index: int, change: Change) -> tuple[int, int] | None:
    """Change one instruction: what it held and what it holds now, or None where it had to be poisoned.

    Raises ObjectError for an instruction that cannot take a relocation, or does not hold what the object's own types
    say it should.
    """
    if change.new is None:
        poison(insns, index)
        return None
    one = bpf.read(insns, index)
    kind = one.code & 7
    if kind in (_ALU, _ALU64):
        return _immediate(insns, index, one, change)
    if kind in (_LDX, _ST, _STX):
        return _access(insns, index, one, change)
    if one.code == bpf.LD_IMM64:
        return _wide(insns, index, one, change)
    raise ObjectError(f"an instruction of code {one.code:#04x} cannot be relocated")


def _agree(change: Change, held: int) -> None:
    if (held ^ change.old.number) & change.old.check:
        raise ObjectError(f"the instruction holds {held}, its types say {change.old.number}")


def _immediate(insns: bytearray, index: int, one: bpf.Insn, change: Change) -> tuple[int, int]:
    assert change.new is not None
    if one.code & _SOURCE_REGISTER:
        raise ObjectError("the instruction holds no number that could be changed")
    _agree(change, one.imm)
    number = change.new.number
    if U32 < number < U64 - (1 << 31) + 1:
        raise ObjectError(f"{number} does not fit the 32 bits of the instruction")
    bpf.set_imm(insns, index, number)
    return one.imm, bpf.read(insns, index).imm


def _access(insns: bytearray, index: int, one: bpf.Insn, change: Change) -> tuple[int, int] | None:
    assert change.new is not None
    _agree(change, one.off)
    if change.new.number > _MAX_OFFSET:
        raise ObjectError(f"offset {change.new.number} does not fit the 16 bits of the instruction")
    if not change.resizable:
        poison(insns, index)
        return None
    code = one.code
    if change.new.size != change.old.size:
        if _BYTES[code & 0x18] != change.old.size:
            raise ObjectError(
                f"the instruction accesses {_BYTES[code & 0x18]} bytes of {change.old.size}"
            )
        if change.new.size not in _SIZES:
            raise ObjectError(f"no instruction accesses {change.new.size} bytes")
        code = code & ~0x18 | _SIZES[change.new.size]
    bpf.write(insns, index, one._replace(code=code, off=change.new.number))
    return one.off, change.new.number


def _wide(insns: bytearray, index: int, one: bpf.Insn, change: Change) -> tuple[int, int]:
    assert change.new is not None
    if (index + 2) * bpf.SIZE > len(insns):
        raise ObjectError("a 64-bit load is cut off")
    upper = bpf.read(insns, index + 1)
    if one.src or one.off or upper._replace(imm=0) != bpf.Insn(0):
        raise ObjectError("a 64-bit load of an unexpected form cannot be relocated")
    held = one.imm & U32 | (upper.imm & U32) << 32
    _agree(change, held)
    number = change.new.number
    if change.old.narrow and change.new.narrow and held >> 31 == 1:
        number &= U32  # to the compiler this enum is unsigned: its highest bit is no sign
    bpf.set_imm(insns, index, number)
    bpf.set_imm(insns, index + 1, number >> 32)
    return held, number
