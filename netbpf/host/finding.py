"""What the doctor finds: one line each, with what to do about it."""

import shlex
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, or something else does; worth knowing
    PROBLEM = "problem"  # netbpf cannot do its work, or part of it


@dataclass(frozen=True, slots=True)
class Finding:
    """One check and its outcome.

    ``check`` names it, always the same (``bpffs``), ``text`` is what was found, ``why`` what it means where it is not
    ok. ``fix`` are commands, each complete, after which the check is ok; empty where no command can do it, and then
    ``why`` says who can.
    """

    check: str
    level: Level
    text: str
    why: str = ""
    fix: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """Findings that belong together, under a title."""

    title: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that the doctor found."""

    sections: tuple[Section, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them."""
        return tuple(one for section in self.sections for one in section.findings)

    def count(self, level: Level) -> int:
        """How many there are of a level."""
        return sum(one.level is level for one in self.findings)


def ok(check: str, text: str) -> Finding:
    """A check that found nothing wrong."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, why: str = "", *fix: str) -> Finding:
    """Something that is worth knowing."""
    return Finding(check, Level.WARNING, text, why, fix)


def problem(check: str, text: str, why: str = "", *fix: str) -> Finding:
    """Something in the way."""
    return Finding(check, Level.PROBLEM, text, why, fix)


def command(*words: str) -> str:
    """Words as a command of a shell."""
    return shlex.join(words)
