"""What still needs a program that lost its pins: hooks, links, processes, other pins, prog arrays."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from netbpf._sys.grace import grace_period
from netbpf.bpf.holders import Holders
from netbpf.bpf.ids import map_ids
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.constants import MapType
from netbpf.errors import NotAttachedError
from netbpf.insight.choose import Wanted
from netbpf.insight.kernel import links, programs
from netbpf.manager.loadpins import Pinned
from netbpf.manager.status import status
from netbpf.model import Attachment
from netbpf.net.netns import Namespace

_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Remaining:
    """A program that is still in the kernel, or whose code is.

    ``hooks`` are where it runs; ``links`` the ids of other links of it, ``arrays`` those of prog arrays that jump to
    it; ``holders`` pins and processes. ``linked`` says that the program is gone and its code runs on in a chain.
    """

    name: str
    id: int
    hooks: tuple[Attachment, ...] = ()
    holders: Holders = field(default_factory=Holders)
    links: tuple[int, ...] = ()
    arrays: tuple[int, ...] = ()
    linked: bool = False


def attachments(netns: str | Namespace | None) -> list[Attachment]:
    """What runs in all network namespaces that can be found, and in the given or current one."""
    here = {_place(one): one for one in status(netns=netns)}
    return list((here | {_place(one): one for one in status(all_netns=True)}).values())


def _place(one: Attachment) -> tuple[int, int, str, int]:
    at = one.occupant.interface
    return at.netns, at.index, one.occupant.hook, one.occupant.prog_id


def remaining(
    pins: tuple[Pinned, ...], maps: tuple[Pinned, ...], attached: list[Attachment]
) -> tuple[Remaining, ...]:
    """Of programs that were pinned those that are still there, with what holds them. Raises PermissionDeniedError."""
    alive = [one for one in pins if _alive(one.id)]
    found: dict[int, Remaining] = {}
    for _ in range(_ROUNDS):
        if not alive:
            break
        # Before Linux 6.9 a removed pin lets go only after a grace period (kernel/bpf/inode.c, bpf_free_inode), and
        # a prog array that nobody holds is emptied on a thread of the kernel (bpf_fd_array_map_clear).
        grace_period()
        found = {one.id: still for one in alive if (still := _held(one, attached))}
        # Nor is a process a reason to give up: whoever lists programs holds each for a moment.
        if all(one.hooks or one.links or one.holders.pins for one in found.values()):
            break
    for one in pins:
        if one.id not in found and (hooks := tuple(_chains(one, maps, attached))):
            found[one.id] = Remaining(one.name, one.id, hooks, linked=True)
    return tuple(found.values())


def _alive(number: int) -> bool:
    with suppress(NotAttachedError), Program.by_id(number):
        return True
    return False


def _held(one: Pinned, attached: list[Attachment]) -> Remaining | None:
    try:
        [seen] = programs(Wanted(id=one.id), lambda: attached)
    except NotAttachedError:
        return None
    on_hooks = {each.occupant.link_id for each in seen.hooks}
    of_it = [each.info.id for each in links(Wanted(), list) if each.info.prog_id == one.id]
    others = tuple(each for each in of_it if each not in on_hooks)
    return Remaining(one.name, one.id, seen.hooks, seen.holders, others, tuple(_arrays(one.id)))


def _arrays(number: int) -> Iterator[int]:
    for each in map_ids():
        with suppress(NotAttachedError), Map.by_id(each) as array:
            if array.info.type == MapType.PROG_ARRAY and any(
                value and int.from_bytes(value, "little") == number for _, value in array.entries()
            ):
                yield each


def _chains(
    one: Pinned, maps: tuple[Pinned, ...], attached: list[Attachment]
) -> Iterator[Attachment]:
    """Chains with a member that has the program's name and one of its maps: their code is a copy."""
    ids = {each.id for each in maps}
    for each in attached:
        for member in each.members:
            if each.is_chain and member.program == one.name and ids & {n for _, n in member.maps}:
                yield each
