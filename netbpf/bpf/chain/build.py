"""From members to a program in the kernel: laid in where that goes, called where it does not, cut where it must be."""

import os
from collections.abc import Sequence
from contextlib import ExitStack

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf.chain import blame, plan
from netbpf.bpf.chain.counters import Counters
from netbpf.bpf.chain.description import text
from netbpf.bpf.chain.dispatcher import Onward
from netbpf.bpf.chain.link import link
from netbpf.bpf.chain.part import Part
from netbpf.bpf.chain.plan import Shape
from netbpf.bpf.chain.submit import Rejected, submit
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.constants import Hook, MapType, TcAction, XdpAction
from netbpf.errors import NetbpfError, UsageError

ARRAY_NAME = "netbpf_onward"


class Chain(Program):
    """The program of a chain, to be attached like any other.

    ``hold`` are maps that somebody has to keep open or pinned for as long as the chain runs, and until the packets
    that are in it are through: the kernel empties a prog array when nobody does. It is () for a chain of one program;
    one whose members together use more maps than a program may (64) is several, which jump to each other. Where the
    array has been emptied, what would have gone on is dropped (XDP_ABORTED, TC_ACT_SHOT).
    """

    def __init__(self, fd: Fd, hold: tuple[Map, ...] = ()) -> None:
        """Takes over the descriptor and the maps."""
        super().__init__(fd)
        self.hold = hold

    def close(self) -> None:
        """Let go of it and of what it needs."""
        super().close()
        for one in self.hold:
            one.close()


def build(
    parts: Sequence[Part], hook: Hook, counters: Counters, *, description: object = None
) -> Chain:
    """Load the chain of ``parts``, which are in running order; each counts in its slot of ``counters``.

    ``description`` is kept with the program, for ``netbpf.bpf.chain.description.read``: anything that JSON takes.
    The chain takes XDP frames in several buffers if every member does, see ``frags``.
    Raises VerifierError, NotSupportedError and ObjectError, which name the member, also as ``member`` (None where no
    single one is at fault); PermissionDeniedError; UsageError for two members with one slot.
    """
    if not parts:
        raise UsageError("a chain needs a member")
    if len({one.slot for one in parts}) < len(parts):
        raise UsageError("two members of a chain cannot count in one slot")
    blame.refuse_unlinkable(parts, hook)
    said = "" if description is None else text(counters.id, description)
    with ExitStack() as opened:
        builder = _Builder(hook, counters, said, frags=all(one.takes_frags for one in parts))
        chain = builder.run(plan.segments(parts), opened)
        opened.pop_all()
    return chain


class _Builder:
    def __init__(self, hook: Hook, counters: Counters, said: str, *, frags: bool) -> None:
        self.hook, self.counters, self.said, self.frags = hook, counters, said, frags
        # See dispatcher: there softirqs preempt each other.
        self.atomic = "PREEMPT_RT" in os.uname().version

    def run(self, segments: list[list[Shape]], opened: ExitStack) -> Chain:
        array: Map | None = None
        programs: list[Fd] = []
        while len(programs) < len(segments):
            position = len(programs)
            last = position == len(segments) - 1
            if array is None and not last:
                array = _array(opened)
            made = self._load(segments[position], self._onward(array, position, last=last))
            if isinstance(made, Fd):
                opened.callback(made.close)
                programs.append(made)
            elif len(segments[position]) > 1 and blame.too_complex(made):
                middle = len(segments[position]) // 2
                halves = [segments[position][:middle], segments[position][middle:]]
                segments[position : position + 1] = halves
            else:
                raise self._error(made, segments[position])
            if len(segments) > plan.MAX_SEGMENTS:
                raise blame.too_many(len(segments))
        if array is None:
            return Chain(programs[0])
        for index, program in enumerate(programs[1:]):
            array.update(index.to_bytes(4, "little"), program.fileno().to_bytes(4, "little"))
            program.close()
        return Chain(programs[0], (array,))

    def _onward(self, array: Map | None, position: int, *, last: bool) -> Onward | None:
        if array is None or last:
            return None
        lost = XdpAction.ABORTED if self.hook is Hook.XDP else TcAction.SHOT
        return Onward(array.fd.fileno(), position, lost)

    def _load(self, shapes: Sequence[Shape], onward: Onward | None) -> Fd | Rejected:
        """Load with members laid in, and where the verifier refuses that, with all of them called."""
        chosen = plan.laid_in(shapes) or ()
        made = self._attempt(shapes, chosen, onward)
        if isinstance(made, Rejected) and chosen:
            # What is called is verified by itself: the verifier takes more of it, and says better what it refuses.
            called = self._attempt(shapes, (), onward)
            if isinstance(called, Fd) or not blame.stack(called):
                return called
        return made

    def _attempt(
        self, shapes: Sequence[Shape], chosen: Sequence[int], onward: Onward | None
    ) -> Fd | Rejected:
        parts = [one.part for one in shapes]
        return submit(
            link(
                parts, self.hook, self.counters.fileno(), inline=chosen, said=self.said,
                frags=self.frags, atomic=self.atomic, onward=onward,
            )
        )  # fmt: skip

    def _error(self, made: Rejected, shapes: Sequence[Shape]) -> NetbpfError:
        def attempt(some: Sequence[Part]) -> Rejected | None:
            result = self._load([Shape(one) for one in some], None)
            if isinstance(result, Rejected):
                return result
            result.close()
            return None

        return blame.error(made, [one.part for one in shapes], self.hook, attempt)


def _array(opened: ExitStack) -> Map:
    fd = sys_bpf.map_create(MapType.PROG_ARRAY, 4, 4, plan.MAX_SEGMENTS, name=ARRAY_NAME)
    made = Map(fd)
    opened.callback(made.close)
    return made
