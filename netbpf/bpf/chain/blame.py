"""Which member a rejection is about, why, and what would help."""

import errno
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf import rejection
from netbpf.bpf.chain.link import GPL_COMPATIBLE
from netbpf.bpf.chain.part import Part
from netbpf.bpf.chain.plan import MAX_TAIL_CALLS, Shape
from netbpf.bpf.chain.submit import Rejected
from netbpf.bpf.loader import load
from netbpf.bpf.map import Map
from netbpf.bpf.sections import fits
from netbpf.constants import Hook
from netbpf.errors import NetbpfError, NotSupportedError, ObjectError, VerifierError
from netbpf.explain.log import parse
from netbpf.explain.model import CodeLine, RejectedCode
from netbpf.text import escape

Why = Callable[[Sequence[Part]], Rejected | None]

_GPL_ONLY = re.compile(r"cannot call GPL-restricted function from non-GPL compatible program")
_DEPTH = re.compile(r"the call stack of \d+ frames is too deep")
_STACK = re.compile(r"combined stack size of \d+ calls is \d+|call stack of previous frames")
_TAIL = 1 << 16  # characters at the end of a log that say why
_TYPE_ID_LOCAL = 6  # BPF_CORE_TYPE_ID_LOCAL


def too_much(rejected: Rejected) -> bool:
    """Whether the verifier gave up because there is too much of something in all: fewer members may go."""
    return rejected.errno == errno.E2BIG


def refuse_tail_calls(segments: Sequence[Sequence[Shape]]) -> None:
    """NotSupportedError for a chain in which a tail call would do nothing.

    A packet has 33 tail calls, all members together; the jumps between the programs of a large chain are some.
    """
    left = MAX_TAIL_CALLS - (len(segments) - 1)
    if left < 0:
        raise NotSupportedError(
            f"the chain is too large: its members take {len(segments)} programs, and a packet makes "
            f"{MAX_TAIL_CALLS} tail calls at most",
            hint="members that share maps, or fewer members, make it smaller",
        )
    jumping = [one.part for shapes in segments for one in shapes if one.tail_calls]
    if len(jumping) > left:
        raise jumping[left].blamed(
            NotSupportedError(
                f"{jumping[left].shown} may be left without its tail call: a packet makes {MAX_TAIL_CALLS} in all, and "
                f"{left} members before this one make some",
                hint="have fewer members with tail calls on one hook",
            ),
        )


def refuse_unlinkable(parts: Sequence[Part], hook: Hook) -> None:
    """What is known before the kernel is asked. NotSupportedError or ObjectError that names the member."""
    for one in parts:
        if not fits(one.program.declared, hook):
            raise one.blamed(
                ObjectError(
                    f"{one.shown} is no program for {hook}: its section is {escape(one.program.section)}",
                    hint="programs of devmap and cpumap entries run there, not on a hook",
                )
            )
        if any(ref.name.partition("___")[0] == "bpf_throw" for ref in one.image.externs):
            raise one.blamed(
                NotSupportedError(
                    f"{one.shown} cannot be linked: its bpf_throw() would leave the whole chain, not the member",
                    hint="return a verdict instead, or attach it where it runs alone",
                ),
            )


def error(parts: Sequence[Part], hook: Hook, why: Why) -> NetbpfError:
    """The error for a chain of ``parts`` that was rejected; ``why`` says of some of them why they are, or None."""
    part, beside, rejected, chain = _culprit(parts, why)
    if rejected is None:
        return NetbpfError("the kernel refused the chain, and then it did not", hint="try again")
    if not beside and not too_much(rejected) and (alone := _alone(part, hook)):
        return part.blamed(alone)
    return part.blamed(_explained(part, beside, rejected, chain, hook))


def _culprit(parts: Sequence[Part], why: Why) -> tuple[Part, int, Rejected | None, Sequence[Part]]:
    """The member at fault, how many it needs beside it for that, its rejection, and the chain that was rejected."""
    rejected = why(parts)
    if len(parts) == 1 or rejected is None:
        return parts[0], 0, rejected, parts
    if _GPL_ONLY.search(rejected.log[-_TAIL:]):
        caller = _suspects(rejected, parts)[0]
        return caller, 0 if caller.spec.license not in GPL_COMPATIBLE else 1, rejected, parts
    for one in _suspects(rejected, parts):
        if alone := why([one]):
            return one, 0, alone, [one]
    # Each goes by itself: the first with which it is too much.
    least, most = 1, len(parts)
    while most - least > 1:
        middle = (least + most) // 2
        if found := why(parts[:middle]):
            most, rejected = middle, found
        else:
            least = middle
    return parts[most - 1], most - 1, rejected, parts[:most]


