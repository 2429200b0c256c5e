"""Where control goes in a program, and which registers hold something that is still needed there.

Blocks and edges are those of the instructions, before the verifier removes what it knows to be dead. A block ends where
control may leave it: at a jump, at an exit, and behind what may not come back (a tail call, the old loads from the
packet, which end the program when they read behind its end, and ``bpf_throw``).
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover import registers
from netbpf.bpf.cover.registers import ALL
from netbpf.bpf.disasm import branch_target, falls_through

_CLASS, _MODE, _LD, _ABS, _IND = 0x07, 0xE0, 0x00, 0x20, 0x40
_TAIL_CALL = 12  # BPF_FUNC_tail_call


class Kind(Enum):
    """How control gets along an edge. All but FLOW are counted; what goes along FLOW follows from them."""

    ENTRY = "entry"  # into a function, from wherever
    TAKEN = "taken"
    NOT_TAKEN = "not taken"
    ON = "on"  # behind what may not come back
    FLOW = "flow"


class Block(NamedTuple):
    """Instructions ``start`` to ``end`` (excluded) that run one after the other."""

    start: int
    end: int
    function: int


class Edge(NamedTuple):
    """From block ``source`` (-1: from outside) to block ``target``; ``at`` is the instruction that decides, or -1."""

    kind: Kind
    source: int
    target: int
    at: int


class Unknown(Exception):  # noqa: N818 - nothing that anybody sees
    """The code is not what the kernel would take: a jump out of its function, a call into the middle of one."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The control flow of a whole program. ``functions`` are where they begin, in order; indexes count slots.

    ``free`` are registers (as bits) that hold nothing needed at the beginning of each block, ``held`` those that
    certainly hold something there.
    """

    functions: tuple[int, ...]
    blocks: tuple[Block, ...]
    edges: tuple[Edge, ...]
    entering: tuple[tuple[int, ...], ...]  # by block: its edges
    deciding: frozenset[int]  # instructions that choose among edges, or may go along none
    free: tuple[int, ...]
    held: tuple[int, ...]

    def counted(self) -> list[int]:
        """The edges that tell all the others."""
        return [number for number, one in enumerate(self.edges) if one.kind is not Kind.FLOW]


def analyse(
    code: bytes | bytearray, functions: Collection[int], throws: Collection[int] = ()
) -> Flow:
    """The flow of ``code`` with functions at these instructions; ``throws`` are calls that never come back.

    Raises Unknown for code that the kernel would not take either.
    """
    return _Analysis(code, sorted(functions), frozenset(throws)).run()


class _Analysis:
    def __init__(
        self, code: bytes | bytearray, functions: list[int], throws: frozenset[int]
    ) -> None:
        self.count = len(code) // bpf.SIZE
        self.functions, self.throws = functions, throws
        # An exception leaves the functions that called, too: they do not go on behind the call.
        self.careful = bool(throws)
        self.insns: dict[int, bpf.Insn] = {}
        index = 0
        while index < self.count:
            one = self.insns[index] = bpf.read(code, index)
            index += 2 if one.code == bpf.LD_IMM64 else 1

    def run(self) -> Flow:
        blocks = self._blocks()
        edges = self._edges(blocks)
        entering: list[list[int]] = [[] for _ in blocks]
        leaving: list[list[int]] = [[] for _ in blocks]
        for number, one in enumerate(edges):
            entering[one.target].append(number)
            if one.source >= 0:
                leaving[one.source].append(one.target)
        code = [self._each(one) for one in blocks]
        sources = [[edges[e].source for e in each] for each in entering]
        needed = registers.needed(code, leaving)
        maybe = registers.written(code, sources, certainly=False)
        surely = registers.written(code, sources, certainly=True)
        return Flow(
            tuple(self.functions), tuple(blocks), tuple(edges), tuple(map(tuple, entering)),
            frozenset(one.at for one in edges if one.at >= 0 and one.kind is not Kind.FLOW),
            # What was never written since the last call cannot be read, whatever a call seems to read.
            tuple(ALL & ~(need & may) for need, may in zip(needed, maybe, strict=True)),
            tuple(ALL & one for one in surely),
        )  # fmt: skip

    # --- blocks ---

    def may_stay_away(self, index: int, one: bpf.Insn) -> bool:
        """Whether the next instruction may not follow though this one is no jump."""
        if one.code == bpf.CALL:
            return self.careful or (one.src == 0 and one.imm == _TAIL_CALL)
        return one.code & _CLASS == _LD and one.code & _MODE in (_ABS, _IND)

    def _blocks(self) -> list[Block]:
        starts = set(self.functions)
        ends = [*self.functions[1:], self.count]
        for number, (first, end) in enumerate(zip(self.functions, ends, strict=True)):
            for index in range(first, end):
                one = self.insns.get(index)
                if one is None:
                    continue
                target = branch_target(index, one)
                if target is not None:
                    if not first <= target < end or target not in self.insns:
                        raise Unknown(f"instruction {index} jumps to {target}")
                    starts.add(target)
                stops = not falls_through(one) or index in self.throws
                after = index + (2 if one.code == bpf.LD_IMM64 else 1)
                if stops or target is not None or self.may_stay_away(index, one):
                    starts.add(after)
                if after >= end and not stops:
                    raise Unknown(f"function {number} does not end")
        inside = sorted(one for one in starts if one < self.count)
        blocks = []
        function = -1
        for start, end in zip(inside, [*inside[1:], self.count], strict=True):
            if function + 1 < len(self.functions) and start == self.functions[function + 1]:
                function += 1
            blocks.append(Block(start, end, function))
        return blocks

    def _last(self, block: Block) -> tuple[int, bpf.Insn]:
        index = block.end - 1
        # The second half of a 64-bit load is no instruction.
        index = index if index in self.insns else index - 1
        return index, self.insns[index]

    def _edges(self, blocks: list[Block]) -> list[Edge]:
        at = {one.start: number for number, one in enumerate(blocks)}
        found = [Edge(Kind.ENTRY, -1, at[first], -1) for first in self.functions]
        for number, block in enumerate(blocks):
            index, one = self._last(block)
            if index in self.throws:
                continue
            target = branch_target(index, one)
            falls = falls_through(one)
            if target is not None:
                kind = Kind.TAKEN if falls else Kind.FLOW
                found.append(Edge(kind, number, at[target], index))
            if falls:
                kind = Kind.FLOW
                if target is not None:
                    kind = Kind.NOT_TAKEN
                elif self.may_stay_away(index, one):
                    kind = Kind.ON
                found.append(Edge(kind, number, number + 1, index if kind is not Kind.FLOW else -1))
        return found

    def _each(self, block: Block) -> list[bpf.Insn]:
        return [self.insns[i] for i in range(block.start, block.end) if i in self.insns]
