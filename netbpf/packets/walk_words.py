"""What became of a packet, and why, in a sentence."""

from collections.abc import Iterator, Sequence
from posixpath import basename
from typing import Final

from netbpf.bpf.cover.decisions import Compared
from netbpf.bpf.cover.trace import Step
from netbpf.constants import Hook
from netbpf.packets.verdicts import fate
from netbpf.packets.walk_model import Decision, HookWalk, MapTouch, MemberWalk
from netbpf.packets.walk_tell import place
from netbpf.text import escape

_REASONS: Final = 3  # branches that are named
_KERNEL: Final = 0xFFFF << 48  # addresses of the kernel begin with it
_SMALL: Final = 256
_GOOD: Final = frozenset({"pass", "ok", "tx", "redirect", "unspec", "pipe"})
_DID: Final = {
    "drop": "dropped it", "aborted": "dropped it as aborted", "pass": "passed it", "tx": "sent it back",
    "redirect": "redirected it", "shot": "dropped it", "ok": "passed it", "stolen": "took it away",
    "queued": "took it away", "trap": "took it away",
}  # fmt: skip


def sentence(hooks: Sequence[HookWalk]) -> str:
    """What became of a packet: who had the last word, on which line, and which branches led there."""
    hook = hooks[-1]
    last = hook.last
    if last.run is None:
        return f"what {escape(last.name)} would do to it cannot be told: {last.refused}"
    where = f" at {hook.hook}" if len(hooks) > 1 else ""
    text = f"{escape(last.name)} {_did(hook.hook, last)}{where}"
    if last.verdict in _GOOD and len(hook.members) > 1:
        text = f"nobody dropped it{where}; the last, {escape(last.name)}, {_did(hook.hook, last)}"
    if last.decided and _tells(last.decided):
        text += f": {shown(last.decided)}"
    reasons = [] if last.verdict in _GOOD else list(_reasons(last))
    return f"{text}, because {'; '.join(reasons)}" if reasons else text


def _tells(step: Step) -> bool:
    """Whether a line says what the verdict is: compilers also make it far from where it was written."""
    text = step.source.text
    return "return" in text or "XDP_" in text or "TC_ACT_" in text


def _did(hook: Hook, last: MemberWalk) -> str:
    assert last.run is not None
    verdict = last.verdict
    if verdict in _DID:
        return _DID[verdict]
    if what := fate(hook, last.run.outcome.verdict):
        return f"gave {verdict}, which is no verdict (on a hook: {what})"
    return f"said {verdict}"  # TC's unspec, pipe: what comes behind decides


def _reasons(last: MemberWalk) -> Iterator[str]:
    """The last branches, each line once, with all that was compared when it ran last."""
    found: dict[object, list[Decision]] = {}
    before: object = None
    for number, one in enumerate(last.decisions):
        key = place(one.step) if one.step else number
        same = found.pop(key, []) if key == before else []
        found.pop(key, None)
        found[key] = [*same, one]
        before = key
    ways = list(found.values())
    # That a packet is long enough is worth telling only where that decides.
    told = [one for one in ways[:-1] if not all(map(_of_addresses, one))] + ways[-1:]
    for some in told[-_REASONS:]:
        step = some[0].step
        why = " and ".join(dict.fromkeys(filter(None, map(because, some))))
        if step is None:
            yield why or some[0].instruction
        elif last.decided and _tells(last.decided) and place(step) == place(last.decided):
            yield why or "of the branch there"
        else:
            yield shown(step) + (f" ({why})" if why else "")


def _of_addresses(one: Decision) -> bool:
    values = one.compared
    return bool(values and not one.asked and values.bits == 64 and values.left >= _KERNEL)


def shown(step: Step) -> str:
    """``acl.bpf.c:23 return XDP_DROP;``, fit for a terminal."""
    text = " ".join(step.source.text.split()).removesuffix(";")
    return f"{escape(basename(step.source.file))}:{step.source.line} {escape(text)}".rstrip()


def because(one: Decision) -> str:
    """What was compared, and where the program went on; "" where neither is known."""
    words = []
    if one.asked:
        words.append(_asked(one.asked))
    elif one.compared and (said := compared(one.compared, one.step)):
        words.append(said)
    if not words and one.onward:
        words.append(f"it went on in line {one.onward.source.line}")
    return ", ".join(words)


def _asked(one: MapTouch) -> str:
    entry = f"entry {one.shown}" if one.shown else "entry"
    has = "has" if one.outcome == "found" else "has no"
    return f"{escape(one.map) or 'a map'} {has} {entry}"


def compared(one: Compared, step: Step | None) -> str:
    """``80 == 80``; of addresses what they mean; "" where the numbers would tell nobody anything."""
    addresses = one.bits == 64 and one.left >= _KERNEL
    if addresses and one.right >= _KERNEL and not one.constant:
        # Which of them is the end of the packet, the registers do not say.
        return f"{abs(one.left - one.right):,} bytes apart"
    if addresses:
        return "not null" if one.constant and not one.right else ""
    left, right = one.left, one.right
    if one.sign in ("&", "& not"):
        return f"{_number(left)} has {'' if one.sign == '&' else 'none of '}the bits {right:#x}"
    text = step.source.text if step else ""
    if one.sign in ("==", "!="):
        for word, size in (("htons", 2), ("htonl", 4)):
            if word in text and min(left, right) >= 0 and max(left, right) < 1 << 8 * size:
                left, right = (_swapped(number, size) for number in (left, right))
                return f"{_relation(left, one.sign, right)} in host byte order"
    return _relation(left, one.sign, right)


def _swapped(number: int, size: int) -> int:
    return int.from_bytes(number.to_bytes(size, "little"), "big")


def _relation(left: int, sign: str, right: int) -> str:
    if left == right and sign == "==":
        return f"both are {_number(left)}"
    return f"{_number(left)} {sign} {_number(right)}"


def _number(value: int) -> str:
    return str(value) if abs(value) < _SMALL else f"{value} ({value:#x})"
