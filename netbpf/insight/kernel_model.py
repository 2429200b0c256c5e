"""The values of ``prog``, ``map`` and ``link``: what of BPF there is in the kernel, and whose it is."""

from dataclasses import dataclass

from netbpf._sys.describe import LinkPlace
from netbpf.bpf.holders import NOBODY, Holders
from netbpf.model import Attachment, LinkInfo, MapInfo, ProgramInfo


@dataclass(frozen=True, slots=True)
class KernelProgram:
    """A program. ``memlock`` in bytes; ``hooks`` are where it runs on network interfaces.

    ``links`` are those that hold it; None where nobody looked, or may not (CAP_SYS_ADMIN).
    """

    info: ProgramInfo
    memlock: int
    holders: Holders = NOBODY
    hooks: tuple[Attachment, ...] = ()
    links: "tuple[KernelLink, ...] | None" = None


@dataclass(frozen=True, slots=True)
class KernelMap:
    """A map. ``memlock`` in bytes; ``programs`` are the ids of the programs that use it, ``hooks`` where they run.

    ``owner_type`` is the type of the programs of a prog array, None for others and while it has had none.
    """

    info: MapInfo
    memlock: int
    frozen: bool
    programs: tuple[int, ...] = ()
    holders: Holders = NOBODY
    hooks: tuple[Attachment, ...] = ()
    owner_type: int | None = None
    owner_jited: bool = False


@dataclass(frozen=True, slots=True)
class KernelLink:
    """A link. ``interface`` is the name of what it is on, "" where that is none or in a namespace not looked into.

    ``netns`` is the name of that namespace, "" for the one that was asked about.
    """

    info: LinkInfo
    place: LinkPlace
    interface: str = ""
    netns: str = ""
    program: str = ""
    holders: Holders = NOBODY
