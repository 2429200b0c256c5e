"""What is made of an object when it is loaded, whatever for: what attach, attach auto and load have in common."""

from dataclasses import dataclass, field
from pathlib import Path

from netbpf.compiler.result import Options
from netbpf.manager.settings import MapSizes, Settings
from netbpf.state.lock import DEFAULT_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How objects are compiled and loaded.

    ``share`` and ``maps`` put maps that exist in the place of an object's: ``flows=eth0/xdp/acl``, ``flows=id:12``.
    ``tail_calls`` fill prog arrays: ``jumps[1]=parse_udp``. ``pin_maps`` is the directory in a bpffs where maps that
    ask to be pinned by name are shared. ``kernel_btf`` are the types to relocate against, None for the running
    kernel's. ``lock_timeout`` in seconds.
    """

    settings: Settings = ()
    map_sizes: MapSizes = ()
    tail_calls: tuple[str, ...] = ()
    share: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    pin_maps: Path | None = None
    compiler: Options = field(default_factory=Options)
    kernel_btf: Path | None = None
    lock_timeout: float = DEFAULT_TIMEOUT
