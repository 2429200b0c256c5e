"""Hand-made types and instructions, and one relocation of them."""

import struct
from collections.abc import Callable

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.ext import CoreRelo
from netbpf.bpf.btf.types import MAGIC, Btf
from netbpf.bpf.core import CoreKind, Resolution, Target, relocate

LDX_W, LDX_DW, LDX_H, ST_W, STX_DW, MOV, MOV32, MOV_REG = (
    0x61,
    0x79,
    0x69,
    0x62,
    0x7B,
    0xB7,
    0xB4,
    0xBF,
)


def code(*insns: bpf.Insn) -> bytearray:
    return bytearray(b"".join(one.pack() for one in insns))


def imm64(value: int) -> bytearray:
    low, high = struct.unpack("<ii", struct.pack("<Q", value & (1 << 64) - 1))
    return code(bpf.Insn(bpf.LD_IMM64, dst=1, imm=low), bpf.Insn(0, imm=high))


def build(make: Callable[[Builder], object]) -> Btf:
    builder = Builder()
    make(builder)
    return builder.build()


def one(
    insns: bytearray, local: Btf, target: Btf | Target, type_name: str, access: str, kind: CoreKind
) -> Resolution:
    """Relocate the first instruction for one type; what became of it."""
    where = target if isinstance(target, Target) else Target(lambda: target)
    relo = CoreRelo(0, local.find(type_name)[0].id, access, kind)
    (resolution,) = relocate(insns, [(0, relo)], local, where)
    return resolution


def fields(
    builder: Builder, *names: str, size: int = 4, signed: bool = False, tag: str = "foo"
) -> int:
    number = builder.integer("number", size, signed=signed)
    return builder.record(tag, [(name, number) for name in names])


def split_bytes(base: Btf, builder: Builder) -> bytes:
    """What a builder added to ``base``, as a module's split BTF would have it."""
    whole = builder.build()
    types = whole.data[whole.offset_of(base.count) : len(whole.data) - len(whole.strings)]
    strings = whole.strings[len(base.strings) :]
    header = struct.pack("<HBBIIIII", MAGIC, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings
