"""Tables of cases: what a file asks for, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from netbpf.constants import Hook
from netbpf.packets.context import Context

# A number is by how much something moves; a text is the value it has afterwards ("=5": also of a number).
Expected: TypeAlias = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Output:
    """What has to come out: ``packet``, or the packet that went in, with ``changes`` to its fields.

    ``context`` are fields of the context, ``skb.mark`` or ``xdp.meta``.
    """

    packet: bytes | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    context: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One packet and what is expected of it. ``None`` expects nothing.

    ``line`` is where it stands in the file, ``lines`` where each of its keys does.
    """

    packet: bytes
    context: Context
    line: int
    verdict: tuple[str, ...] | None = None
    output: Output | None = None
    ignore: tuple[str, ...] = ()
    counters: Mapping[str, Expected] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    repeat: int = 1
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """Steps on a program that was loaded for them.

    ``source`` is an object, a C source or builtin:NAME. ``settings`` are variables before the load and map entries
    after it, as in the file; ``counters`` is for all steps together; ``lines`` says where each key stands.
    """

    name: str
    line: int
    source: str
    steps: tuple[Step, ...]
    program: str | None = None
    hook: Hook | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    map_sizes: Mapping[str, int] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    define: tuple[str, ...] = ()
    counters: Mapping[str, Expected] | None = None
    ignore_counters: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The cases of a file, in its order."""

    path: str
    cases: tuple[Case, ...]


Kind = Literal["verdict", "output", "context", "counters", "error"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One expectation that was not met. ``detail`` are lines for people, ``step`` counts from 1.

    ``expected`` and ``got`` are values for JSON: names, packets in hex digits, numbers.
    """

    kind: Kind
    step: int
    message: str
    expected: Any = None
    got: Any = None
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """One packet that was run: what went in, what came out, and the verdict."""

    before: bytes
    after: bytes
    verdict: int
    verdict_name: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a case. ``duration_ns`` includes loading the program."""

    case: Case
    program: str
    hook: Hook | None
    ran: tuple[Ran, ...]
    failures: tuple[Failure, ...]
    duration_ns: int
    error: Exception | None = None

    @property
    def outcome(self) -> Literal["passed", "failed", "error"]:
        """``error`` is a case whose program could not be loaded or run."""
        if self.error is not None:
            return "error"
        return "failed" if self.failures else "passed"


@dataclass(frozen=True, slots=True)
class CasesResult:
    """The results of the cases of a file that were chosen; ``skipped`` is how many were not."""

    path: str
    results: tuple[CaseResult, ...]
    skipped: int
    duration_ns: int
    notes: tuple[str, ...] = ()

    def count(self, outcome: str) -> int:
        """How many had this outcome."""
        return sum(one.outcome == outcome for one in self.results)

    @property
    def passed(self) -> bool:
        """Whether all did."""
        return self.count("passed") == len(self.results)
