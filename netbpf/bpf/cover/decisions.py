"""What a program compares where it branches: before each conditional jump, instructions that write down both values.

They use registers that hold nothing there; where fewer than two are free, nobody looks.
"""

import struct
from typing import Final, NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.flow import Flow, Kind
from netbpf.bpf.cover.insert import Around
from netbpf.bpf.cover.registers import effects
from netbpf.bpf.cover.ring import HEAD, STORE, STORE64_IMM, Ring
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image

_REGISTER, _JMP32, _SIGNED, _BITS, _MAY_GOTO = 0x08, 0x06, 0x40, 0x40, 0xE5
_SITE, _LEFT, _RIGHT, _ENTRY = 0, 8, 16, 32  # bytes of an entry
_ENTRIES: Final = 4096
# By operation: what holds where the jump is taken, what holds where it is not, and whether numbers are signed.
_SIGNS: Final = {
    0x10: ("==", "!=", False), 0x50: ("!=", "==", False), 0x20: (">", "<=", False), 0x30: (">=", "<", False),
    0xA0: ("<", ">=", False), 0xB0: ("<=", ">", False), 0x60: (">", "<=", True), 0x70: (">=", "<", True),
    0xC0: ("<", ">=", True), 0xD0: ("<=", ">", True), 0x40: ("&", "& not", False),
}  # fmt: skip


class Compared(NamedTuple):
    """Two values and what holds of them: ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``; ``&`` and ``& not`` for bits
    that both have, or have not, in common. ``constant``: the right one is in the code.
    """

    left: int
    sign: str
    right: int
    constant: bool
    bits: int


def ring() -> Ring:
    """What the values are written to. Raises KernelError."""
    return Ring(_ENTRY, _ENTRIES)


def around(image: Image, flow: Flow, log: Ring, first: int) -> tuple[dict[int, Around], list[int]]:
    """What to put before which jumps, and those jumps, numbered from ``first``."""
    free: dict[int, int] = {}
    for edge in flow.edges:
        if edge.kind in (Kind.TAKEN, Kind.NOT_TAKEN):
            free[edge.at] = free.get(edge.at, -1) & flow.free[edge.target]
    places: dict[int, Around] = {}
    sites: list[int] = []
    for at, registers in sorted(free.items()):
        one = bpf.read(image.insns, at)
        uses, _, _ = effects(one)
        usable = [n for n in range(10) if (registers & ~uses) >> n & 1]
        if len(usable) < 2 or one.code == _MAY_GOTO:
            continue
        pointer, scratch = usable[:2]
        code = [
            *log.begin(pointer, scratch),
            Insn(STORE64_IMM, pointer, off=HEAD + _SITE, imm=first + len(sites)),
            Insn(STORE[8], pointer, one.dst, off=HEAD + _LEFT),
        ]
        if one.code & _REGISTER:
            code.append(Insn(STORE[8], pointer, one.src, off=HEAD + _RIGHT))
        places[at] = Around(code)
        sites.append(at)
    return places, sites


def site_of(entry: bytes) -> int:
    """The number of the jump that an entry is about."""
    return int(struct.unpack_from("<Q", entry, _SITE)[0])


def compared(entry: bytes, jump: Insn, *, taken: bool) -> Compared:
    """What an entry says of a jump that was taken or not."""
    yes, no, signed = _SIGNS[jump.code & 0xF0]
    bits = 32 if jump.code & 0x07 == _JMP32 else 64
    left, right = struct.unpack_from("<QQ", entry, _LEFT)
    constant = not jump.code & _REGISTER
    if constant:
        right = jump.imm
    sign = yes if taken else no
    return Compared(
        _number(left, bits, signed=signed),
        sign,
        _number(right, bits, signed=signed),
        constant,
        bits,
    )


def _number(value: int, bits: int, *, signed: bool) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value
