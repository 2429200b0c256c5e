"""An entry of the catalogue, and the case in hand that it is asked about."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

from netbpf.explain import story, values
from netbpf.explain.log import Log, Step
from netbpf.explain.model import RejectedCode
from netbpf.explain.source import function_of

ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}
Facts = Mapping[str, str]


class Case:
    """A rejection under examination: the log's end, the program's lines, and what its last step was about."""

    def __init__(self, log: Log, code: RejectedCode) -> None:
        self.log, self.code = log, code
        self.words = "\n".join(log.words)

    @cached_property
    def step(self) -> Step | None:
        """The instruction that the verifier refused, where it had come to look at instructions."""
        return self.log.last

    @property
    def position(self) -> int:
        """Where that instruction stands among the steps."""
        return max(len(self.log.steps) - 1, 0)

    @property
    def helper(self) -> str:
        """What the refused instruction calls, "" where it calls nothing."""
        return self.step.helper if self.step else ""

    @property
    def access(self) -> str:
        """ "reads" or "writes", whichever the refused instruction does."""
        text = self.step.text if self.step else ""
        return "writes" if text.startswith(("*(", "lock ")) else "reads"

    def value(self, register: int) -> str:
        """What the log last said a register held when the refused instruction came."""
        return story.value_before(self.log, register, self.position)

    def origins(self, register: int) -> list[story.Origin]:
        """How a register got its value, newest first."""
        return story.origins(self.log, register, self.position)

    def added(self, register: int) -> Facts:
        """The variable that was added to a pointer last, for the story: its register, and at which position."""
        for one in self.origins(register):
            found = re.search(r" \+= r(\d+)$", one.step.text) if one.moved else None
            if found:
                return {"added": found[1], "added_at": str(one.position)}
        return {}

    def source(self, register: int) -> str:
        """The helper a register's value came from, or ""."""
        found = self.origins(register)
        return found[-1].step.helper if found else ""

    def function(self, index: int) -> str:
        """The function that holds an instruction."""
        return function_of(self.code, index)

    def calls(self, start: int = 0) -> list[tuple[int, str]]:
        """(position, name) of what was called since a position: helpers, and the program's own functions."""
        found = []
        for at in range(start, self.position):
            step = self.log.steps[at]
            if step.helper:
                found.append((at, step.helper))
            elif target := re.match(r"call pc([+-]\d+)", step.text):
                found.append((at, self.function(step.insn + 1 + int(target[1]))))
        return found


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of rejection.

    ``pattern`` is searched in the verifier's words; its named groups fill ``reason``, ``advice`` and ``code``, and so
    does what ``facts`` returns, which may say None: not this kind after all. The group or fact ``reg`` is the register
    the story is about, ``insn`` the instruction that is meant where it is not the last one, ``left`` another one worth
    telling. ``words``, ``why`` and ``title`` are for the page of documentation.
    """

    id: str
    title: str
    words: str
    pattern: str
    reason: str
    why: str
    advice: str
    code: str = ""
    facts: Callable[[Case, Facts], Facts | None] | None = field(default=None)

    def match(self, case: Case) -> Facts | None:
        """What fills this entry's sentences in a case, or None where it is about something else."""
        found = _compiled(self.pattern).search(case.words)
        if not found:
            return None
        facts = common(case) | {name: text or "" for name, text in found.groupdict().items()}
        if facts.get("reg"):
            facts |= about_register(case, int(facts["reg"]))
        if self.facts is None:
            return facts
        more = self.facts(case, facts)
        return None if more is None else facts | dict(more)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


def common(case: Case) -> dict[str, str]:
    """Facts of every case."""
    kind = {"xdp": "an XDP program", "tc": "a TC program"}.get(
        case.code.kind, "a program of this type"
    )
    known = {
        "helper": case.helper or "the function",
        "access": case.access,
        "kind": kind,
        "program": case.code.program,
    }
    return known | dict.fromkeys(
        ("value", "source", "from_source", "map", "size_of_map", "ordinal"), ""
    )


def about_register(case: Case, register: int) -> dict[str, str]:
    """Facts about the register an entry names."""
    fields = values.parts(case.value(register))[1]
    source = case.source(register)
    return {
        "value": values.words(case.value(register)) if case.value(register) else "",
        "source": source,
        "from_source": f"what {source}() returned" if source else f"r{register}",
        "map": fields.get("map", ""),
        "size_of_map": fields.get("vs", ""),
        "ordinal": ORDINALS.get(register, ""),
    }
