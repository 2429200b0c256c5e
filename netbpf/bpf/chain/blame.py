"""Which member a rejection is about, why, and what would help."""

import errno
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence

from netbpf.bpf import rejection
from netbpf.bpf.chain.link import license_of
from netbpf.bpf.chain.part import Part
from netbpf.bpf.chain.submit import Rejected
from netbpf.bpf.sections import fits
from netbpf.constants import Hook
from netbpf.errors import NetbpfError, NotSupportedError, ObjectError, VerifierError
from netbpf.explain.log import parse
from netbpf.explain.model import CodeLine, RejectedCode
from netbpf.text import escape

Attempt = Callable[[Sequence[Part]], Rejected | None]

_TOO_COMPLEX = re.compile(r"BPF program is too large\. Processed \d+ insn")
_STACK = re.compile(r"combined stack size of \d+ calls is \d+|call stack of previous frames")
_GPL_ONLY = "cannot call GPL-restricted function from non-GPL compatible program"
_TAIL = 1 << 16  # characters at the end of a log that say why


def too_complex(rejected: Rejected) -> bool:
    """Whether the verifier gave up because there is too much to verify in all."""
    return bool(_TOO_COMPLEX.search(rejected.log[-_TAIL:])) or (
        rejected.errno == errno.E2BIG and not rejected.log.strip()
    )


def stack(rejected: Rejected) -> bool:
    """Whether it is about the stack of functions in a row of calls."""
    return bool(_STACK.search(rejected.log[-_TAIL:]))


def too_many(number: int) -> NotSupportedError:
    """More programs than a packet can jump through."""
    return NotSupportedError(
        f"the chain is too large: its members take {number} programs, and a packet passes through 33 at most",
        hint="members that share maps, or fewer members, make it smaller",
    )


def refuse_unlinkable(parts: Sequence[Part], hook: Hook) -> None:
    """What is known before the kernel is asked. NotSupportedError or ObjectError that names the member."""
    for one in parts:
        if not fits(one.program.declared, hook):
            raise _of(
                one,
                ObjectError(f"{one.shown} is no program for {hook}: {escape(one.program.section)}"),
            )
        if any(ref.name.partition("___")[0] == "bpf_throw" for ref in one.image.externs):
            raise _of(
                one,
                NotSupportedError(
                    f"{one.shown} cannot be linked: its bpf_throw() would leave the whole chain, not the member",
                    hint="return a verdict instead, or attach it where it runs alone",
                ),
            )


def error(rejected: Rejected, parts: Sequence[Part], hook: Hook, attempt: Attempt) -> NetbpfError:
    """The error for a chain of ``parts`` that was rejected; ``attempt`` tries to load a part of it."""
    part, rejected, parts, beside = _culprit(rejected, parts, attempt)
    return _of(part, _explained(part, rejected, parts, hook, beside))


def _of(part: Part, found: NetbpfError) -> NetbpfError:
    found.member = part.name
    return found


def _culprit(
    rejected: Rejected, parts: Sequence[Part], attempt: Attempt
) -> tuple[Part, Rejected, Sequence[Part], int]:
    """The member at fault, its rejection, the chain that was rejected, and how many members it needs beside it."""
    if len(parts) == 1:
        return parts[0], rejected, parts, 0
    for one in _suspects(rejected, parts):
        if alone := attempt([one]):
            return one, alone, [one], 0
    # Each goes by itself: the first with which it is too much.
    least, most, found = 1, len(parts), rejected
    while most - least > 1:
        middle = (least + most) // 2
        if result := attempt(parts[:middle]):
            most, found = middle, result
        else:
            least = middle
    return parts[most - 1], found, parts[:most], most - 1


def _suspects(rejected: Rejected, parts: Sequence[Part]) -> list[Part]:
    """All members, the one first whose code the verifier looked at last."""
    last = parse(rejected.log).last
    number = _member_at(rejected, last.insn) if last else -1
    first = [parts[number]] if number >= 0 else []
    return first + [one for one in parts if one not in first]


def _member_at(rejected: Rejected, index: int) -> int:
    starts = rejected.linked.starts
    return starts[max(bisect_right(starts, index, key=lambda one: one[0]) - 1, 0)][1]


def _explained(
    part: Part, rejected: Rejected, parts: Sequence[Part], hook: Hook, beside: int
) -> NetbpfError:
    name = part.shown + (
        f" beside {beside} others" if beside > 1 else " beside another" if beside else ""
    )
    if _GPL_ONLY in rejected.log[-_TAIL:]:
        return _licenses(part, parts, rejected)
    found = rejection.explain(name, rejected.linked.request, rejected.errno, rejected.log)
    if isinstance(found, VerifierError):
        code = code_of(rejected, parts, hook)
        return rejection.taught(found, name, code, types_refused=False)
    return found


def _licenses(part: Part, parts: Sequence[Part], rejected: Rejected) -> NetbpfError:
    return VerifierError(f"{part.shown}: license {escape(license_of(parts))}", log=rejected.log)


def code_of(rejected: Rejected, parts: Sequence[Part], hook: Hook) -> RejectedCode:
    """What the instructions of a chain come from: the members' lines and functions."""
    kind = "xdp" if hook is Hook.XDP else "tc"
    lines: list[CodeLine] = []
    functions: list[tuple[int, str]] = []
    for begin, number, _ in rejected.linked.starts:
        if number < 0:
            functions.append((begin, "dispatcher"))
            continue
        own = rejection.code_of(
            parts[number].image, parts[number].spec, parts[number].program.name, kind
        )
        lines += [one._replace(at=one.at + begin) for one in own.lines]
        functions += [(at + begin, name) for at, name in own.functions]
    return RejectedCode(rejected.linked.request.name, kind, tuple(lines), tuple(functions))
