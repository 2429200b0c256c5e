"""The values of ``stats``: what one hook's program counted and holds at one moment."""

from dataclasses import dataclass, field

from netbpf.bpf.btf.values import Value
from netbpf.model import Attachment, Member


@dataclass(frozen=True, slots=True)
class Run:
    """Kernel run statistics since they were switched on: executions, and time in nanoseconds."""

    count: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class VariableValue:
    """A global variable: its section, its C type, its value, and whether it can be written now."""

    name: str
    section: str
    type: str
    value: Value
    writable: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A map entry. For a per-CPU map ``value`` is the sum and ``per_cpu`` the parts, by CPU number."""

    key: Value
    value: Value
    per_cpu: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class MapValues:
    """A map with as many of its entries as were asked for. ``total`` counts all; ``zeros`` those left out as zero."""

    name: str
    id: int
    type: str
    total: int
    entries: tuple[Entry, ...] = ()
    zeros: int = 0
    max_entries: int = 0
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Counter:
    """Packets, and bytes of frames."""

    packets: int
    bytes: int


@dataclass(frozen=True, slots=True)
class MemberStats:
    """What one member of a chain counted and holds. ``verdicts`` are packets by verdict, as the dispatcher saw them."""

    member: Member
    variables: tuple[VariableValue, ...] = ()
    maps: tuple[MapValues, ...] = ()
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def packets(self) -> int:
        """How many packets came to it."""
        return sum(self.verdicts.values())


@dataclass(frozen=True, slots=True)
class HookStats:
    """What one program on one hook counted. ``taken_at`` is monotonic time in seconds.

    Of a chain, everything is in ``members``, in running order.
    """

    attachment: Attachment
    run: Run | None
    variables: tuple[VariableValue, ...] = ()
    maps: tuple[MapValues, ...] = ()
    verdicts: dict[str, Counter] = field(default_factory=dict)
    protocols: dict[str, Counter] = field(default_factory=dict)
    taken_at: float = 0.0
    members: tuple[MemberStats, ...] = ()
