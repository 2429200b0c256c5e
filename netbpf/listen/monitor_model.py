"""What goes wrong on interfaces, as values."""

from dataclasses import dataclass
from enum import Enum

from netbpf.model import Interface


class Kind(Enum):
    """What is watched, in the order of ``enum kind`` of tracing/trace_monitor.bpf.c.

    The value is the tracepoint. Two of them tell more than one thing.
    """

    EXCEPTION = "xdp_exception"
    REDIRECT = "xdp_redirect_err"
    BULK_TX = "xdp_bulk_tx"
    DEVMAP_XMIT = "xdp_devmap_xmit"
    CPUMAP_ENQUEUE = "xdp_cpumap_enqueue"
    CPUMAP_KTHREAD = "xdp_cpumap_kthread"
    CPUMAP_PROGRAM = "xdp_cpumap_kthread, program"
    DROP = "kfree_skb"

    @property
    def tracepoint(self) -> str:
        """The kernel's name of it."""
        return self.value.partition(",")[0]


TRACEPOINTS = tuple(dict.fromkeys(kind.tracepoint for kind in Kind))


@dataclass(frozen=True, slots=True)
class Suspect:
    """The program that something happened in.

    ``members`` are those of a chain that may have done it: one, where it can be told. ``certain``: the kernel named
    the program. Elsewhere it is what was on the hook when that was last looked at.
    """

    id: int
    name: str
    members: tuple[str, ...] = ()
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that goes wrong, however often it does.

    ``kind`` is where the kernel says it. ``interface`` and ``target`` (where a packet was to go) have the names by
    which they went when it happened first; ``netns`` and ``target_netns`` the names of their network namespaces
    below /run/netns. ``verdict`` is what the program returned, with the kernel's name or, for what is no verdict,
    its number. ``errno`` is positive, 0 for none. ``reason`` is the kernel's name of a drop without
    ``SKB_DROP_REASON_``, ``function`` the kernel's function that dropped. ``map_id`` and ``map_name`` are those of
    the map through which was redirected, 0 and "" for none; ``cpu`` the one that a cpumap names. ``example`` is
    what packets may choose, as it was in the last one: the verdict that is none, the index in the map or of the
    interface that does not exist, the EtherType; ``alike`` says that it was the same in the first one.
    ``cause`` is what it means, ``advice`` what to do about it ("" where nothing can be said).
    """

    kind: Kind
    interface: Interface | None = None
    netns: str | None = None
    program: Suspect | None = None
    hook: str = ""
    verdict: str = ""
    errno: int = 0
    reason: str = ""
    function: str = ""
    target: Interface | None = None
    target_netns: str | None = None
    map_id: int = 0
    map_name: str = ""
    cpu: int | None = None
    example: int = 0
    alike: bool = True
    cause: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """How often something happened: ``events`` of the tracepoint, ``packets`` that were lost by it.

    ``new_events`` and ``new_packets`` are those since the reading before.
    """

    happening: Happening
    events: int
    packets: int
    new_events: int
    new_packets: int


@dataclass(frozen=True, slots=True)
class Lost:
    """What was not counted with its details.

    ``crowded`` are events, by tracepoint, for which there was no room to tell them apart (more than 2048 different
    things happened). ``nested`` is how often a tracepoint came while the same CPU was busy with it, in an
    interrupt: the kernel does not run the program again then, so nothing is known of these events.
    """

    crowded: tuple[tuple[str, int], ...] = ()
    nested: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        """How many events in all."""
        return sum(number for _, number in (*self.crowded, *self.nested))


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything since watching began. ``at`` is Unix time, ``seconds`` the time since the reading before.

    ``counts`` are in the order in which things happened first.
    """

    at: float
    seconds: float
    counts: tuple[Count, ...]
    lost: Lost
