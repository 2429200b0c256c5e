"""What ``netbpf explain`` tells: packets on their way through the programs of an interface."""

from dataclasses import dataclass
from typing import NamedTuple

from netbpf.bpf.btf.values import Value
from netbpf.bpf.cover.decisions import Compared
from netbpf.bpf.cover.trace import Step
from netbpf.constants import Hook
from netbpf.packets.run import RunResult


class MapTouch(NamedTuple):
    """A helper for maps that was called.

    ``map`` is "" where the code does not say which it is. ``does`` is "lookup", "update", "delete", "redirect" or
    "tail call"; ``outcome`` "found", "not found", "done", "failed: ..." or, of a tail call, "went there". ``key`` is
    None where it is not known; ``value`` is what a lookup found, of a per-CPU map that of this CPU, None where that was
    not written down. ``address`` is what a lookup gave to the program; ``shown`` is the key for
    people.
    """

    map: str
    type: str
    does: str
    key: Value
    outcome: str
    value: Value
    step: Step | None
    address: int = 0
    shown: str = ""


class Decision(NamedTuple):
    """A conditional jump that was met: on which line, on which line the program went on, None where neither is known.

    ``instruction`` is the jump's condition in registers. ``compared`` are the values, None where nobody looked;
    ``asked`` is the lookup whose outcome was looked at.
    """

    step: Step | None
    onward: Step | None
    taken: bool
    instruction: str
    compared: Compared | None
    asked: MapTouch | None = None


@dataclass(frozen=True, slots=True)
class MemberWalk:
    """One program that a packet came to.

    ``run`` is as ``netbpf run`` tells it, None where it could not be run (``refused`` says why). ``goes_on``: the
    packet was handed to the next member. ``steps`` are the lines that ran, in order, ``lost`` how many branches before
    them were too many to keep; ``decided`` is the line that made the verdict.
    """

    name: str
    program: str
    object: str
    run: RunResult | None
    goes_on: bool
    steps: tuple[Step, ...] = ()
    decisions: tuple[Decision, ...] = ()
    touches: tuple[MapTouch, ...] = ()
    decided: Step | None = None
    lost: int = 0
    refused: str = ""

    @property
    def verdict(self) -> str:
        """ "pass", "shot" ...; "" where it could not be run."""
        return self.run.verdict if self.run else ""


@dataclass(frozen=True, slots=True)
class HookWalk:
    """One hook that a packet came to: the members that it came to, and the names of those that it did not.

    ``verdict`` is what the last of them said; "" where that one could not be run.
    """

    hook: Hook
    members: tuple[MemberWalk, ...]
    missed: tuple[str, ...]

    @property
    def last(self) -> MemberWalk:
        """Who had the last word."""
        return self.members[-1]

    @property
    def verdict(self) -> str:
        """What became of the packet at this hook."""
        return self.last.verdict


@dataclass(frozen=True, slots=True)
class PacketWalk:
    """One packet through the hooks on its way. ``sentence`` says what became of it, and why."""

    packet: bytes
    hooks: tuple[HookWalk, ...]
    sentence: str

    @property
    def verdict(self) -> str:
        """That of the last hook it came to."""
        return self.hooks[-1].verdict


@dataclass(frozen=True, slots=True)
class WalkGroup:
    """Packets that went the same way: through the same branches of the same programs to the same verdicts.

    ``numbers`` are the first of them in the capture, from 1, empty for a single packet; ``first`` is told in full.
    """

    packets: int
    numbers: tuple[int, ...]
    first: PacketWalk


@dataclass(frozen=True, slots=True)
class WalkResult:
    """What ``netbpf.walk`` gives: the ways that packets took, the most frequent first.

    ``hooks`` are those on the way with their members in order; ``skipped`` packets that could not be run, by reason;
    ``notes`` say what cannot be told, or is not as on the hook.
    """

    interface: str
    hooks: tuple[tuple[Hook, tuple[str, ...]], ...]
    packets: int
    groups: tuple[WalkGroup, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
