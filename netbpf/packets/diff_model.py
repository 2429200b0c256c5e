"""The values of a comparison of two programs."""

from dataclasses import dataclass, field

from netbpf.compiler.result import Options
from netbpf.constants import Hook
from netbpf.manager.settings import Settings
from netbpf.packets.replay_model import Sample

FieldValue = int | str


@dataclass(frozen=True, slots=True)
class DiffRequest:
    """Two objects and a capture. ``new_program`` is the program's name in the new object where that is another.

    ``ignore`` are fields whose difference does not count, ``output`` gets the packets that differ, as they came in.
    """

    old: str
    new: str
    capture: str
    program: str | None = None
    new_program: str | None = None
    hook: Hook | None = None
    settings: Settings = ()
    ignore: tuple[str, ...] = ()
    limit: int | None = None
    output: str | None = None
    samples: int = 3
    compiler: Options = field(default_factory=Options)
    kernel_btf: str | None = None


@dataclass(frozen=True, slots=True)
class DiffGroup:
    """Packets that differ in one way: the same two verdicts, the same protocol, the same fields of what came out.

    ``changed`` names fields of the packet afterwards that differ; empty where only the verdict does. ``common`` are
    fields of the packets as they came in that are the same in all of them, ``ranges`` the least and greatest of those
    numbers that are not.
    """

    old: str
    new: str
    protocol: str
    changed: tuple[str, ...]
    packets: int
    common: dict[str, FieldValue]
    ranges: dict[str, tuple[int, int]]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class DiffResult:
    """What two programs made of the same packets; the groups with most packets first.

    ``skipped`` counts packets that TEST_RUN took for neither, by reason.
    """

    old: str
    new: str
    hook: Hook
    packets: int
    different: int
    groups: tuple[DiffGroup, ...]
    seconds: float
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
