"""Where a register's value came from: the few instructions that matter, found by walking the log backwards."""

import re
from typing import NamedTuple

from netbpf.explain.log import Log, Step

# Helpers after which no older pointer into the packet holds (bpf_helper_changes_pkt_data, net/core/filter.c).
MOVES_PACKET = re.compile(
    r"bpf_(xdp_adjust_(head|meta|tail)|skb_(vlan_(push|pop)|store_bytes|change_(proto|tail|head)|adjust_room|pull_data)|"
    r"l[34]_csum_replace|clone_redirect|(msg|sk_msg)_\w+|lwt_\w+|skb_set_\w+)$"
)
RELEASES = re.compile(
    r"bpf_(\w+_)?(release|submit|discard|put|drop|destroy|submit_dynptr|discard_dynptr)(_impl)?$"
)

_WRITE = re.compile(r"^[rw](\d+) (?:s?([-+*/%&|^]|<<|>>|s>>))?= (.*)$")
_COPY = re.compile(r"^[rw](\d+)$")
_FILL = re.compile(r"^\*\(u64 \*\)\(r10 ?([-+]\d+)\)$")
_MOST = 4


class Origin(NamedTuple):
    """A step that made a register's value: ``value`` as the log prints it afterwards, "" where it does not."""

    register: int
    position: int
    step: Step
    value: str
    moved: bool  # the step added to a value that was there before


def value_before(log: Log, register: int, position: int) -> str:
    """What the log last said that a register held when the step at ``position`` began, in that step's frame; or ""."""
    if position > len(log.steps):
        return ""
    frame = log.steps[position].frame if position < len(log.steps) else -1
    for at in range(position, -1, -1):
        if at < position:
            step = log.steps[at]
            if register in step.after and _same_frame(log, at, frame):
                return step.after[register]
            if step.frame == frame and _written(step) == register:
                return ""
        if register in log.states.get(at, {}) and (
            at == len(log.steps) or log.steps[at].frame == frame
        ):
            return log.states[at][register]
    return ""


def _same_frame(log: Log, at: int, frame: int) -> bool:
    """Whether registers printed after a step are those of ``frame``."""
    return frame < 0 or (log.steps[at + 1].frame if at + 1 < len(log.steps) else frame) == frame


def _written(step: Step) -> int | None:
    if found := _WRITE.match(step.text):
        return int(found[1])
    return 0 if step.text.startswith("call ") else None


def origins(log: Log, register: int, position: int) -> list[Origin]:
    """How a register got what it holds when the step at ``position`` begins: newest first, copies passed over."""
    found: list[Origin] = []
    if position >= len(log.steps):
        return found
    frame = log.steps[position].frame
    slot = None
    for at in range(position - 1, -1, -1):
        step = log.steps[at]
        if step.frame != frame:
            continue
        if slot is not None:
            stored = re.match(rf"^\*\(u64 \*\)\(r10 ?{re.escape(slot)}\) = r(\d+)$", step.text)
            if stored:
                register, slot = int(stored[1]), None
            continue
        if step.text.startswith("call ") and register <= 5:
            found.append(Origin(register, at, step, _after(log, at, register, frame), False))
            break
        write = _WRITE.match(step.text)
        if not write or int(write[1]) != register:
            continue
        operator, operand = write[2], write[3]
        if operator:
            found.append(Origin(register, at, step, _after(log, at, register, frame), True))
            if len(found) == _MOST:
                break
        elif copied := _COPY.match(operand):
            if copied[1] == "10":
                found.append(Origin(register, at, step, _after(log, at, register, frame), False))
                break
            register = int(copied[1])
        elif filled := _FILL.match(operand):
            slot = filled[1]
        else:
            found.append(Origin(register, at, step, _after(log, at, register, frame), False))
            break
    return found


def _after(log: Log, at: int, register: int, frame: int) -> str:
    if _same_frame(log, at, frame) and register in log.steps[at].after:
        return log.steps[at].after[register]
    return log.states.get(at + 1, {}).get(register, "")


def last_call(log: Log, start: int, end: int, pattern: "re.Pattern[str]") -> int | None:
    """The position of the last call of a helper whose name matches, between two positions; None where there is none."""
    return next(
        (at for at in range(end - 1, start - 1, -1) if pattern.match(log.steps[at].helper)), None
    )
