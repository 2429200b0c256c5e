"""From a rejection to its explanation."""

from dataclasses import replace

from netbpf.explain import values
from netbpf.explain.catalogue import ENTRIES, Case
from netbpf.explain.catalogue.entry import Facts
from netbpf.explain.log import STATISTICS, parse
from netbpf.explain.model import Explanation, RejectedCode, Trace
from netbpf.explain.source import excerpt, place_of
from netbpf.explain.story import MOVES_PACKET, Origin
from netbpf.explain.story import origins as origins_of

_STEPS = 3  # of the story that are told
_LINES = 8  # of a log that nobody can explain
_TAIL = 1 << 16  # characters that hold them
UNKNOWN = "netbpf has no explanation for this one; the verifier's own words are all there is"


def explained(log: str, code: RejectedCode) -> Explanation:
    """See ``netbpf.explain.explain_log``."""
    case = Case(parse(log), code)
    for entry in ENTRIES:
        facts = entry.match(case)
        if facts is not None:
            filled = Explanation(
                entry.id, entry.reason.format_map(facts), entry.advice.format_map(facts), entry.code
            )
            return _located(case, filled, facts)
    return replace(_located(case, Explanation("", UNKNOWN), {}), words=tuple(last_lines(log)))


def _located(case: Case, found: Explanation, facts: Facts) -> Explanation:
    log, step = case.log, case.step
    insn = int(facts["insn"]) if facts.get("insn") else step.insn if step else None
    meant = log.find(insn) if insn is not None else None
    return Explanation(
        found.id, found.reason, found.advice, found.code,
        None if insn is None else excerpt(case.code, log, insn),
        tuple(_trace(case, facts)),
        tuple(log.words),
        insn,
        f"({meant.code}) {meant.text}" if meant else "",
    )  # fmt: skip


def _trace(case: Case, facts: Facts) -> list[Trace]:
    told = []
    if facts.get("reg"):
        register = int(facts["reg"])
        origins = case.origins(register)
        if len(origins) > 1 and origins[-1].value == "fp0":
            origins.pop()  # every address on the stack begins with r10
        told = [_told(case, register, one) for one in reversed(origins[:_STEPS])]
        if facts.get("added"):
            added = int(facts["added"])
            steps = origins_of(case.log, added, int(facts["added_at"]))[:2]
            told[-1:-1] = [_told(case, added, one) for one in reversed(steps)]
        if told and facts.get("checked"):
            checked = f"{facts['checked']} bytes" if facts["checked"] != "0" else "nothing"
            told[-1] = told[-1]._replace(
                what=f"{told[-1].what}; {checked} of it compared with data_end"
            )
        if not told and case.value(register):
            start = case.log.steps[0].insn if case.log.steps else 0
            told = [Trace(f"r{register}", values.words(case.value(register)), start)]
    left = (
        "the program ends here"
        if case.step and case.step.text == "exit"
        else "it is still held here"
    )
    for key, subject, what in (("then", "then", facts.get("then_what", "")), ("left", "end", left)):
        if facts.get(key):
            insn = int(facts[key])
            told.append(Trace(subject, what, insn, place_of(case.code, insn, case.log.find(insn))))
    return told


def _told(case: Case, register: int, one: Origin) -> Trace:
    what = values.words(one.value) if one.value else _made_by(case, one)
    return Trace(f"r{register}", what, one.step.insn, place_of(case.code, one.step.insn, one.step))


def _made_by(case: Case, one: Origin) -> str:
    """What a step did to a register, where the log does not say what came of it."""
    if one.step.helper:
        verb = "returned by" if one.register == 0 else "destroyed by"
        moves = MOVES_PACKET.match(one.step.helper)
        return f"{verb} {one.step.helper}()" + (", which moves the packet" if moves else "")
    if one.step.text.startswith("call pc"):
        name = next((name for at, name in case.calls() if at == one.position), "a function")
        return f"{'returned' if one.register == 0 else 'destroyed'} by {name}()"
    return one.step.text


def last_lines(log: str) -> list[str]:
    """The end of a log without the statistics: what to show when nothing better is known."""
    kept = [
        line.rstrip()
        for line in log[-_TAIL:].split("\n")
        if line.strip() and not STATISTICS.match(line)
    ]
    return kept[-_LINES:]
