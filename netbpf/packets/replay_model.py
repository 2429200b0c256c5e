"""The values of a replay."""

from dataclasses import dataclass, field

from netbpf.bpf.btf.values import Value
from netbpf.compiler.result import Options
from netbpf.constants import Hook
from netbpf.manager.settings import MapSizes, Settings
from netbpf.net.netns import Namespace


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A capture to send through a program.

    With ``on`` it is a copy of what runs on that interface, and ``object`` says nothing.
    ``hook`` None takes what the object holds; ``limit`` is the number of packets to read, None for all; ``output``
    gets every packet as it came out, ``dropped`` those that were dropped as they came in; ``samples`` is how many
    packets of each verdict are kept.
    """

    object: str
    capture: str
    on: str | None = None
    netns: str | Namespace | None = None
    program: str | None = None
    hook: Hook | None = None
    settings: Settings = ()
    map_sizes: MapSizes = ()
    limit: int | None = None
    output: str | None = None
    dropped: str | None = None
    samples: int = 3
    compiler: Options = field(default_factory=Options)
    kernel_btf: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A packet of the capture by its number there, from 1, as it came in. ``time_ns`` is nanoseconds since 1970 (UTC),
    None where the capture does not say."""

    number: int
    time_ns: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """A variable, or the entry of a map. None: there was no such entry, or there is none any more."""

    before: Value
    after: Value


@dataclass(frozen=True, slots=True)
class MapChange:
    """What became of a map. ``changed`` counts entries that came, went or changed; ``entries`` are the first of them,
    with their keys. ``compared`` says of how many entries at most that was asked, None for all."""

    changed: int
    entries: tuple[tuple[Value, Change], ...]
    compared: int | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a program made of a capture.

    ``packets`` were run, and have a verdict each: ``verdicts`` counts them by name, in the order of their numbers.
    ``skipped`` counts those that were not, by reason. ``cut`` of those that ran were captured only in part. ``seconds``
    is the time for all of it without loading. ``variables`` holds all that can change, ``maps`` those that did.
    ``members`` counts the verdicts of each member of a chain, whose variables and maps have its name before theirs.
    ``notes`` are the compiler's, ``warnings`` are about the capture.
    """

    program: str
    hook: Hook
    packets: int
    verdicts: dict[str, int]
    seconds: float
    samples: dict[str, tuple[Sample, ...]]
    skipped: dict[str, int] = field(default_factory=dict)
    cut: int = 0
    variables: dict[str, Change] = field(default_factory=dict)
    maps: dict[str, MapChange] = field(default_factory=dict)
    members: dict[str, dict[str, int]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def packets_per_second(self) -> float:
        """How many packets went through in a second, reading and writing included."""
        return self.packets / self.seconds if self.seconds else 0.0
