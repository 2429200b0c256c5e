"""Programs on tracepoints that count what goes wrong, and what they counted.

They are raw tracepoints with BTF ("tp_btf", Linux 5.5): no tracefs is needed, and arguments that the trace events leave
out, such as the network namespace of an interface, can be read. Each is a link that is gone when its descriptor is
closed, also by kill -9.
"""

import struct
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, missing, permission_error
from netbpf._sys.info import recursion_misses
from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.types import Kind as BtfKind
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map, possible_cpus
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import KernelError, NetbpfError, NotSupportedError
from netbpf.listen.monitor_model import TRACEPOINTS, Kind
from netbpf.manager.settings import apply

_OBJECT: Final = Path(__file__).parent.parent / "_objects" / "trace_monitor.bpf.o"
# The arguments of each tracepoint, behind the void * that all begin with, as far as their types are told apart here.
# They changed over time, so the kernel's own prototype is looked at, not its version. The last of kfree_skb came with
# Linux 6.11, its reason with 5.17; xdp_redirect_err is so since 5.13.
_ARGUMENTS: Final = {
    "xdp_exception": "net_device*, bpf_prog*, int",
    "xdp_redirect_err": "net_device*, bpf_prog*, void*, int, int, int, int",
    "xdp_bulk_tx": "net_device*, int, int, int",
    "xdp_devmap_xmit": "net_device*, net_device*, int, int, int",
    "xdp_cpumap_enqueue": "int, int, int, int",
    "xdp_cpumap_kthread": "int, int, int, int, xdp_cpumap_stats*",
    "kfree_skb": "sk_buff*, void*, int, sock*",
}
_OLDER: Final = {"kfree_skb": "sk_buff*, void*, int"}
# struct happened, struct tally, struct lost and struct place of tracing/trace_monitor.bpf.c
_KEY: Final = struct.Struct("<IIIIiIIIQ")
_TALLY: Final = struct.Struct("<QQII16s16s16s48s")
_LOST: Final = struct.Struct("<QQ")
_PLACE: Final = struct.Struct("<II")


class Place(NamedTuple):
    """An interface: the inode of its network namespace, its index there."""

    netns: int
    ifindex: int


class Raw(NamedTuple):
    """One thing that happened, as the programs count it; see ``struct happened`` for the fields."""

    kind: Kind
    at: Place
    prog_id: int
    code: int
    to: Place
    map_id: int
    location: int


class Tally(NamedTuple):
    """How often, an example from the first and the last time, and names from the first."""

    events: int
    packets: int
    first: int
    last: int
    interface: str
    target: str
    program: str
    function: str


class Scope(NamedTuple):
    """What is looked at: one network namespace or (0) all, watched interfaces only, drops of all interfaces."""

    netns: int = 0
    only_watched: bool = False
    drops_anywhere: bool = False