def _suspects(rejected: Rejected, parts: Sequence[Part]) -> list[Part]:
    """All members, the one first whose code the verifier looked at last."""
    last = parse(rejected.log).last
    starts = rejected.linked.starts
    index = bisect_right(starts, last.insn, key=lambda one: one[0]) - 1 if last else 0
    number = starts[index][1]
    return [*parts[number : number + 1], *parts] if number >= 0 else list(parts)


def _alone(part: Part, hook: Hook) -> NetbpfError | None:
    """What is wrong with a member that does not load by itself either, with the maps it has."""
    with ExitStack() as opened:
        maps = {
            ref.map: opened.enter_context(Map(Fd(os.dup(bpf.read(part.image.insns, ref.at).imm))))
            for ref in part.image.maps
            if not _names_types(
                part
            )  # its maps would hold objects of the types they were made with
        }
        try:
            load(part.spec, part.program, hook, reuse=maps).close()
        except (VerifierError, NotSupportedError) as error:
            error.message = f"member {escape(part.name)}: {error.message}"
            error.args = (error.message,)
            return error
    return None


def _explained(
    part: Part, beside: int, rejected: Rejected, parts: Sequence[Part], hook: Hook
) -> NetbpfError:
    tail = rejected.log[-_TAIL:]
    if _GPL_ONLY.search(tail):
        return _licenses(part, parts, rejected)
    if not rejection.reason(tail) and rejected.errno == errno.EINVAL and Shape(part).tail_calls:
        return _prog_array(part)
    others = f" behind {beside} others" if beside > 1 else " behind another" if beside else ""
    found = rejection.explain(
        part.shown + others, rejected.linked.request, rejected.errno, rejected.log
    )
    if not isinstance(found, VerifierError):
        return found
    found = rejection.taught(
        found, part.shown + others, code_of(rejected, parts, hook), types_refused=False
    )
    remark = _remark(part, beside, tail)
    if remark:
        found.hint = f"{remark}; {found.hint}" if found.hint else remark
    return found


def _remark(part: Part, beside: int, tail: str) -> str:
    """What is so only in a chain, where it loads by itself."""
    if beside:
        return ""
    if _DEPTH.search(tail):
        return "alone it loads; in a chain the dispatcher is one of the 8"
    if _STACK.search(tail):
        return "alone it loads; in a chain the dispatcher is one more function in the row"
    if _names_types(part):
        return (
            "alone it loads; a chain has types of its own, so objects of the program's types (bpf_obj_new) do not fit "
            "into its maps"
        )
    return ""


def _names_types(part: Part) -> bool:
    """Whether its code names types of its object by number, as bpf_obj_new() does."""
    return any(relocation.kind == _TYPE_ID_LOCAL for _, relocation in part.image.relocations)


def _licenses(part: Part, parts: Sequence[Part], rejected: Rejected) -> NetbpfError:
    other = next(one for one in parts if one.spec.license not in GPL_COMPATIBLE)
    return VerifierError(
        f"{part.shown} calls a function that is for GPL programs only, and member {escape(other.name)} has the license "
        f"{escape(other.spec.license) or 'none'!r}: a chain is one program, and as free as its least free member",
        log=rejected.log,
        hint="give all members a license that the kernel takes for the GPL, or attach one of them elsewhere",
        errno=rejected.errno,
    )


def _prog_array(part: Part) -> NetbpfError:
    return NotSupportedError(
        f"{part.shown} cannot be linked: its prog array belongs to programs of another kind, most likely such with"
        f"{'' if part.takes_frags else 'out'} xdp.frags",
        hint="a chain takes frames in several buffers (xdp.frags) only if all members do: let all or none",
    )


def code_of(rejected: Rejected, parts: Sequence[Part], hook: Hook) -> RejectedCode:
    """What the instructions of a chain come from: the members' lines and functions."""
    kind = "xdp" if hook is Hook.XDP else "tc"
    lines: list[CodeLine] = []
    functions: list[tuple[int, str]] = []
    for begin, number in rejected.linked.starts:
        if number < 0:
            functions.append((begin, "dispatcher"))
            continue
        own = rejection.code_of(
            parts[number].image, parts[number].spec, parts[number].program.name, kind
        )
        lines += [one._replace(at=one.at + begin) for one in own.lines]
        functions += [(at + begin, name) for at, name in own.functions]
    return RejectedCode(rejected.linked.request.name, kind, tuple(lines), tuple(functions))
