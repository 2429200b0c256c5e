"""The values that flow between the layers: frozen, without behaviour, without contact to the kernel."""

from dataclasses import dataclass

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
    """What the kernel says of a bpf_link. ``ifindex`` is 0 once the interface is gone.

    ``gone``: the interface, cgroup or network namespace it was on does not exist any more.
    """

    id: int
    type: int
    prog_id: int
    ifindex: int = 0
    attach_type: int = 0
    gone: bool = False


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
class Member:
    """A program that netbpf runs on a hook, alone or in a chain, as it remembers it.

    ``name`` is unique on its hook; ``program`` is the function in the object, ``tag`` the kernel's hash of it loaded
    alone. Lower ``priority`` runs first, then lower ``order``. ``proceed_on`` are the verdicts, by name, that hand
    the packet on. ``slot`` is where the dispatcher counts it, ``baseline`` what that counter held by verdict
    before. ``maps`` are its maps by their name in the object. ``kernel_btf`` is the hash of the kept file of kernel
    types it was relocated against, "" for the running kernel's. ``previous`` is the object before the last upgrade.
    """

    name: str
    program: str
    tag: str
    object: ObjectRef
    priority: int
    order: int
    proceed_on: tuple[str, ...]
    added_at: float
    maps: tuple[tuple[str, int], ...] = ()
    slot: int = 0
    baseline: tuple[tuple[str, int], ...] = ()
    kernel_btf: str = ""
    previous: ObjectRef | None = None
    previous_program: str = ""


@dataclass(frozen=True, slots=True)
class Tap:
    """A capture on a hook: ``name`` is that of its file, ``pid`` the process that reads it.

    ``filter`` is the expression as given, ``code`` the classic BPF instructions that libpcap made of it, in hex ("" for
    every packet). ``member`` is the member that is watched, "" for the whole hook. ``state`` and ``ring`` are ids of
    maps, ``snaplen`` the bytes that are kept of a packet, ``mask`` the verdicts that are wanted (0: all), a bit for the
    index of each. ``since`` is Unix time in seconds.
    """

    name: str
    pid: int
    since: float
    filter: str
    code: str
    member: str
    state: int
    ring: int
    snaplen: int
    mask: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A program that another manager's dispatcher runs.

    ``name``, ``prog_id`` and ``tag`` are "", 0 and "" where no pin shows which it is. ``position`` counts from 0 in
    running order; ``priority`` and ``proceed_on`` (verdicts by name) are None where the dispatcher does not tell.
    """

    name: str
    prog_id: int
    tag: str
    position: int
    priority: int | None
    proceed_on: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A program on a hook, with what netbpf knows of it. ``manager`` is None where nothing shows who put it there.

    ``members`` are the programs netbpf runs there, in order: one, or several behind a dispatcher, which then is
    ``program``. ``counters`` is the id of the map in which the dispatcher counts, 0 without one. ``neighbours`` are
    the programs that the dispatcher of another manager runs. ``taps`` are the captures that run on the hook; it may
    then be without members, and a member alone has a dispatcher. ``ended`` are the names of those of them whose process
    has ended without taking them off.
    """

    occupant: Occupant
    program: ProgramInfo
    managed: bool
    manager: str | None
    object: ObjectRef | None = None
    netns_name: str | None = None
    attached_at: float | None = None
    members: tuple[Member, ...] = ()
    counters: int = 0
    neighbours: tuple[Neighbour, ...] = ()
    taps: tuple[Tap, ...] = ()
    ended: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """The name of what runs: where a capture has put a dispatcher around a program, still the program's."""
        if not self.taps or self.is_chain:
            return self.program.name
        return self.members[0].program if self.members else "capture"

    @property
    def is_chain(self) -> bool:
        """Whether several programs run on the hook behind netbpf's dispatcher."""
        return len(self.members) > 1
