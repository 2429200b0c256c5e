"""Memory into which instrumented programs write entries of one size, one after the other; the oldest make room."""

import struct
from typing import Final

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn
from netbpf.constants import COVER_MAP, MapType

LOAD: Final = {8: 0x79, 4: 0x61, 2: 0x69, 1: 0x71}
STORE: Final = {8: 0x7B, 4: 0x63, 2: 0x6B, 1: 0x73}
STORE64_IMM: Final = 0x7A
_ADD, _AND, _ADD_REG = 0x07, 0x57, 0x0F
HEAD: Final = 8  # bytes before the entries: how many were written, in bytes


class Ring:
    """``entries`` of ``size`` bytes, both powers of two. Programs that use it keep its memory when it is closed."""

    def __init__(self, size: int, entries: int) -> None:
        """Raises KernelError."""
        self.size, self.entries = size, entries
        self._bytes = HEAD + size * entries
        self.fd: Fd = sys_bpf.map_create(MapType.ARRAY, 4, self._bytes, 1, name=COVER_MAP)

    def clear(self) -> None:
        """Forget everything."""
        sys_bpf.map_update(self.fd.fileno(), bytes(4), bytes(self._bytes))

    def read(self) -> tuple[list[bytes], int]:
        """The entries in the order in which they were written, and how many before them are lost."""
        content = sys_bpf.map_lookup(self.fd.fileno(), bytes(4), self._bytes) or bytes(HEAD)
        written = struct.unpack_from("<Q", content)[0] // self.size
        kept = min(written, self.entries)
        places = (
            HEAD + number % self.entries * self.size
            for number in range(written - kept + 1, written + 1)
        )
        return [content[one : one + self.size] for one in places], written - kept

    def close(self) -> None:
        """Let go of it."""
        self.fd.close()

    # --- instructions ---

    def begin(self, pointer: int, scratch: int) -> list[Insn]:
        """A new entry: ``pointer`` is HEAD bytes before it afterwards; ``scratch`` is used on the way."""
        return [
            *self._address(pointer),
            Insn(LOAD[8], scratch, pointer),
            Insn(_ADD, scratch, imm=self.size),
            Insn(STORE[8], pointer, scratch),
            *self._last(pointer, scratch),
        ]

    def again(self, pointer: int, scratch: int) -> list[Insn]:
        """The same for the entry that was begun last."""
        return [
            *self._address(pointer), Insn(LOAD[8], scratch, pointer), *self._last(pointer, scratch)
        ]  # fmt: skip

    def _address(self, pointer: int) -> list[Insn]:
        return [
            Insn(bpf.LD_IMM64, pointer, bpf.PSEUDO_MAP_VALUE, imm=self.fd.fileno()), Insn(0)
        ]  # fmt: skip

    def _last(self, pointer: int, scratch: int) -> list[Insn]:
        return [
            Insn(_AND, scratch, imm=(self.entries - 1) * self.size),
            Insn(_ADD_REG, pointer, scratch),
        ]
