"""Reading a verifier log: the instructions it followed last, what the registers held, and what it says in the end.

The format is no ABI. What is read here holds from Linux 4.14 to 6.18: states used to have lines of their own
("R1_w=pkt(id=0,off=0,r=0,imm=0)"), and stand behind the instruction since 5.18; numbers were called "inv" until 5.18;
liveness marks (_w, _r) and the P of a precise number came and went. Lines that fit nothing are the verifier's words.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

TAIL = 1 << 20  # characters; logs may have hundreds of megabytes, and only the last path matters
_LONGEST = 4096  # characters of a line; hostile names may make it any length
MESSAGES = 12  # lines of the verifier's own words that are looked at

_INSN = re.compile(r"^(\d+): \(([0-9a-f]{2})\) (.*)$")
_WHERE = re.compile(r"^(.*):(\d+)$")
_AFTER = re.compile(
    r"^(.*?)(?:\s*;(?= |$) ?((?:frame\d+:? ?)?(?:R\d|fp-|refs=|cb\b).*|)|\s+\d+: ((?:frame\d+: )?R\d.*))$"
)
_STATE = re.compile(
    r"^(?:(?:from \d+ to \d+|\d+)(?: \(speculative execution\))?:)? ?(?:frame(?P<frame>\d+):? ?)?"
    r"(?P<state>R\d+(?:_\w+)?=.*)?$"
)
_FRAME = re.compile(r"frame(\d+)")
# One level of parentheses within the value's own: var_off=(0x0; 0xff).
_REGISTER = re.compile(r"\bR(\d+)(?:_[a-zA-Z]+)?=([^\s(]*(?:\((?:[^()]|\([^()]*\))*\))?)")
STATISTICS = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|max_states_per_insn|peak_states)"
)
_NOISE = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|max_states_per_insn|mark_precise|peak_states|func#\d+ @|"
    r"Live regs|-- (BEGIN|END)|Func#\d+ .*(?:assumed valid|safe for any args)|Validating |caller:|callee:|"
    r"returning from|to caller at|(parent|last_idx|regs=|propagating)|Live)"
)


class Step(NamedTuple):
    """An instruction the verifier followed: ``text`` as it disassembles it, ``after`` the registers it then printed."""

    insn: int
    code: str
    text: str
    frame: int
    after: dict[int, str]
    source: tuple[str, int, str] | None

    @property
    def helper(self) -> str:
        """The helper or kernel function that it calls, or ""."""
        found = re.match(r"call (\w+)#-?\d+", self.text)
        return found[1] if found else ""


@dataclass(slots=True)
class Log:
    """The end of a log. ``start`` holds registers by (position among the steps, register), as state lines gave them."""

    steps: list[Step] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    states: dict[int, dict[int, str]] = field(default_factory=dict)

    @property
    def last(self) -> Step | None:
        """The instruction that the verifier looked at last."""
        return self.steps[-1] if self.steps else None

    def find(self, index: int) -> Step | None:
        """The last time the verifier followed the instruction at an index."""
        return next((step for step in reversed(self.steps) if step.insn == index), None)


def registers(state: str) -> dict[int, str]:
    """What a state line says of registers, by number: ``{1: "ctx()", 10: "fp0"}``."""
    return {int(number): _plain(value) for number, value in _REGISTER.findall(state)}


def _plain(value: str) -> str:
    """Without the P of a precise number: Pscalar(...), P0, Pinv(...)."""
    return value[1:] if re.match(r"P(scalar|inv|-?\d)", value) else value


def parse(text: str) -> Log:
    """Read the end of a log; whatever it holds, there is a result."""
    if len(text) > TAIL:
        text = (
            text[text.index("\n", len(text) - TAIL) + 1 :] if "\n" in text[-TAIL:] else text[-TAIL:]
        )
    return _Parser().run(text.split("\n"))


class _Parser:
    def __init__(self) -> None:
        self.log = Log()
        self.frame = 0
        self.source: tuple[str, int, str] | None = None

    def run(self, lines: list[str]) -> Log:
        for line in lines:
            self._line(line[:_LONGEST].rstrip())
        self.log.words = self.log.words[-MESSAGES:]
        return self.log

    def _line(self, line: str) -> None:
        if not line:
            return
        if found := _INSN.match(line):
            self._step(int(found[1]), found[2], found[3])
        elif line.startswith(";"):
            self._source(line[1:].strip())
        elif line.startswith(("cur state:", "old state:")) or _NOISE.match(line):
            return
        elif state := _STATE.match(line):
            self.frame = int(state["frame"] or 0)
            if state["state"]:
                self.log.states.setdefault(len(self.log.steps), {}).update(
                    registers(state["state"])
                )
        else:
            self.log.words.append(line)

    def _source(self, line: str) -> None:
        """``int x = 1; @ prog.bpf.c:5``: the place stands there since Linux 6.10."""
        text, _, where = line.rpartition(" @ ")
        if text and (place := _WHERE.match(where)):
            self.source = (place[1], int(place[2]), text)
        elif line:
            self.source = ("", 0, line)

    def _step(self, index: int, code: str, text: str) -> None:
        # Words before an instruction were about something that was then passed.
        self.log.words.clear()
        after: dict[int, str] = {}
        state = ""
        if (";" in text or ": R" in text or ": frame" in text) and (found := _AFTER.match(text)):
            text, state = found[1], found[2] or found[3] or ""
            after = registers(state)
        self.log.steps.append(Step(index, code, text.rstrip(), self.frame, after, self.source))
        if named := _FRAME.search(state):
            self.frame = int(named[1])
        elif after:
            self.frame = 0
        elif text.startswith("call pc"):
            self.frame += 1
        elif text == "exit":
            self.frame = max(self.frame - 1, 0)
