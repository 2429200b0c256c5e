"""A rejected program and its explanation as data; the command line and JSON show the same."""

from dataclasses import dataclass
from typing import NamedTuple


class CodeLine(NamedTuple):
    """The code from instruction ``at`` on comes from this line; ``line`` counts from 1, 0 is none in particular."""

    at: int
    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class RejectedCode:
    """What is known of a program that was rejected, by the index of its instructions.

    ``program`` is its name and ``kind`` "xdp", "tc" or ""; ``lines`` are sorted and empty without BTF; ``functions``
    are (first instruction, name).
    """

    program: str = ""
    kind: str = ""
    lines: tuple[CodeLine, ...] = ()
    functions: tuple[tuple[int, str], ...] = ()


class Place(NamedTuple):
    """A line of source: ``file`` as the compiler recorded it, ``line`` from 1, 0 where unknown; ``text`` unescaped."""

    file: str
    line: int
    text: str


class Trace(NamedTuple):
    """One step of how the program got there: ``subject`` is a register ("r1") or a word ("taken"), ``what`` its story.

    ``insn`` is the instruction's index in the program, ``place`` its line, where known.
    """

    subject: str
    what: str
    insn: int
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The line the verifier refused: where, and the lines around it as (number, text), itself included."""

    place: Place
    function: str
    lines: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the verifier refused a program. Text from the object and the log is unescaped: whoever prints it escapes.

    ``id`` names the entry of the catalogue, "" where netbpf knows no explanation and ``reason`` says so.
    ``advice`` is a sentence and ``code`` some lines of C; both may be "". ``insn`` and ``insn_text`` are the
    refused instruction, ``words`` the verifier's own, ``excerpt`` None without line info.
    """

    id: str
    reason: str
    advice: str = ""
    code: str = ""
    excerpt: Excerpt | None = None
    trace: tuple[Trace, ...] = ()
    words: tuple[str, ...] = ()
    insn: int | None = None
    insn_text: str = ""

    @property
    def known(self) -> bool:
        """Whether the catalogue has an entry for it."""
        return bool(self.id)
