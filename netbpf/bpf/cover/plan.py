"""What is put into a program so that it counts where it goes: probes, each on one edge of its flow.

Every function's entry and both sides of every branch get one, and what ran between follows from them. A probe adds to,
or sets, a number of 8 bytes in one array that the code addresses directly (Linux 5.2), in registers that hold nothing
there; where too few are free, it keeps some on the stack meanwhile. It calls nothing and branches nowhere, so that the
verifier knows afterwards what it knew before.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.flow import Edge, Flow, Kind
from netbpf.bpf.insn import Insn

_STORE64_IMM, _STORE64, _LOAD64, _ATOMIC64 = 0x7A, 0x7B, 0x79, 0xDB
_ADD, _AND, _ADD_REG = 0x07, 0x57, 0x0F
_FRAME: Final = 10
_ADD_ATOMIC: Final = 0  # BPF_ADD without BPF_FETCH
SLOT: Final = 8  # bytes
MAX_STACK: Final = 512  # bytes of a function: MAX_BPF_STACK
# Of the trace: as many entries of 8 bytes; a power of two. Before them the number of those written, in bytes.
TRACE_ENTRIES: Final = 1 << 15


class Level(Enum):
    """How much is counted, from most to least."""

    TRACE = "trace"  # the edges in the order in which control went along them, for one packet on one CPU
    COUNTS = "counts"
    HITS = "hits"  # reached or not
    FUNCTIONS = (
        "functions"  # which functions were reached, and what runs in them before the first branch
    )
    NOTHING = "nothing"

    @property
    def registers(self) -> int:
        """How many a probe needs."""
        return 2 if self in (Level.TRACE, Level.COUNTS) else 1


class Action(Enum):
    """What one probe does."""

    ADD = "add"
    SET = "set"
    LOG = "log"


_ACTIONS: Final = {Level.TRACE: Action.LOG, Level.COUNTS: Action.ADD}


@dataclass(frozen=True, slots=True)
class Probe:
    """On edge ``edge``; ``slot`` is its number in the array. ``spilled`` are registers kept on the stack meanwhile."""

    edge: int
    slot: int
    action: Action
    registers: tuple[int, ...]
    spilled: tuple[tuple[int, int], ...] = ()  # (register, offset from r10)

    def code(self) -> list[Insn]:
        """Its instructions; the descriptor of the array is filled in later, where ``fd_at`` says."""
        a = self.registers[0]
        out = [Insn(_STORE64, _FRAME, one, offset) for one, offset in self.spilled]
        where = 0 if self.action is Action.LOG else self.slot * SLOT
        out += [Insn(bpf.LD_IMM64, a, bpf.PSEUDO_MAP_VALUE), Insn(0, imm=where)]
        if self.action is Action.SET:
            out.append(Insn(_STORE64_IMM, a, imm=1))
        elif self.action is Action.ADD:
            b = self.registers[1]
            out += [Insn(bpf.MOV64_IMM, b, imm=1), Insn(_ATOMIC64, a, b, imm=_ADD_ATOMIC)]
        else:
            b = self.registers[1]
            out += [
                Insn(_LOAD64, b, a),
                Insn(_ADD, b, imm=SLOT),
                Insn(_STORE64, a, b),
                Insn(_AND, b, imm=(TRACE_ENTRIES - 1) * SLOT),
                Insn(_ADD_REG, a, b),
                Insn(_STORE64_IMM, a, off=SLOT, imm=self.slot),
            ]
        return out + [Insn(_LOAD64, one, _FRAME, offset) for one, offset in self.spilled]

    @property
    def fd_at(self) -> int:
        """The instruction of its code that names the array."""
        return len(self.spilled)


def size_of(level: Level, slots: int) -> int:
    """Bytes of the array."""
    return (TRACE_ENTRIES + 1) * SLOT if level is Level.TRACE else max(slots, 1) * SLOT


def place(
    flow: Flow, level: Level, first: int = 0, stacks: tuple[int, ...] | None = None
) -> tuple[list[Probe], bool]:
    """The probes of a level, numbered from ``first``, and whether all are there and do what the level says.

    ``stacks`` are the bytes of stack of each function, as the verifier counts them; without, no register is kept
    there. Where too few are free, counts become hits, and at last an edge goes without.
    """
    found: list[Probe] = []
    whole = True
    if level is Level.NOTHING:
        return found, whole
    for number in flow.counted():
        edge = flow.edges[number]
        if level is Level.FUNCTIONS and edge.kind is not Kind.ENTRY:
            continue
        stack = stacks[flow.blocks[edge.target].function] if stacks else None
        made = _probe(flow, edge, number, first + len(found), level, stack)
        if made is None or made.action is not _ACTIONS.get(level, Action.SET):
            whole = False
        if made:
            found.append(made)
    return found, whole


def _probe(
    flow: Flow, edge: Edge, number: int, slot: int, level: Level, stack: int | None
) -> Probe | None:
    # On its way into a function nothing is there but its arguments.
    free = [one for one in range(_FRAME) if flow.free[edge.target] >> one & 1]
    action = _ACTIONS.get(level, Action.SET)
    if len(free) >= level.registers:
        return Probe(number, slot, action, tuple(free[: level.registers]))
    missing = level.registers - len(free)
    held = [one for one in range(_FRAME) if flow.held[edge.target] >> one & 1 and one not in free]
    if stack is not None and len(held) >= missing:
        base = -(stack + -stack % SLOT)
        if -base + missing * SLOT <= MAX_STACK:
            spilled = tuple((one, base - SLOT * (at + 1)) for at, one in enumerate(held[:missing]))
            return Probe(number, slot, action, (*free, *held[:missing]), spilled)
    if free and action is Action.ADD:
        return Probe(number, slot, Action.SET, (free[0],))
    return None
