"""Small generated programs that bring a live map up to date in the kernel, while another program counts in it.

User space can only write whole values, and would undo what the program counted since it read them. So the merging is
done by a BPF program that touches single numbers, by atomic additions, in a map that is in use. BPF_PROG_TEST_RUN runs
it: within the RCU read side and with softirqs off, so on one CPU no packet comes between its instructions. What it is
to add lies in a map of its own.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import NamedTuple, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn
from netbpf.bpf.map import Map
from netbpf.constants import MapType, ProgType
from netbpf.errors import KernelError

MAX_EDITS = 4000  # in one program; each takes at most some dozens of instructions
_PACKET = bytes(64)
_LDX = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}
_STX = {1: 0x73, 2: 0x6B, 4: 0x63, 8: 0x7B}
_XADD = {4: 0xC3, 8: 0xDB}
_ADD_IMM, _AND_REG, _OR_REG, _JA, _JEQ_IMM, _JNE_REG, _JGE_REG = (
    0x07, 0x5F, 0x4F, 0x05, 0x15, 0x5D, 0x3D,
)  # fmt: skip
_LOOKUP, _LOCK, _UNLOCK, _LOOKUP_PERCPU = 1, 93, 94, 195  # enum bpf_func_id
_FOUND, _MISSING = 1, 2  # what the program returns


class How(Enum):
    """ADD: atomically. SWAP: store if the old bytes are there. LATER: store if it is more (an unsigned 8-byte time)."""

    ADD = auto()
    SWAP = auto()
    LATER = auto()


class Edit(NamedTuple):
    """One change at a byte of a value. For SWAP, ``mask`` (as long as it is wide) says which bits count."""

    how: How
    offset: int
    size: int
    mask: bytes = b""


def operand(edit: Edit, value: int | bytes, expected: bytes = b"") -> bytes:
    """What the program needs to know for one edit: the addend or time, or expected and new bytes."""
    if isinstance(value, int):
        return (value & ((1 << 64) - 1)).to_bytes(8, "little")
    return b"".join(
        part[at : at + size].ljust(8, b"\0")
        for at, size in _words(edit)
        for part in (expected, value)
    )


def _words(edit: Edit) -> Iterator[tuple[int, int]]:
    """The pieces of a SWAP: naturally aligned, or single bytes where bits count."""
    at = 0
    while at < edit.size:
        size = 1 if edit.mask else next(
            size for size in (8, 4, 2, 1)
            if (edit.offset + at) % size == 0 and at + size <= edit.size
        )  # fmt: skip
        yield at, size
        at += size


def _operand_size(edit: Edit) -> int:
    return 16 * sum(1 for _ in _words(edit)) if edit.how is How.SWAP else 8


@dataclass(frozen=True, slots=True)
class _Code:
    """r6: the value. r7: a place in it. r8: operands. r9: the parameters."""

    edits: Sequence[Edit]
    lock: int | None
    key_size: int
    per_cpu: bool

    @property
    def parameters(self) -> int:
        """Bytes of the parameters: the key, a CPU, then the operands."""
        return self.operands_at + sum(map(_operand_size, self.edits))

    @property
    def operands_at(self) -> int:
        return ((self.key_size + 7) & ~7) + 8

    def build(self, target: int, parameters: int) -> bytes:
        code = [
            Insn(bpf.LD_IMM64, 9, bpf.PSEUDO_MAP_VALUE, 0, parameters), Insn(0),
            Insn(bpf.LD_IMM64, 1, bpf.PSEUDO_MAP_FD, 0, target), Insn(0),
            Insn(bpf.MOV64_REG, 2, 9),
        ]  # fmt: skip
        if self.per_cpu:
            code.append(Insn(_LDX[4], 3, 9, self.operands_at - 8))
        code += [
            Insn(bpf.CALL, imm=_LOOKUP_PERCPU if self.per_cpu else _LOOKUP),
            Insn(_JEQ_IMM, 0, 0, 1, 0),
            Insn(_JA, off=2),
            Insn(bpf.MOV64_IMM, 0, imm=_MISSING),
            Insn(bpf.EXIT),
            Insn(bpf.MOV64_REG, 6, 0),
        ]
        if self.lock is not None:
            code += self._call_with_lock(_LOCK)
        at = self.operands_at
        for one in self.edits:
            code += [
                Insn(bpf.MOV64_REG, 7, 6), Insn(_ADD_IMM, 7, imm=one.offset),
                Insn(bpf.MOV64_REG, 8, 9), Insn(_ADD_IMM, 8, imm=at),
            ]  # fmt: skip
            code += _edit(one)
            at += _operand_size(one)
        if self.lock is not None:
            code += self._call_with_lock(_UNLOCK)
        code += [Insn(bpf.MOV64_IMM, 0, imm=_FOUND), Insn(bpf.EXIT)]
        return b"".join(one.pack() for one in code)

    def _call_with_lock(self, function: int) -> list[Insn]:
        assert self.lock is not None
        return [
            Insn(bpf.MOV64_REG, 1, 6), Insn(_ADD_IMM, 1, imm=self.lock), Insn(bpf.CALL, imm=function),
        ]  # fmt: skip


def _edit(one: Edit) -> list[Insn]:
    if one.how is How.ADD:
        load = Insn(_LDX[8], 1, 8, 0)
        if one.offset % one.size == 0:
            return [load, Insn(_XADD[one.size], 7, 1, 0)]
        # The verifier wants atomic operations aligned; in a packed struct nobody else has one either.
        add = Insn(0x0F, 2, 1)
        return [load, Insn(_LDX[one.size], 2, 7, 0), add, Insn(_STX[one.size], 7, 2, 0)]
    if one.how is How.LATER:
        return [
            Insn(_LDX[8], 1, 8, 0), Insn(_LDX[8], 2, 7, 0),
            Insn(_JGE_REG, 2, 1, 1), Insn(_STX[8], 7, 1, 0),
        ]  # fmt: skip
    checks: list[list[Insn]] = []
    stores: list[Insn] = []
    for number, (at, size) in enumerate(_words(one)):
        mask = one.mask[at] if one.mask else 0
        check = [Insn(_LDX[size], 1, 7, at), Insn(_LDX[8], 2, 8, 16 * number)]
        store = [Insn(_LDX[8], 2, 8, 16 * number + 8)]
        if one.mask:
            check += [Insn(bpf.MOV64_IMM, 3, imm=mask), Insn(_AND_REG, 1, 3)]
            store += [
                Insn(_LDX[size], 1, 7, at), Insn(bpf.MOV64_IMM, 3, imm=0xFF & ~mask),
                Insn(_AND_REG, 1, 3), Insn(_OR_REG, 2, 1),
            ]  # fmt: skip
        checks.append([*check, Insn(_JNE_REG, 1, 2)])
        stores += [*store, Insn(_STX[size], 7, 2, at)]
    code: list[Insn] = []
    left = sum(map(len, checks))
    for each in checks:
        left -= len(each)
        code += [*each[:-1], each[-1]._replace(off=left + len(stores))]
    return code + stores


class Adder:
    """Makes the same edits, with operands of their own, in entries of one live map. Close it, or use it with ``with``.

    ``lock`` is where its values have a spin lock. For a per-CPU map ``run`` changes the value of one CPU.
    """

    def __init__(self, target: Map, edits: Sequence[Edit], lock: int | None = None) -> None:
        """Load the program. Raises KernelError where the kernel does not take it."""
        self.target, self.edits = target, edits
        self._code = _Code(edits, lock, target.info.key_size, per_cpu=False)
        self._far = _Code(edits, lock, target.info.key_size, per_cpu=True)
        self._parameters = sys_bpf.map_create(
            MapType.ARRAY, 4, self._code.parameters, 1, name="netbpf_merge"
        )
        self._programs: dict[bool, Fd] = {}
        try:
            self._program(far=False)
        except BaseException:
            self.close()
            raise

    def _program(self, *, far: bool) -> Fd:
        if far not in self._programs:
            code = (self._far if far else self._code).build(
                self.target.fd.fileno(), self._parameters.fileno()
            )
            spec = sys_bpf.ProgLoad(ProgType.XDP, code, license="GPL", name="netbpf_merge")
            fd, number, _ = sys_bpf.prog_load(spec)
            if fd is None:
                raise KernelError("BPF_PROG_LOAD", number, "a program that merges counters")
            self._programs[far] = fd
        return self._programs[far]

    def run(
        self, key: bytes, operands: Sequence[bytes], cpu: int | None = None, *, far: bool = False
    ) -> bool:
        """Make the edits in the entry of a key; whether it is there.

        ``cpu`` is that whose value is meant, in a per-CPU map. A CPU's own programs count without atomic additions,
        which is exact only if nobody else's come in between: so this has to run there (``on_cpu``), and with ``far``
        only from elsewhere, where this process may not go there or the CPU is off (Linux 5.19).
        """
        head = key.ljust(self._code.operands_at - 8, b"\0") + (cpu or 0).to_bytes(8, "little")
        sys_bpf.map_update(self._parameters.fileno(), bytes(4), head + b"".join(operands))
        done = sys_bpf.prog_test_run(self._program(far=far).fileno(), _PACKET)
        return done.retval == _FOUND

    def close(self) -> None:
        """Let go of the program."""
        for one in self._programs.values():
            one.close()
        self._parameters.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def on_cpu(number: int) -> Iterator[bool]:
    """Run on one CPU; whether that works: it may be off, or not among those this process may use."""
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {number})
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setaffinity(0, allowed)
