"""Copies of what netbpf runs on the hooks of an interface, one program for each member, in the order of the way in."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from netbpf.bpf.chain import verdicts
from netbpf.bpf.cover.active import collecting
from netbpf.bpf.cover.watcher import Watcher
from netbpf.constants import Hook, ProgFlag
from netbpf.errors import NotAttachedError, NotManagedError
from netbpf.manager.status import status
from netbpf.model import Attachment, Member
from netbpf.net.netns import Namespace
from netbpf.packets.replay_live import Copier
from netbpf.packets.testrun import Bench
from netbpf.text import escape

MOST_COPIED: Final = 1_000_000  # entries of a map
# A packet that comes in meets these, in this order.
_WAY_IN: Final = (Hook.XDP, Hook.TC_INGRESS)


@dataclass(frozen=True, slots=True)
class Station:
    """The copy of one member, and the verdicts with which it hands packets on."""

    name: str
    object: str
    bench: Bench
    proceeds: frozenset[int]


@dataclass(frozen=True, slots=True)
class Stop:
    """One hook with its members in running order.

    ``mixed``: only some take XDP frames in several buffers, so that the chain takes none.
    """

    hook: Hook
    ifindex: int
    stations: tuple[Station, ...]
    mixed: bool


@dataclass(frozen=True, slots=True)
class Way:
    """The hooks that a packet comes to; ``notes`` say what is not as there."""

    stops: tuple[Stop, ...]
    watcher: Watcher
    notes: tuple[str, ...]


@contextmanager
def copied(interface: str, hooks: Sequence[Hook], netns: str | Namespace | None) -> Iterator[Way]:
    """The copies; they go when the block ends. Of ``hooks`` those on the way in, or, if nothing is there, out.

    Raises NotAttachedError, NotManagedError for what others attached, NetbpfError where a member's object or map is
    lost, and what loading raises.
    """
    found = _chosen(interface, hooks, netns)
    notes = list(_strangers(found))
    with ExitStack() as held:
        watcher = held.enter_context(Watcher())
        stops = [_stop(one, watcher, held, notes) for one in found if one.members]
        yield Way(tuple(stops), watcher, tuple(dict.fromkeys((*notes, *watcher.notes))))


def _stop(attachment: Attachment, watcher: Watcher, held: ExitStack, notes: list[str]) -> Stop:
    hook = attachment.occupant.hook
    copier = Copier(hook, held, MOST_COPIED)
    with collecting(watcher):
        stations = [_station(member, hook, copier) for member in attachment.members]
    frags = {
        bool(one.bench.loaded.program_spec.declared.flags & ProgFlag.XDP_HAS_FRAGS)
        for one in stations
    }
    notes += copier.notes
    return Stop(hook, attachment.occupant.interface.index, tuple(stations), len(frags) > 1)


def _station(member: Member, hook: Hook, copier: Copier) -> Station:
    loaded = copier.copy(member)
    proceeds = frozenset(verdicts.numbers(hook, member.proceed_on or ("none",)))
    return Station(
        member.name, member.object.path, Bench(loaded, hook, member.object.path), proceeds
    )


def _chosen(
    interface: str, hooks: Sequence[Hook], netns: str | Namespace | None
) -> list[Attachment]:
    """What runs on the way, in order."""
    found = [one for one in status(interface, netns=netns) if one.occupant.hook in hooks]
    if not found:
        kinds = (
            "XDP or TC" if len({one.prog_type for one in hooks}) > 1 else hooks[0].prog_type.name
        )
        raise NotAttachedError(
            f"no {kinds} program on {escape(interface)}", hint="netbpf status shows what runs where"
        )
    inward = [one for one in found if one.occupant.hook in _WAY_IN]
    way = (
        inward
        if any(one.members for one in inward)
        else [one for one in found if one.occupant.hook is Hook.TC_EGRESS] or inward
    )
    if not any(one.members for one in way):
        first = way[0]
        raise NotManagedError(
            f"{escape(first.program.name)} (program {first.program.id}, {first.occupant.hook}) on "
            f"{escape(interface)} was not attached by netbpf: the kernel gives its instructions only as the verifier "
            "left them, which cannot be loaded again, and to run itself would move its counters and maps",
            hint="with its object: netbpf run OBJECT --packet ... --coverage",
        )
    order = [*_WAY_IN, Hook.TC_EGRESS]
    return sorted(way, key=lambda one: (order.index(one.occupant.hook), one.occupant.position))


def _strangers(found: Sequence[Attachment]) -> Iterator[str]:
    for one in found:
        if not one.members:
            yield (
                f"{one.occupant.hook} also runs {escape(one.program.name)} (program {one.program.id}), which netbpf "
                "did not attach and cannot copy: what it does to packets is left out"
            )
