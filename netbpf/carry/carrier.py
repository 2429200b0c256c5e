"""Carrying out a plan: maps made and filled, and, once the programs are swapped, what was gained meanwhile."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from netbpf.bpf.loader import make_maps
from netbpf.bpf.map import Map
from netbpf.carry.entries import EntriesMove
from netbpf.carry.merge import Times
from netbpf.carry.model import Plan, Report
from netbpf.carry.sections import SectionMove
from netbpf.carry.steps import EntriesStep, SectionStep
from netbpf.carry.waiting import wait_for_programs
from netbpf.errors import ObjectError

Move = SectionMove | EntriesMove


class Carrier:
    """Carries out a plan. Use it with ``with``, around loading and swapping; the plan's live maps stay open.

    ``maps`` are for ``load(reuse=...)``: maps that go on, and new ones that are to be filled. Then ``copy``, best
    directly before the swap, then the swap, then ``finish``. Without a swap nothing happens to the old maps, and
    the new ones go with their descriptors.

    What is promised of state gathered while the upgrade runs:

    - Maps that go on as they are (``carried``) lose nothing: both programs use the same ones.
    - Integers of 4 and 8 bytes, wherever they are moved to, end with every addition of both programs, each once, if
      the programs add atomically (``__sync_fetch_and_add``) or to per-CPU maps, or, with a spin lock in the value,
      under that lock. The old program's additions end with its last packet, for which ``finish`` waits (an RCU grace
      period); what it has added since the copy is then added in the kernel, atomically, per-CPU values on their CPU.
    - Entries that the old program made or, unless a map is LRU, deleted meanwhile are made or deleted.
    - Of all other values (smaller integers, flags, enums, bitfields, text, bytes) that of the program that changed it
      stands; where both did, the new one's, and the report says so. So it is for integers that went down.
    - A number of 8 bytes that both set to the time of one of the kernel's clocks is a time: the later one stands.

    Not exact is what is not exact without an upgrade either: ``x++`` in a global variable or a plain map from several
    CPUs at once loses counts by itself, and may lose what is being merged at that moment. And an integer that both
    programs wrote and that grew in both is taken for a counter, whatever it means. What old callbacks of timers write
    after ``finish`` is not seen.
    """

    def __init__(self, plan: Plan) -> None:
        """Make the new maps, empty but for initial values. Raises what ``netbpf.bpf.loader.make_maps`` raises."""
        self.plan = plan
        self.maps: dict[str, Map] = dict(plan.carried)
        self._moves: list[Move] = []
        self._started: tuple[int, ...] | None = None
        with ExitStack() as undo:
            made = make_maps(plan.spec, [one.name for one in plan.steps])
            for one in made.values():
                undo.callback(one.close)
            for step in plan.steps:
                self._moves.append(_move(step, made[step.name], plan))
            self.maps |= made
            self._opened = undo.pop_all()

    def copy(self) -> None:
        """Fill the new maps; once. Raises ObjectError for values that do not fit any more, KernelError."""
        if self._started is not None:
            raise ObjectError("the maps have been filled already")
        self._started = Times.now()
        for one in self._moves:
            one.copy()

    def finish(self) -> Report:
        """After the swap: wait for the old program to end, and merge what it has gained since ``copy``.

        Raises ObjectError where nothing was copied, KernelError.
        """
        if not self._moves:
            return Report()
        if self._started is None:
            raise ObjectError("the maps have not been filled")
        waited = wait_for_programs()
        times = Times.since(self._started)
        return Report(tuple(one.merge(times) for one in self._moves), waited)

    def close(self) -> None:
        """Let go of the new maps; those that a program uses stay."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _move(step: SectionStep | EntriesStep, new: Map, plan: Plan) -> Move:
    if isinstance(step, SectionStep):
        return SectionMove(step, new, plan.spec.btf)
    return EntriesMove(step, new, plan.spec.btf)
