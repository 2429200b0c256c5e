"""Which members share a program, and which are laid into the dispatcher: by the limits of the kernel's verifier."""

from collections.abc import Sequence
from typing import NamedTuple

from netbpf._sys.info import map_info
from netbpf.bpf import insn as bpf
from netbpf.bpf.chain.inline import frame, has_tail_calls, inlined
from netbpf.bpf.chain.part import Part
from netbpf.errors import NotSupportedError

MAX_MAPS = 64  # of a program: MAX_USED_MAPS, include/linux/bpf.h
MAX_FUNCTIONS = 256  # of a program: BPF_MAX_SUBPROGS, include/linux/bpf_verifier.h
MAX_STACK = 512  # bytes of all functions in a row of calls: MAX_BPF_STACK
MAX_BEFORE_TAIL_CALL = (
    256  # bytes of the callers of a function that has tail calls (check_max_stack_depth)
)
MAX_TAIL_CALLS = 33  # that a packet makes in all: MAX_TAIL_CALL_CNT, include/linux/bpf.h
_LAID_IN = 24_000  # instructions of all members that are laid in: jumps reach 32767
_OWN_MAPS = 3  # the counters, their key, and the array with the next program
_TAP_MAPS, _TAP_FUNCTIONS = 2, 4  # of each tap
_KEY = 8  # bytes of stack that the key takes if it is there


class Shape:
    """What is known of a member before the verifier looks at it. Stack is as the code says it, and may be wrong."""

    def __init__(self, part: Part) -> None:
        self.part = part
        image = part.image
        self.size = len(image.insns) // bpf.SIZE
        self.functions = len(image.functions)
        alone = self.functions == 1
        self.can_be_laid_in = alone and inlined(image.insns) is not None
        self.stack = _rows(part) if not alone else rounded(frame(image.insns))
        self.tail_calls = has_tail_calls(image.insns)


def _rows(part: Part) -> int:
    """Bytes of stack of a member with functions, as if each called the next: more than there is, seldom much."""
    placed = sorted(one.at for one in part.image.functions)
    ends = [*placed[1:], len(part.image.insns) // bpf.SIZE]
    code = part.image.insns
    return sum(
        rounded(frame(code[start * bpf.SIZE : end * bpf.SIZE]))
        for start, end in zip(placed, ends, strict=True)
    )


def rounded(stack: int) -> int:
    """Bytes the verifier counts for a function that uses ``stack`` bytes (with JIT, since Linux 6.8; before: 32)."""
    return stack + -stack % 16


class Layout(NamedTuple):
    """How members share a program: the positions of those laid in, and whether the key is on the stack."""

    inline: tuple[int, ...]
    stack_key: bool = True


def lay_out(shapes: Sequence[Shape]) -> Layout | None:
    """What to lay in; None where these members do not fit together on one stack.

    All that can be, but those with the largest frames: what lies in the dispatcher is there while others are called.
    """
    able = [number for number, one in enumerate(shapes) if one.can_be_laid_in]
    while able and sum(shapes[number].size for number in able) > _LAID_IN:
        able.pop()
    for key in (_KEY, 0):
        for largest in sorted({shapes[number].stack for number in able} | {-1}, reverse=True):
            chosen = tuple(number for number in able if shapes[number].stack <= largest)
            called = [one for number, one in enumerate(shapes) if number not in set(chosen)]
            own = rounded(max([shapes[number].stack for number in chosen] + [key]))
            deepest = max((one.stack for one in called), default=0)
            if own + deepest <= MAX_STACK and (
                own < MAX_BEFORE_TAIL_CALL or not any(one.tail_calls for one in called)
            ):
                return Layout(chosen, bool(key))
    return None


def segments(parts: Sequence[Part], taps: int = 0) -> list[list[Shape]]:
    """The members in running order, cut where the next would not fit into the same program.

    There have to be maps and functions left for ``taps`` of them. NotSupportedError for a member that does not fit
    into any.
    """
    shapes = [Shape(one) for one in parts]
    if _fit(shapes, taps):
        return [shapes]
    found: list[list[Shape]] = [[]]
    for one in shapes:
        _check_alone(one, taps)
        if found[-1] and not _fit([*found[-1], one], taps):
            found.append([])
        found[-1].append(one)
    return found


def _fit(shapes: Sequence[Shape], taps: int) -> bool:
    functions = 1 + sum(one.functions for one in shapes) + taps * _TAP_FUNCTIONS
    maps = maps_of(shapes) + _OWN_MAPS + taps * _TAP_MAPS
    if functions > MAX_FUNCTIONS or maps > MAX_MAPS:
        return False
    # One member that seems to use too much stack is the verifier's matter.
    return len(shapes) == 1 or lay_out(shapes) is not None


def maps_of(shapes: Sequence[Shape]) -> int:
    """How many maps members use; one that several share counts once."""
    fds = {
        bpf.read(one.part.image.insns, ref.at).imm for one in shapes for ref in one.part.image.maps
    }
    if len(fds) + _OWN_MAPS <= MAX_MAPS:
        return len(fds)
    return len({map_info(fd).id for fd in fds})


def _check_alone(one: Shape, taps: int) -> None:
    part, most = one.part, MAX_MAPS - _OWN_MAPS - taps * _TAP_MAPS
    if maps_of([one]) > most:
        raise part.blamed(
            NotSupportedError(
                f"{part.shown} uses {maps_of([one])} maps; a member of a chain may use {most}",
                hint="merge maps, or attach it where it runs alone",
            )
        )
    functions = MAX_FUNCTIONS - 1 - taps * _TAP_FUNCTIONS
    if one.functions > functions:
        raise part.blamed(
            NotSupportedError(
                f"{part.shown} has {one.functions} functions; a member of a chain may have {functions}",
                hint="let the compiler inline some of them (static inline, or no __noinline)",
            )
        )
