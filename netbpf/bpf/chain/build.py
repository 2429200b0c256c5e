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
from netbpf.bpf.chain.link import Linked, Options, link
from netbpf.bpf.chain.part import Part
from netbpf.bpf.chain.plan import Layout, Shape
from netbpf.bpf.chain.submit import Rejected, submit
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.bpf.tap.code import Functions
from netbpf.constants import Hook, MapFlag, MapType, TcAction, XdpAction
from netbpf.errors import NetbpfError, NotSupportedError, UsageError

ARRAY_NAME, KEY_NAME = "netbpf_onward", "netbpf_key"


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
    parts: Sequence[Part],
    hook: Hook,
    counters: Counters | None,
    *,
    description: object = None,
    taps: Sequence[Functions] = (),
) -> Chain:
    """Load the chain of ``parts``, which are in running order; each counts in its slot of ``counters``.

    ``description`` is kept with the program, for ``netbpf.bpf.chain.description.read``: anything that JSON takes.
    ``taps`` look on; with some of them there may be one part, or none, and no counters. The chain takes XDP frames in
    several buffers if every member does, see ``frags``.
    Raises VerifierError, NotSupportedError and ObjectError, which name the member, also as ``member`` (None where no
    single one is at fault); PermissionDeniedError; UsageError for two members with one slot.
    """
    if not parts and not taps:
        raise UsageError("a chain needs a member")
    if counters is None and len(parts) > 1:
        raise UsageError("a chain of several members counts")
    if len({one.slot for one in parts}) < len(parts):
        raise UsageError("two members of a chain cannot count in one slot")
    blame.refuse_unlinkable(parts, hook)
    said = ""
    if description is not None and counters:
        said = text(counters.id, description)
    with ExitStack() as opened:
        frags = all(one.takes_frags for one in parts)
        builder = _Builder(hook, counters, said, opened, frags=frags, taps=tuple(taps))
        return builder.run(plan.segments(parts, len(taps)))


class _Builder:
    """What it opens, but for the chain that it gives, is closed with ``opened``."""

    def __init__(
        self,
        hook: Hook,
        counters: Counters | None,
        said: str,
        opened: ExitStack,
        *,
        frags: bool,
        taps: tuple[Functions, ...],
    ) -> None:
        self.hook, self.counters, self.said, self.frags = hook, counters, said, frags
        self.taps = taps
        self.opened = opened
        self.key: Map | None = None
        # See dispatcher: there softirqs preempt each other.
        self.atomic = "PREEMPT_RT" in os.uname().version

    def run(self, segments: list[list[Shape]]) -> Chain:
        blame.refuse_tail_calls(segments)
        array: Map | None = None
        programs: list[Fd] = []
        while len(programs) < len(segments):
            position = len(programs)
            last = position == len(segments) - 1
            if array is None and not last:
                array = self._array()
            onward = self._onward(array, position, last=last)
            made = self._load(segments[position], onward, first=position == 0)
            if isinstance(made, Fd):
                self.opened.callback(made.close)
                programs.append(made)
                continue
            if len(segments[position]) < 2 or not blame.too_much(made):
                raise self._error(segments[position])
            middle = len(segments[position]) // 2
            halves = [segments[position][:middle], segments[position][middle:]]
            segments[position : position + 1] = halves
            blame.refuse_tail_calls(segments)
        for index, program in enumerate(programs[1:]):
            assert array is not None
            array.update(index.to_bytes(4, "little"), program.fileno().to_bytes(4, "little"))
        hold = (Map(array.fd.duplicate()),) if array else ()
        return Chain(programs[0].duplicate(), hold)

    def _array(self) -> Map:
        fd = sys_bpf.map_create(MapType.PROG_ARRAY, 4, 4, plan.MAX_TAIL_CALLS, name=ARRAY_NAME)
        return self.opened.enter_context(Map(fd))

    def _onward(self, array: Map | None, position: int, *, last: bool) -> Onward | None:
        if array is None or last:
            return None
        lost = XdpAction.ABORTED if self.hook is Hook.XDP else TcAction.SHOT
        return Onward(array.fd.fileno(), position, lost)

    def _load(
        self, shapes: Sequence[Shape], onward: Onward | None, *, first: bool = True
    ) -> Fd | Rejected:
        """Load with members laid in, and where the verifier refuses that, with all of them called."""
        layout = plan.lay_out(shapes)
        if layout and layout.inline:
            made = submit(self._linked(shapes, layout, onward, first=first))
            if isinstance(made, Fd):
                return made
        return submit(self._linked(shapes, _called(layout), onward, first=first))

    def _why(self, some: Sequence[Part]) -> Rejected | None:
        """Why a chain of some members is rejected; None if it is not."""
        shapes = [Shape(one) for one in some]
        made = self._load(shapes, None)
        if isinstance(made, Fd):
            made.close()
            return None
        # What is called is verified by itself, so the log of that says better who is at fault.
        made = submit(self._linked(shapes, _called(plan.lay_out(shapes)), None), explain=True)
        return made if isinstance(made, Rejected) else None

    def _linked(
        self, shapes: Sequence[Shape], layout: Layout, onward: Onward | None, *, first: bool = True
    ) -> Linked:
        options = Options(
            self.hook, self.counters.fileno() if self.counters else None, self.said, self.frags,
            self.atomic, None if layout.stack_key else self._key(), onward, self.taps, first,
        )  # fmt: skip
        return link([one.part for one in shapes], options, layout.inline)

    def _key(self) -> int:
        """The descriptor of a map whose value is the key of the counters, which nobody can change."""
        if self.key is None:
            flags = MapFlag.RDONLY_PROG
            fd = sys_bpf.map_create(MapType.ARRAY, 4, 4, 1, flags=flags, name=KEY_NAME)
            self.key = self.opened.enter_context(Map(fd))
            sys_bpf.map_freeze(fd.fileno())
        return self.key.fd.fileno()

    def _error(self, shapes: Sequence[Shape]) -> NetbpfError:
        if not shapes:
            return NotSupportedError(
                "the filter is too large for a program: the kernel's verifier gives up",
                hint="name networks instead of hosts, port ranges instead of ports",
            )
        return blame.error([one.part for one in shapes], self.hook, self._why)


def _called(layout: Layout | None) -> Layout:
    """With no member laid in."""
    return layout if layout and not layout.inline else Layout((), stack_key=False)
