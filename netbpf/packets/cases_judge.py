"""One packet against what a case expects of it: verdict, packet, context."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from netbpf.constants import Hook
from netbpf.errors import UsageError
from netbpf.packets.cases_model import Failure, Output, Step
from netbpf.packets.context import Context, changes
from netbpf.packets.fields import Difference, differences, fields_of, hex_columns, summary
from netbpf.packets.mutate import mutate
from netbpf.packets.testrun import Outcome
from netbpf.packets.verdicts import verdict_numbers
from netbpf.text import did_you_mean, escape

_CONTEXT = ("skb.", "xdp.")
_COLUMN = 48  # characters of a value that are lined up


def judge(step: Step, number: int, hook: Hook, outcome: Outcome) -> Iterator[Failure]:
    """Every expectation of a step, with its ``number``, that was not met.

    UsageError for fields that the packet does not have.
    """
    if step.verdict is not None:
        accepted = frozenset().union(*(verdict_numbers(hook, name) for name in step.verdict))
        if outcome.verdict not in accepted:
            words = " or ".join(step.verdict)
            got = outcome.verdict_name
            shown = (f"  {summary(step.packet)}",)
            message = f"expected {words}, got {got}"
            yield Failure("verdict", number, message, list(step.verdict), got, shown)
    if step.output is not None:
        yield from _packet(step, step.output, number, outcome)
        yield from _context(step, step.output, number, hook, outcome)


def _packet(step: Step, output: Output, number: int, outcome: Outcome) -> Iterator[Failure]:
    given = step.context.packet(step.packet)
    try:
        expected = mutate(given if output.packet is None else output.packet, output.changes)
    except UsageError as error:
        raise UsageError(f"output: {error.message}", hint=error.hint) from None
    fields = [one for one in step.ignore if not one.startswith(_CONTEXT)]
    if fields:
        _check_fields(fields, expected)
    if expected == outcome.data:
        return
    found = differences(expected, outcome.data)
    if found is not None:
        found = [one for one in found if one.path not in fields]
        if fields and not found and len(expected) == len(outcome.data):
            return
    dump = hex_columns(expected, outcome.data, ("expected", "got")).split("\n")
    yield Failure(
        "output", number, "the packet came out otherwise than expected", expected.hex(), outcome.data.hex(),
        (*_field_lines(found or ()), *dump),
    )  # fmt: skip


def _check_fields(names: Sequence[str], expected: bytes) -> None:
    known = [one.path for one in fields_of(expected)]
    for name in names:
        if name not in known:
            raise UsageError(
                f"ignore: the expected packet has no field {escape(name)}",
                hint=did_you_mean(name, known, "it has"),
            )


def _field_lines(found: Iterable[Difference]) -> Iterator[str]:
    rows = [(one.path, one.before or "-", one.after or "-") for one in found]
    if rows:
        width, column = (max(len(row[at]) for row in rows) for at in (0, 1))
        for path, expected, got in rows:
            yield f"  {path:<{width}}  expected {expected:<{min(column, _COLUMN)}}  got {got}"


def _context(
    step: Step, output: Output, number: int, hook: Hook, outcome: Outcome
) -> Iterator[Failure]:
    """What is not named must not have changed."""
    given: Context = step.context
    known = _known(hook)
    for name in (*output.context, *(one for one in step.ignore if one.startswith(_CONTEXT))):
        if name not in known:
            hint = did_you_mean(name, known, "there are")
            raise UsageError(f"output: there is no {escape(name)}", hint=hint)
    before: dict[str, Any] = {name: _given(given, name) for name in known}
    after = dict(before)
    if hook is Hook.XDP:
        after["xdp.meta"] = outcome.meta.hex()
    else:
        after |= {f"skb.{name}": new for name, (_, new) in changes(given, outcome.context).items()}
    for name in known:
        wanted, got = output.context.get(name, before[name]), after[name]
        if isinstance(wanted, str):
            wanted = wanted.replace(" ", "").replace(":", "").lower()
        if wanted != got and name not in step.ignore:
            words = ["none" if one == "" else str(one) for one in (wanted, got)]
            message = f"expected {name} {words[0]}, got {words[1]}"
            yield Failure("context", number, message, wanted, got)


def _known(hook: Hook) -> list[str]:
    if hook is Hook.XDP:
        return ["xdp.meta"]
    names = ("mark", "priority", "tstamp", "gso_segs", "hwtstamp", *(f"cb[{n}]" for n in range(5)))
    return [f"skb.{name}" for name in names]


def _given(context: Context, name: str) -> Any:
    """What a field of the context was before the run."""
    word = name.partition(".")[2]
    if word == "meta":
        return context.meta.hex()
    if word.startswith("cb["):
        at = int(word[3])
        return context.cb[at] if at < len(context.cb) else 0
    return getattr(context, word)