class Probes:
    """The programs, attached. Close it, or use it as a context manager.

    ``missing`` are the tracepoints that this kernel has not, or has with other arguments.
    """

    def __init__(
        self, scope: Scope, watched: Iterable[Place] = (), *, without_drops: bool = False
    ) -> None:
        """PermissionDeniedError without CAP_BPF and CAP_PERFMON; NotSupportedError without BTF or any tracepoint."""
        if missing(Capability.BPF, Capability.PERFMON):
            raise permission_error("watch tracepoints", Capability.BPF, Capability.PERFMON)
        available = _available(_types())
        self.missing = tuple(name for name in TRACEPOINTS if name not in available)
        if without_drops:
            available.pop(Kind.DROP.tracepoint, None)
            self.missing = tuple(one for one in self.missing if one != Kind.DROP.tracepoint)
        if not available:
            raise NotSupportedError("this kernel has none of the tracepoints of XDP and of drops")
        self._stack = ExitStack()
        self._watched: set[Place] = set()
        self._loaded: dict[str, Loaded] = {}
        with ExitStack() as undo:
            undo.enter_context(self._stack)
            self._load(scope, available)
            # What they count by has to be there before the first of them runs.
            self.watch(watched)
            self._attach()
            undo.pop_all()

    def _load(self, scope: Scope, available: Mapping[str, str]) -> None:
        if not _OBJECT.is_file():
            raise NetbpfError(f"{_OBJECT} is missing", hint="compile it: make bpf")
        spec = ObjectSpec.open(_OBJECT)
        apply(
            spec,
            {
                "only_netns": scope.netns,
                "only_watched": scope.only_watched,
                "drops_anywhere": scope.drops_anywhere,
                "has_rx_sk": available.get("kfree_skb") == _ARGUMENTS["kfree_skb"],
            },
        )
        maps: dict[str, Map] = {}
        for program in spec.programs:
            if program.name in available:
                loaded = self._stack.enter_context(load(spec, program, None, reuse=maps))
                maps = loaded.maps | maps
                self._loaded[program.name] = loaded
        self._maps = maps

    def _attach(self) -> None:
        for name, loaded in self._loaded.items():
            try:
                link = sys_bpf.raw_tracepoint_open(loaded.program.fd.fileno(), None)
            except KernelError as error:
                raise NotSupportedError(
                    f"this kernel does not attach to tracepoint {name}: {error.message}",
                    hint="lockdown or a hypervisor may forbid it: dmesg says more",
                ) from None
            self._stack.callback(link.close)

    def watch(self, places: Iterable[Place]) -> None:
        """The interfaces that matter from now on."""
        wanted = set(places)
        watched = self._maps.get("watched")
        if watched is None:
            return
        for place in wanted - self._watched:
            watched.update(_PLACE.pack(*place), b"\1")
        for place in self._watched - wanted:
            watched.delete(_PLACE.pack(*place))
        self._watched = wanted

    def read(self) -> dict[Raw, Tally]:
        """Everything that was counted so far. Counts only grow."""
        tallies = self._maps["tallies"]
        size, copies = tallies.stride, range(possible_cpus())
        found: dict[Raw, Tally] = {}
        for key, values in tallies.entries():
            parts = [_Part(*_TALLY.unpack_from(values, cpu * size)) for cpu in copies]
            found[_raw(key)] = _sum(parts)
        return found

    def crowded(self) -> dict[str, int]:
        """Events, by tracepoint, for which there was no room."""
        lost = self._maps["lost"]
        found: dict[str, int] = {}
        for number, kind in enumerate(Kind):
            values = lost.lookup(number.to_bytes(4, "little")) or b""
            events = sum(one[0] for one in _LOST.iter_unpack(values))
            if events:
                found[kind.tracepoint] = found.get(kind.tracepoint, 0) + events
        return found

    def nested(self) -> dict[str, int]:
        """How often the kernel did not run a program because it was running on that CPU (Linux 5.12)."""
        counted = {
            name: recursion_misses(loaded.program.fd.fileno())
            for name, loaded in self._loaded.items()
        }
        return {name: number for name, number in counted.items() if number}

    def close(self) -> None:
        """Take them off their tracepoints."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _types() -> Btf:
    try:
        return kernel_btf()
    except NotSupportedError as error:
        raise NotSupportedError(
            error.message,
            hint="what goes wrong is counted by the kernel's own types: use a kernel with CONFIG_DEBUG_INFO_BTF",
        ) from None


def _available(btf: Btf) -> dict[str, str]:
    """The tracepoints whose arguments are those that the programs read, with their arguments."""
    found: dict[str, str] = {}
    for name, wanted in _ARGUMENTS.items():
        types = btf.find(f"btf_trace_{name}", BtfKind.TYPEDEF)
        if not types:
            continue
        pointer = btf.resolve(types[0].id)
        prototype = btf.resolve(pointer.size_or_type)
        if pointer.kind is not BtfKind.PTR or prototype.kind is not BtfKind.FUNC_PROTO:
            continue
        given = ", ".join(_word(btf, one.type_id) for one in btf.params(prototype)[1:])
        if given in (wanted, _OLDER.get(name)):
            found[name] = given
    return found


def _word(btf: Btf, type_id: int) -> str:
    """A type of an argument in a word: ``net_device*``, ``void*``, or ``int`` for every number."""
    of = btf.resolve(type_id)
    if of.kind is not BtfKind.PTR:
        return "int" if of.kind in (BtfKind.INT, BtfKind.ENUM, BtfKind.ENUM64) else of.name
    target = btf.resolve(of.size_or_type)
    return f"{target.name or 'void'}*"


def _raw(key: "memoryview | bytes") -> Raw:
    kind, netns, ifindex, prog_id, code, to_netns, to_ifindex, map_id, location = _KEY.unpack(key)
    return Raw(
        tuple(Kind)[kind], Place(netns, ifindex), prog_id, code, Place(to_netns, to_ifindex), map_id, location,
    )  # fmt: skip


class _Part(NamedTuple):
    """``struct tally`` of one CPU."""

    events: int
    packets: int
    first: int
    last: int
    interface: bytes
    target: bytes
    program: bytes
    function: bytes


def _sum(parts: list[_Part]) -> Tally:
    counted = [part for part in parts if part.events] or parts[:1]

    def name(raws: Iterable[bytes]) -> str:
        # Only the CPU that was first wrote it down.
        written = next((raw for raw in raws if raw[0]), b"")
        return written.split(b"\0")[0].decode(errors="backslashreplace")

    return Tally(
        sum(part.events for part in counted),
        sum(part.packets for part in counted),
        counted[0].first,
        counted[-1].last,
        name(part.interface for part in parts),
        name(part.target for part in parts),
        name(part.program for part in parts),
        name(part.function for part in parts),
    )
