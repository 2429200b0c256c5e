"""Instructions as text, in the words of the kernel (print_bpf_insn, kernel/bpf/disasm.c), which bpftool prints too.

All of the instruction set is known (Documentation/bpf/standardization/instruction-set.rst): atomics (Linux 5.12),
sign extension, byte swaps and long jumps of cpu v4 (6.6), may_goto (6.9), address spaces (6.9), acquire and
release (6.15). What is no instruction is said to be none; nothing here raises for any bytes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.helpers import helper_name

_LD, _LDX, _ST, _STX, _ALU, _JMP, _JMP32, _ALU64 = range(8)  # classes
_IMM, _ABS, _IND, _MEM, _MEMSX, _NOSPEC, _ATOMIC = 0x00, 0x20, 0x40, 0x60, 0x80, 0xC0, 0xC0  # modes
_REGISTER = 0x08  # BPF_X
_SIZES = {0x00: "u32", 0x08: "u16", 0x10: "u8", 0x18: "u64"}
_SIGNED = {0x00: "s32", 0x08: "s16", 0x10: "s8"}
_ALU_SIGNS = {
    0x00: "+=", 0x10: "-=", 0x20: "*=", 0x30: "/=", 0x40: "|=", 0x50: "&=", 0x60: "<<=", 0x70: ">>=",
    0x90: "%=", 0xA0: "^=", 0xB0: "=", 0xC0: "s>>=",
}  # fmt: skip
_JUMP_SIGNS = {
    0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&", 0x50: "!=", 0x60: "s>", 0x70: "s>=",
    0xA0: "<", 0xB0: "<=", 0xC0: "s<", 0xD0: "s<=",
}  # fmt: skip
_NEG, _END = 0x80, 0xD0
_CALL, _EXIT, _JA, _JCOND = 0x80, 0x90, 0x00, 0xE0
_FETCH, _XCHG, _CMPXCHG, _LOAD_ACQ, _STORE_REL = 0x01, 0xE1, 0xF1, 0x100, 0x110
_ATOMIC_SIGNS = {0x00: "+=", 0x40: "|=", 0x50: "&=", 0xA0: "^="}
_ATOMIC_NAMES = {0x00: "add", 0x40: "or", 0x50: "and", 0xA0: "xor"}


class Names(NamedTuple):
    """What instructions refer to, as the caller knows it; None leaves the kernel's plain words.

    ``call`` names a call's target, ``load`` what a 64-bit load takes (its two halves as one number); both get the
    index of the instruction. ``call`` answers for calls of every kind: helpers, kernel functions, subprograms.
    """

    call: Callable[[int, bpf.Insn], str | None] = lambda _index, _one: None
    load: Callable[[int, bpf.Insn, int], str | None] = lambda _index, _one, _value: None


PLAIN = Names()


@dataclass(frozen=True, slots=True)
class Shown:
    """An instruction: its index in slots of 8 bytes, its own bytes (16 for a 64-bit load), and its text."""

    index: int
    raw: bytes
    text: str

    @property
    def opcodes(self) -> str:
        """Its bytes in hex."""
        return self.raw.hex(" ")


def disassemble(code: bytes | bytearray, names: Names = PLAIN, first: int = 0) -> Iterator[Shown]:
    """Every instruction; ``first`` is the index of the first. Bytes at the end that are less than one are left out."""
    count = len(code) // bpf.SIZE
    index = 0
    while index < count:
        one = bpf.read(code, index)
        length, value = 1, one.imm & 0xFFFFFFFF
        if one.code == bpf.LD_IMM64 and index + 1 < count:
            length = 2
            value |= (bpf.read(code, index + 1).imm & 0xFFFFFFFF) << 32
        raw = bytes(code[index * bpf.SIZE : (index + length) * bpf.SIZE])
        yield Shown(
            first + index, raw, f"({one.code:02x}) {_text(first + index, one, value, names)}"
        )
        index += length


def _text(index: int, one: bpf.Insn, value: int, names: Names) -> str:
    match one.code & 7:
        case 4 | 7:
            found = _alu(one)
        case 5 | 6:
            found = _jump(index, one, names)
        case 0:
            found = _load_constant(index, one, value, names)
        case 1:
            found = _load(one)
        case 2:
            found = _store(one)
        case _:
            found = _store_register(one)
    return found or f"unknown instruction {one.pack().hex(' ')}"


# --- arithmetic ---


def _alu(one: bpf.Insn) -> str | None:
    operation, wide = one.code & 0xF0, one.code & 7 == _ALU64
    letter = "r" if wide else "w"
    if operation == _END:
        word = "bswap" if wide else "be" if one.code & _REGISTER else "le"
        return f"r{one.dst} = {word}{one.imm} r{one.dst}"
    if operation == _NEG:
        return f"{letter}{one.dst} = -{letter}{one.dst}"
    sign = _ALU_SIGNS.get(operation)
    if sign is None:
        return None
    if operation in (0x30, 0x90) and one.off == 1:
        sign = f"s{sign}"
    if not one.code & _REGISTER:
        return f"{letter}{one.dst} {sign} {one.imm}"
    extension = ""
    if operation == 0xB0 and one.off:
        if wide and one.off == 1:  # BPF_ADDR_SPACE_CAST
            spaces = f"{one.imm >> 16 & 0xFFFF}, {one.imm & 0xFFFF}"
            return f"r{one.dst} = addr_space_cast(r{one.src}, {spaces})"
        if wide and one.off == -1:  # BPF_ADDR_PERCPU
            return f"r{one.dst} = &(void __percpu *)(r{one.src})"
        extension = f"(s{one.off})"
    return f"{letter}{one.dst} {sign} {extension}{letter}{one.src}"


# --- memory ---


def _load(one: bpf.Insn) -> str | None:
    sizes = {_MEM: _SIZES, _MEMSX: _SIGNED}.get(one.code & 0xE0, {})
    size = sizes.get(one.code & 0x18)
    return f"r{one.dst} = *({size} *)(r{one.src} {one.off:+d})" if size else None


def _store(one: bpf.Insn) -> str | None:
    if one.code & 0xE0 == _MEM:
        return f"*({_SIZES[one.code & 0x18]} *)(r{one.dst} {one.off:+d}) = {one.imm}"
    return "nospec" if one.code & 0xE0 == _NOSPEC else None


def _store_register(one: bpf.Insn) -> str | None:
    if one.code & 0xE0 == _MEM:
        return f"*({_SIZES[one.code & 0x18]} *)(r{one.dst} {one.off:+d}) = r{one.src}"
    return _atomic(one) if one.code & 0xE0 == _ATOMIC else None


def _atomic(one: bpf.Insn) -> str | None:
    size = _SIZES[one.code & 0x18]
    place = f"({size} *)(r{one.dst} {one.off:+d})"
    bits = "64" if size == "u64" else ""
    if one.imm == _LOAD_ACQ:
        return f"r{one.dst} = load_acquire(({size} *)(r{one.src} {one.off:+d}))"
    if one.imm == _STORE_REL:
        return f"store_release({place}, r{one.src})"
    if size not in ("u32", "u64"):
        return None
    if one.imm == _CMPXCHG:
        return f"r0 = atomic{bits}_cmpxchg({place}, r0, r{one.src})"
    if one.imm == _XCHG:
        return f"r{one.src} = atomic{bits}_xchg({place}, r{one.src})"
    if one.imm in _ATOMIC_SIGNS:
        return f"lock *{place} {_ATOMIC_SIGNS[one.imm]} r{one.src}"
    if one.imm & _FETCH and (name := _ATOMIC_NAMES.get(one.imm & ~_FETCH)):
        return f"r{one.src} = atomic{bits}_fetch_{name}({place}, r{one.src})"
    return None


_PSEUDO_LOADS = {
    bpf.PSEUDO_MAP_FD: "map[fd:{low}]", bpf.PSEUDO_MAP_VALUE: "map[fd:{low}][0]+{high}",
    bpf.PSEUDO_MAP_IDX: "map[idx:{low}]", bpf.PSEUDO_MAP_IDX_VALUE: "map[idx:{low}]+{high}",
    bpf.PSEUDO_BTF_ID: "btf_id[{low}]", bpf.PSEUDO_FUNC: "subprog[{signed:+d}]",
}  # fmt: skip


def _load_constant(index: int, one: bpf.Insn, value: int, names: Names) -> str | None:
    size, mode = _SIZES[one.code & 0x18], one.code & 0xE0
    if mode == _ABS:
        return f"r0 = *({size} *)skb[{one.imm}]"
    if mode == _IND:
        return f"r0 = *({size} *)skb[r{one.src} + {one.imm}]"
    if one.code != bpf.LD_IMM64:
        return None
    named = names.load(index, one, value)
    if named is None and one.src in _PSEUDO_LOADS:
        low, high = value & 0xFFFFFFFF, value >> 32
        named = _PSEUDO_LOADS[one.src].format(low=low, high=high, signed=one.imm)
    return f"r{one.dst} = {named if named is not None else f'{value:#x}'}"


# --- jumps ---


def _jump(index: int, one: bpf.Insn, names: Names) -> str | None:
    operation, wide = one.code & 0xF0, one.code & 7 == _JMP
    if operation == _CALL and wide:
        return f"call {_target(index, one, names)}"
    if operation == _EXIT and wide:
        return "exit"
    if operation == _JA:
        return f"goto pc{one.off:+d}" if wide else f"gotol pc{one.imm:+d}"
    if operation == _JCOND and wide:
        return f"may_goto pc{one.off:+d}"
    sign = _JUMP_SIGNS.get(operation)
    if sign is None:
        return None
    letter = "r" if wide else "w"
    other = f"{letter}{one.src}" if one.code & _REGISTER else f"{one.imm & 0xFFFFFFFF:#x}"
    return f"if {letter}{one.dst} {sign} {other} goto pc{one.off:+d}"


def _target(index: int, one: bpf.Insn, names: Names) -> str:
    named = names.call(index, one)
    if named is not None:
        return named
    if one.src == bpf.PSEUDO_CALL:
        return f"pc{one.imm:+d}"
    if one.src == bpf.PSEUDO_KFUNC_CALL:
        return f"kernel-function#{one.imm}"
    return f"{helper_name(one.imm) or 'unknown'}#{one.imm}"


def branch_target(index: int, one: bpf.Insn) -> int | None:
    """The index to which an instruction may jump within its function; None for one that does not jump."""
    if one.code & 7 not in (_JMP, _JMP32) or one.code & 0xF0 in (_CALL, _EXIT):
        return None
    far = one.code & 7 == _JMP32 and one.code & 0xF0 == _JA
    return index + 1 + (one.imm if far else one.off)


def falls_through(one: bpf.Insn) -> bool:
    """Whether the next instruction may come after this one."""
    return one.code & 7 not in (_JMP, _JMP32) or one.code & 0xF0 not in (_EXIT, _JA)
