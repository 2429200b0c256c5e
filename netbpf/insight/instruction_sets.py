"""Which additions to the instruction set some code uses, and whether this kernel takes them.

Asked of the kernel by loading programs of a few instructions; the versions are only shown to people
(Documentation/bpf/standardization/instruction-set.rst; the commits named in the table).
"""

import struct
from typing import Final, NamedTuple

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.insn import LD_IMM64, MOV64_IMM, MOV64_REG, PSEUDO_CALL, PSEUDO_FUNC, Insn
from netbpf.bpf.probes import NO_ANSWER
from netbpf.constants import MapType, ProgType
from netbpf.errors import KernelError

CALLS: Final = "calls between functions"
CALLBACKS: Final = "functions as callbacks"
GLOBALS: Final = "global variables"
KERNEL_FUNCTIONS: Final = "kernel functions"
LESS: Final = "jumps on less (cpu v2)"
NARROW: Final = "32-bit jumps (cpu v3)"
ATOMICS: Final = "atomic operations with a result (cpu v3)"
V4: Final = "sign extension, byte swaps, long jumps (cpu v4)"
MAY_GOTO: Final = "may_goto"
ACQUIRE: Final = "load-acquire and store-release"

_EXIT = Insn(0x95).pack()
_ZERO = Insn(MOV64_IMM).pack()
_ONE_ON_STACK = Insn(0x7A, 10, 0, -8, 1).pack()


class _Set(NamedTuple):
    since: str
    code: bytes  # a program that has one such instruction, and nothing else that is new


# Linux 4.16: cc8b0b92a169; 4.14: 92b31a9af73b; 5.1: 092ed0968bb6; 5.2: d8eca5bbb2be; 5.12: 5ffa25502b5a;
# 5.13: 69c087ba6225 (callbacks), e6ac2450d6de (kernel functions); 6.6: 1f9a1ea821ff; 6.9: 011832b97b31;
# 6.15: 880442305a39.
_SETS: Final = {
    CALLS: _Set("4.16", Insn(0x85, 0, PSEUDO_CALL, 0, 1).pack() + _EXIT + _ZERO + _EXIT),
    LESS: _Set("4.14", _ZERO + Insn(0xA5, 0, 0, 0, 1).pack() + _EXIT),
    NARROW: _Set("5.1", _ZERO + Insn(0x16, 0, 0, 0, 1).pack() + _EXIT),
    GLOBALS: _Set("5.2", b""),
    ATOMICS: _Set("5.12", _ONE_ON_STACK + _ZERO + Insn(0xDB, 10, 0, -8, 0x01).pack() + _EXIT),
    CALLBACKS: _Set(
        "5.13",
        Insn(LD_IMM64, 1, PSEUDO_FUNC, 0, 3).pack() + bytes(8) + _ZERO + _EXIT + _ZERO + _EXIT,
    ),
    KERNEL_FUNCTIONS: _Set("5.13", b""),
    V4: _Set("6.6", _ZERO + Insn(MOV64_REG, 0, 0, 8).pack() + _EXIT),
    MAY_GOTO: _Set("6.9", Insn(0xE5, 0, 0, 0).pack() + _ZERO + _EXIT),
    ACQUIRE: _Set("6.15", _ONE_ON_STACK + Insn(0xDB, 0, 10, -8, 0x100).pack() + _EXIT),
}
_JUMPS = frozenset(code | form for code in (0xA0, 0xB0, 0xC0, 0xD0) for form in (0x05, 0x0D))
_SIGNED_LOADS = frozenset({0x81, 0x89, 0x91})
_DIVISIONS = frozenset({0x34, 0x3C, 0x37, 0x3F, 0x94, 0x9C, 0x97, 0x9F})
_MOVES = frozenset({0xBC, 0xBF})
_MASK = bytes(0xFF if code in _MOVES | _DIVISIONS else 0 for code in range(256))


def used(code: bytes, opcodes: bytes) -> set[str]:
    """The additions that some code uses, as far as opcodes tell; ``opcodes`` is every eighth byte of it."""
    kinds = set(opcodes)
    found = set()
    if kinds & _JUMPS:
        found.add(LESS)
    if any(code & 7 == 6 and code != 0x06 for code in kinds):
        found.add(NARROW)
    if kinds & _SIGNED_LOADS or 0x06 in kinds or kinds & {0xD7}:
        found.add(V4)
    if 0xE5 in kinds:
        found.add(MAY_GOTO)
    if V4 not in found and kinds & (_MOVES | _DIVISIONS):
        # Their offset was always zero before; one that is not makes them something else. Asked of all at once: as
        # numbers with a byte for each instruction.
        moves = int.from_bytes(opcodes.translate(_MASK), "little")
        if moves & (int.from_bytes(code[2::8], "little") | int.from_bytes(code[3::8], "little")):
            found.add(V4)
    if kinds & {0xC3, 0xDB, 0xCB, 0xD3}:
        for at, one in enumerate(opcodes):
            if one in (0xC3, 0xDB, 0xCB, 0xD3):
                (operation,) = struct.unpack_from("<i", code, at * 8 + 4)
                if operation in (0x100, 0x110):
                    found.add(ACQUIRE)
                elif operation:
                    found.add(ATOMICS)
    return found


def since(name: str) -> str:
    """The Linux version that has it first."""
    return _SETS[name].since


def probe(name: str) -> bool | None:
    """Whether this kernel takes it; None where it may not be asked."""
    if name == GLOBALS:
        return _globals()
    if name == KERNEL_FUNCTIONS:
        return None  # each function is looked for by its name
    return accepts(_SETS[name].code)


def accepts(code: bytes) -> bool | None:
    """Whether the kernel loads some code as a socket filter; None without permission."""
    request = sys_bpf.ProgLoad(ProgType.SOCKET_FILTER, code, "GPL")
    fd, number, log = sys_bpf.prog_load(request, log_size=1 << 12)
    if fd:
        fd.close()
        return True
    if b"missing btf func_info" in log:
        return True  # the address of a function: known, but the verifier wants its type as well
    return None if number in NO_ANSWER else False


def _globals() -> bool | None:
    """A value's address in the code (BPF_PSEUDO_MAP_VALUE)."""
    try:
        with sys_bpf.map_create(MapType.ARRAY, 4, 8, 1) as fd:
            load = Insn(LD_IMM64, 1, 2, 0, fd.fileno()).pack() + bytes(8)
            return accepts(load + _ZERO + _EXIT)
    except KernelError:
        return None
