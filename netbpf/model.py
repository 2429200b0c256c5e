"""The values that flow between the layers: frozen, without behaviour, without contact to the kernel."""

from dataclasses import dataclass, field

from netbpf.constants import Hook, Mode


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. ``netns`` is the inode number of its network namespace."""

    name: str
    index: int
    netns: int


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel says of a loaded program (``struct bpf_prog_info``). Times in nanoseconds.

    ``loaded_at_ns`` is on CLOCK_BOOTTIME; ``btf_id`` 0 means that it was loaded without BTF. ``run_count`` and
    ``run_time_ns`` move only while run statistics are switched on.
    """

    id: int
    name: str
    type: int
    tag: str
    map_ids: tuple[int, ...] = ()
    btf_id: int = 0
    loaded_at_ns: int = 0
    uid: int = 0
    gpl_compatible: bool = False
    ifindex: int = 0
    xlated_size: int = 0
    jited_size: int = 0
    verified_insns: int = 0
    run_time_ns: int = 0
    run_count: int = 0


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says of a map (``struct bpf_map_info``). Sizes in bytes."""

    id: int
    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    btf_id: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What the kernel says of a bpf_link. ``ifindex`` is 0 once the interface is gone."""

    id: int
    type: int
    prog_id: int
    ifindex: int = 0
    attach_type: int = 0


@dataclass(frozen=True, slots=True)
class TcFilter:
    """Where a clsact filter sits, as precisely as the kernel needs to find it again."""

    handle: int
    priority: int
    protocol: int
    chain: int = 0
    name: str = ""
    direct_action: bool = True


@dataclass(frozen=True, slots=True)
class Occupant:
    """One program the kernel shows on a hook.

    ``link_id`` is 0 for a netlink attachment; ``filter`` is set for clsact; ``position`` counts from 0 in
    running order on that hook.
    """

    interface: Interface
    hook: Hook
    mode: Mode
    prog_id: int
    link_id: int = 0
    filter: TcFilter | None = None
    position: int = 0


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The object a program came from: the path as given and the content's SHA-256 in hex."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program on a hook, with what netbpf knows of it. ``manager`` is None where nothing shows who put it there."""

    occupant: Occupant
    program: ProgramInfo
    managed: bool
    manager: str | None
    object: ObjectRef | None = None
    netns_name: str | None = None
    attached_at: float | None = None
    members: tuple[str, ...] = field(default=())
