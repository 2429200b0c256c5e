"""The dispatcher's own instructions.

What was measured (BPF_PROG_TEST_RUN, Linux 6.18 on a VM): counting with load, add and store costs nothing beside the
call; with ``lock add`` 4 to 5 ns a member. The key of the counters on the stack is the cheapest. It takes 16 bytes of
the 512 that a row of calls has; members that need them all find the key in a map, for half a nanosecond a packet.

Plain adds are exact where nothing can come between the load and the store of one CPU's counter. XDP and TC run in
softirq, or with softirqs disabled, and the program stays on its CPU; what runs inside a member (bpf_clone_redirect to
the same device) is over before the member's verdict is counted. With PREEMPT_RT softirqs are threads that may preempt
each other, so there the add is atomic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from netbpf.bpf import insn as bpf
from netbpf.bpf.chain.inline import CONTEXT, COUNTERS
from netbpf.bpf.chain.verdicts import COUNTER, Layout
from netbpf.bpf.insn import Insn

MAP_LOOKUP, TAIL_CALL = 1, 12  # BPF_FUNC_*
_JA, _JNE, _JLT32, _JNE32, _JEQ32, _JGE32 = 0x05, 0x55, 0xA6, 0x56, 0x16, 0x36
_MOV32_REG, _MOV32_IMM, _ADD32_IMM = 0xBC, 0xB4, 0x04
_ADD_IMM, _ADD_REG, _SHIFT_LEFT = 0x07, 0x0F, 0x67
_LOAD64, _STORE64, _STORE32_IMM = 0x79, 0x7B, 0x62
_ATOMIC64, _ATOMIC_ADD = 0xDB, 0x00
R0, R1, R2, R3, FRAME = 0, 1, 2, 3, 10


@dataclass(frozen=True, slots=True)
class Step:
    """What the dispatcher needs to know of one member.

    ``proceed`` are verdicts as the program returns them, the usual one first; ``slot`` is where it counts;
    ``code`` is laid in place, or called if None.
    """

    proceed: tuple[int, ...]
    slot: int
    code: bytes | bytearray | None = None


@dataclass(frozen=True, slots=True)
class Taps:
    """What looks at the packets: the numbers of taps, of all that a tap of the whole hook sees, and by step.

    ``entered`` is False for a program to which another one has jumped: that one has called the first functions.
    ``who`` are the numbers by which the steps are told apart in what taps write.
    """

    hook: tuple[int, ...] = ()
    steps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    entered: bool = True
    who: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Onward:
    """Where packets go that every step hands on: the program at ``index`` of a PROG_ARRAY.

    ``lost`` is the verdict where the array has been emptied.
    """

    array_fd: int
    index: int
    lost: int


@dataclass(slots=True)
class Dispatcher:
    """Assembled code: ``calls`` are the places of call instructions by step; ``taps`` those of calls of a tap's
    function (place, tap, function); ``places`` where each step's own code begins and ends, if it is laid in.
    """

    code: bytearray = field(default_factory=bytearray)
    calls: dict[int, int] = field(default_factory=dict)
    taps: list[tuple[int, int, str]] = field(default_factory=list)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)


def assemble(
    steps: Sequence[Step],
    counters_fd: int | None,
    layout: Layout,
    *,
    key_fd: int | None = None,
    atomic: bool = False,
    onward: Onward | None = None,
    taps: Taps | None = None,
    empty: int = 0,
) -> Dispatcher:
    """The dispatcher: look up this CPU's counters once, then step by step, the rare verdicts at the end.

    ``key_fd`` is an ARRAY whose value is the key 0, for a dispatcher without stack; ``atomic`` adds with a locked
    instruction. Calls still need their targets. Without counters there is one step at most, and ``empty`` is the
    verdict without any: that is for ``taps``, which look on.
    """
    return _Assembler(layout, atomic=atomic, taps=taps or Taps()).run(
        steps, counters_fd, key_fd, onward, empty
    )


class _Assembler:
    def __init__(self, layout: Layout, *, atomic: bool, taps: Taps) -> None:
        self.layout = layout
        self.atomic = atomic
        self.taps = taps
        self.out = Dispatcher()
        self.jumps: list[tuple[int, str]] = []
        self.labels: dict[str, int] = {}

    @property
    def here(self) -> int:
        return len(self.out.code) // bpf.SIZE

    def put(self, *instructions: Insn) -> None:
        for one in instructions:
            self.out.code += one.pack()

    def jump(self, one: Insn, label: str) -> None:
        self.jumps.append((self.here, label))
        self.put(one)

    def run(
        self,
        steps: Sequence[Step],
        counters_fd: int | None,
        key_fd: int | None,
        onward: Onward | None,
        empty: int,
    ) -> Dispatcher:
        self.put(Insn(bpf.MOV64_REG, CONTEXT, R1))
        if counters_fd is not None:
            self._prologue(counters_fd, key_fd)
        if self.taps.entered:
            self._enter(self.taps.hook)
        if counters_fd is None:
            assert len(steps) <= 1
            self.put(Insn(bpf.MOV64_IMM, R0, imm=empty)) if not steps else self._run(0, steps[0])
            self._exit(0 if steps else None)
        else:
            self._counted(steps, onward)
        if self.taps.hook:
            self._out()
        for at, label in self.jumps:
            one = bpf.read(self.out.code, at)
            bpf.write(self.out.code, at, one._replace(off=self.labels[label] - at - 1))
        return self.out

    def _counted(self, steps: Sequence[Step], onward: Onward | None) -> None:
        for number, step in enumerate(steps):
            self._step(number, step)
        if onward:
            self._leave(onward)
        self._exit(None if onward else len(steps) - 1)
        for number, step in enumerate(steps):
            self._rare(number, step, last=number == len(steps) - 1 and not onward)

    def _prologue(self, counters_fd: int, key_fd: int | None) -> None:
        self.put(Insn(bpf.LD_IMM64, R1, bpf.PSEUDO_MAP_FD, imm=counters_fd), Insn(0))
        if key_fd is None:
            self.put(
                Insn(_STORE32_IMM, FRAME, off=-4),
                Insn(bpf.MOV64_REG, R2, FRAME),
                Insn(_ADD_IMM, R2, imm=-4),
            )
        else:
            self.put(Insn(bpf.LD_IMM64, R2, bpf.PSEUDO_MAP_VALUE, imm=key_fd), Insn(0))
        self.put(Insn(bpf.CALL, imm=MAP_LOOKUP))
        # The one value of the map is always there, but older verifiers do not know.
        self.put(Insn(_JNE, R0, off=1), Insn(bpf.EXIT), Insn(bpf.MOV64_REG, COUNTERS, R0))

    # --- taps ---

    def _tap(self, tap: int, function: str) -> None:
        self.out.taps.append((self.here, tap, function))
        self.put(Insn(bpf.CALL, src=bpf.PSEUDO_CALL))

    def _enter(self, taps: Sequence[int]) -> None:
        for one in taps:
            self.put(Insn(bpf.MOV64_REG, R1, CONTEXT))
            self._tap(one, "enter")

    def _exit(self, number: int | None) -> None:
        """Leave with the verdict of a step, or of none."""
        if not self.taps.hook:
            self.put(Insn(bpf.EXIT))
            return
        who = 0 if number is None else self.taps.who[number]
        # The counters are not needed any more.
        self.put(Insn(_MOV32_IMM, COUNTERS, imm=_signed(who)))
        self.jump(Insn(_JA), "out")

    def _out(self) -> None:
        self.labels["out"] = self.here
        for one in self.taps.hook:
            self.put(Insn(bpf.MOV64_REG, R1, R0), Insn(bpf.MOV64_REG, R2, COUNTERS))
            self._tap(one, "leave")
        self.put(Insn(bpf.EXIT))

    # --- steps ---

    def _run(self, number: int, step: Step) -> None:
        taps = self.taps.steps.get(number, ())
        self._enter(taps)
        self.put(Insn(bpf.MOV64_REG, R1, CONTEXT))
        if step.code is None:
            self.out.calls[number] = self.here
            self.put(Insn(bpf.CALL, src=bpf.PSEUDO_CALL))
        else:
            begin = self.here
            self.out.code += step.code
            self.out.places[number] = (begin, self.here)
        for one in taps:
            who = _signed(self.taps.who[number])
            self.put(Insn(bpf.MOV64_REG, R1, R0), Insn(_MOV32_IMM, R2, imm=who))
            self._tap(one, "leave")

    def _step(self, number: int, step: Step) -> None:
        self._run(number, step)
        if step.proceed:
            usual = step.proceed[0]
            self.jump(Insn(_JNE32, R0, imm=usual), f"rare{number}")
            self._count(R1, COUNTERS, self._offset(step) + self.layout.index(usual) * COUNTER)
        else:
            # Always true: but the kernel refuses code that nothing seems to lead to, such as the next member's.
            self.jump(Insn(_JGE32, R0), f"rare{number}")
        self.labels[f"next{number}"] = self.here

    def _leave(self, onward: Onward) -> None:
        self.put(
            Insn(bpf.MOV64_REG, R1, CONTEXT),
            Insn(bpf.LD_IMM64, R2, bpf.PSEUDO_MAP_FD, imm=onward.array_fd), Insn(0),
            Insn(bpf.MOV64_IMM, R3, imm=onward.index),
            Insn(bpf.CALL, imm=TAIL_CALL),
            Insn(bpf.MOV64_IMM, R0, imm=onward.lost),
        )  # fmt: skip

    def _rare(self, number: int, step: Step, *, last: bool) -> None:
        """Any other verdict: count it under its own number, then go on or leave."""
        self.labels[f"rare{number}"] = self.here
        self.put(Insn(_MOV32_REG, R1, R0))
        if self.layout.shift:
            self.put(Insn(_ADD32_IMM, R1, imm=self.layout.shift))
        self.put(
            Insn(_JLT32, R1, off=1, imm=self.layout.count),
            Insn(_MOV32_IMM, R1, imm=self.layout.count - 1),
            Insn(_SHIFT_LEFT, R1, imm=3),
            Insn(_ADD_REG, R1, COUNTERS),
        )
        self._count(R2, R1, self._offset(step))
        if not last:
            for verdict in step.proceed[1:]:
                self.jump(Insn(_JEQ32, R0, imm=verdict), f"next{number}")
        self._exit(number)

    def _offset(self, step: Step) -> int:
        return step.slot * self.layout.stride

    def _count(self, work: int, base: int, offset: int) -> None:
        if self.atomic:
            self.put(
                Insn(bpf.MOV64_IMM, work, imm=1), Insn(_ATOMIC64, base, work, offset, _ATOMIC_ADD)
            )
            return
        self.put(
            Insn(_LOAD64, work, base, offset),
            Insn(_ADD_IMM, work, imm=1),
            Insn(_STORE64, base, work, offset),
        )


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number
