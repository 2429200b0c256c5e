"""One packet through one program, with all that can be told of it: what ``netbpf run`` does."""

from dataclasses import dataclass, replace
from itertools import repeat as times
from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.constants import Hook, MapType, TcAction, XdpAction
from netbpf.live.reader import map_type
from netbpf.packets.changes import Changes, Snapshot
from netbpf.packets.context import Context, changes
from netbpf.packets.fields import Difference, differences
from netbpf.packets.testrun import Bench, Outcome
from netbpf.packets.verdicts import fate
from netbpf.text import escape

_REDIRECT_MAP: Final = 51  # BPF_FUNC_redirect_map
_TARGETS: Final = frozenset({MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP})
_ETHERNET: Final = 1514  # bytes of a frame with an MTU of 1500
_NOT_REDIRECTED: Final = (
    "the packet was not redirected: TEST_RUN does not look whether the target is there"
)
_TAGS: Final = (b"\x81\x00", b"\x88\xa8")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one packet did, and what was done to it.

    ``before`` is the packet as it was run, ``outcome.data`` as it came out; ``fields`` are the differences, None where
    scapy is not installed; ``context`` the fields of the context that the program changed, (before, after);
    ``changes`` what moved in its variables and maps. ``duration_ns`` is the mean of ``runs`` runs, of which the first
    alone gave everything else. ``notes`` say aloud what is not as on a hook.
    """

    program: str
    object: str
    hook: Hook
    before: bytes
    outcome: Outcome
    fields: tuple[Difference, ...] | None
    context: dict[str, tuple[int, int]]
    changes: Changes
    duration_ns: float
    runs: int = 1
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """ "pass", "drop", "shot" ..., or the number where it is no verdict."""
        return self.outcome.verdict_name

    @property
    def data(self) -> bytes:
        """The packet afterwards."""
        return self.outcome.data

    @property
    def modified(self) -> bool:
        """Whether the packet came out different."""
        return self.before != self.outcome.data


def run_packet(
    bench: Bench, packet: bytes, context: Context | None = None, *, repeat: int = 1
) -> RunResult:
    """Run a program once on a packet, compare everything, and then ``repeat`` times more for the clock.

    Raises what ``Bench.run`` raises.
    """
    context = context or Context()
    before = Snapshot(bench.maps(), bench.hook)
    outcome = bench.run(packet, context)
    result = told(bench, packet, context, outcome, before.changes())
    if repeat == 1:
        return result
    same = not result.modified and outcome.meta == context.meta and not result.context
    mean = _timed(bench, packet, context, repeat, same=same)
    return replace(result, duration_ns=mean, runs=repeat)


def told(
    bench: Bench, packet: bytes, context: Context, outcome: Outcome, moved: Changes
) -> RunResult:
    """What is to be said of one run."""
    given = context.packet(packet)
    found = differences(given, outcome.data)
    touched = {} if bench.hook is Hook.XDP else changes(context, outcome.context)
    return RunResult(
        bench.program, bench.shown, bench.hook, given, outcome,
        None if found is None else tuple(found), touched, moved, outcome.duration_ns, 1,
        (*bench.notes, *_notes(bench, packet, context, outcome)),
    )  # fmt: skip


def _timed(bench: Bench, packet: bytes, context: Context, repeat: int, *, same: bool) -> float:
    """Nanoseconds per run."""
    if same:
        return bench.run(packet, context, repeat=repeat).duration_ns
    # The kernel repeats on one buffer: a second run would begin with what the first has made of the packet.
    return sum(bench.run(packet, context).duration_ns for _ in times(None, repeat)) / repeat


def _notes(bench: Bench, packet: bytes, context: Context, outcome: Outcome) -> list[str]:
    notes: list[str] = []
    given = context.packet(packet)
    if given != packet:
        notes.append(
            f"the packet's EtherType was 0x{packet[12:14].hex()}; the kernel takes skb->protocol from there"
        )
    if outcome.hook is Hook.XDP:
        notes += _xdp_notes(bench, given, outcome)
    else:
        if outcome.verdict == TcAction.REDIRECT:
            notes.append(_NOT_REDIRECTED)
        if given[12:14] in _TAGS:
            notes.append(
                "a VLAN tag is still in this packet; on a hook the kernel has taken it out (skb->vlan_tci)"
            )
    if what := fate(outcome.hook, outcome.verdict):
        notes.append(f"{outcome.verdict} is no verdict; on a hook the packet would be {what}")
    if len(given) > _ETHERNET:
        notes.append(
            f"{len(given)} bytes are more than an interface with MTU 1500 lets in (TEST_RUN knows no MTU)"
        )
    return notes


def _xdp_notes(bench: Bench, packet: bytes, outcome: Outcome) -> list[str]:
    notes: list[str] = []
    if outcome.verdict == XdpAction.REDIRECT:
        notes.append(_NOT_REDIRECTED)
    if outcome.verdict == XdpAction.ABORTED and _redirects_by_map(bench):
        notes.append(
            "bpf_redirect_map gives aborted for an entry that is missing, unless its flags say otherwise"
        )
        notes += [
            f"{map_type(one)} {escape(name)} is empty, as the object has it"
            for name, one in bench.maps().items()
            if one.info.type in _TARGETS and next(one.map.entries(1), None) is None
        ]
    if outcome.linear < len(outcome.data):
        notes.append(
            f"only {outcome.linear} of {len(outcome.data)} bytes lay between data and data_end; "
            "drivers give such packets to programs of section xdp.frags alone"
        )
    return notes


def _redirects_by_map(bench: Bench) -> bool:
    code = bench.loaded.image.insns
    return any(
        one.code == bpf.CALL and one.src == 0 and one.imm == _REDIRECT_MAP
        for one in (bpf.read(code, index) for index in range(len(code) // bpf.SIZE))
    )
