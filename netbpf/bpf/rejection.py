"""What a verifier log says in the end."""

import re

_STATISTICS = re.compile(
    r"^(processed \d+ insns|verification time|stack depth|max_states_per_insn|mark_precise|peak_states)"
)
_SOURCE = re.compile(r"^; (?P<text>.*?)(?: @ (?P<file>[^@]*):(?P<line>\d+))?$")
_STATE = re.compile(
    r"^(\d+: \(|from \d+|R\d+[_=(]|\s*$|func#|arg#|Live regs|-- BEGIN|-- END|Global function|Func#|Validating|\d+: R)"
)


def reason(log: str) -> str:
    """The verifier's own last words on why it gave up, without states and statistics; "" for an empty log."""
    words = ""
    for line in log.splitlines():
        if not _STATISTICS.match(line) and not _SOURCE.match(line) and not _STATE.match(line):
            words = line.strip()
    return words


def last_source(log: str) -> str:
    """The C line the verifier looked at last, with file and line where the log has them; "" without line info."""
    for line in reversed(log.splitlines()):
        found = _SOURCE.match(line)
        if found and found["text"].strip():
            where = f"{found['file']}:{found['line']}: " if found["file"] else ""
            return where + found["text"].strip()
    return ""


def tail(log: str, lines: int = 12) -> list[str]:
    """The last lines before the statistics: what to show when nothing better is known."""
    kept = [
        line.rstrip() for line in log.splitlines() if line.strip() and not _STATISTICS.match(line)
    ]
    return kept[-lines:]
