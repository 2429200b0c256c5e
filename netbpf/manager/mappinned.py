"""Pins that keep the content of maps for as long as a member needs it.

The kernel empties a prog array, and stops the timers in a map, once no process has the map open and no pin holds it
(kernel/bpf/syscall.c, bpf_map_put_uref), though the program that uses it runs on. So netbpf pins such maps, as
``netbpf/maps/ID`` in a bpffs. A record says of each generation which maps it needs (``Generation.pinned``); it is
written before the pins are made, so a pin of which no record tells is one of a lost record, or of a command that was
killed in its last step.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from netbpf import layout
from netbpf._sys.grace import grace_period
from netbpf.bpf import pin
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.ids import program_ids
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.constants import MapType
from netbpf.errors import (
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    PermissionDeniedError,
)
from netbpf.net.netns import all_namespaces
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import pending, records
from netbpf.state.records import Generation, Record

if TYPE_CHECKING:
    from netbpf.bpf.mapdefs import MapSpec

# Structs that user space has to hold the map for (kernel/bpf/helpers.c, __bpf_async_init answers EPERM without).
_TIMED = frozenset({"bpf_timer", "bpf_wq"})


# --- which maps ---


def needs_holding(spec: "MapSpec", btf: Btf | None) -> bool:
    """Whether a map loses something once nobody holds it: a prog array its programs, others their timers."""
    if spec.type == MapType.PROG_ARRAY:
        return True
    return btf is not None and bool(spec.value_type_id) and _timed(btf, spec.value_type_id)


def _timed(btf: Btf, type_id: int) -> bool:
    one = btf.resolve(type_id)
    if one.kind is Kind.ARRAY:
        return _timed(btf, btf.array(one).type_id)
    if one.kind is Kind.DATASEC:
        return any(_timed(btf, btf.type(var.type_id).size_or_type) for var in btf.section_vars(one))
    if one.kind is not Kind.STRUCT:
        return False
    return one.name in _TIMED or any(_timed(btf, each.type_id) for each in btf.members(one))


def emptied(names: "Iterable[tuple[str, MapSpec]]") -> list[str]:
    """What to say aloud of maps that no pin can hold here, in the words of what is lost."""
    return [
        f"map {name}: no bpffs outlives this shell, so "
        + (
            "the kernel empties it once the last process that has it open ends, and its tail calls then do nothing"
            if spec.type == MapType.PROG_ARRAY
            else "the kernel stops its timers once the last process that has it open ends"
        )
        for name, spec in names
        if spec.type != MapType.PROG_ARRAY or spec.slots
    ]


# --- making and removing pins ---


def directory() -> Path | None:
    """Where new pins go, or None where none would last (``ip netns exec``). Mounts a bpffs if need be."""
    try:
        return layout.map_pins(pin.bpffs())
    except NotSupportedError:
        return None


def pinned() -> dict[int, list[Path]]:
    """Every pin of a map that netbpf made and that is visible here, by the map's id."""
    found: dict[int, list[Path]] = {}
    for root in pin.existing_bpffs():
        for path in pin.listed(layout.map_pins(root)):
            if path.name.isdecimal():
                found.setdefault(int(path.name), []).append(path)
    return found


def chosen(needed: Iterable[int], current: Generation | None) -> tuple[int, ...]:
    """Of the maps that a new generation needs, those that are pinned already or can be."""
    wanted = tuple(sorted(set(needed)))
    if not wanted:
        return ()
    held = set(pinned()) | set(current.pinned if current else ())
    if all(one in held for one in wanted) or directory() is not None:
        return wanted
    return tuple(one for one in wanted if one in held)


def hold(generation: Generation, current: Generation | None) -> None:
    """Pin what a generation needs and nothing holds yet. Its record is written already, and has it ``release``-d."""
    held = set(pinned()) | set(current.pinned if current else ()) if generation.pinned else set()
    missing = [one for one in generation.pinned if one not in held]
    if not missing:
        return
    where = directory()
    assert where is not None
    for number in missing:
        with Map.by_id(number) as one:
            pin.pin(where / str(number), one.fd.fileno())


def release(numbers: Iterable[int]) -> None:
    """Remove those pins that no record needs. What cannot be removed is left to ``sweep``."""
    wanted = set(numbers)
    if not wanted:
        return
    with suppress(NetbpfError):
        wanted -= _needed()
        _remove(path for number, paths in pinned().items() if number in wanted for path in paths)


def _needed() -> set[int]:
    needed = {
        number
        for record in records.read_all()
        for one in record.generations
        for number in one.pinned
    }
    return needed | _waiting()


def _waiting() -> set[int]:
    """What changes that wait for their confirmation need if they go back."""
    return {
        number
        for record in pending.needed_records()
        for one in record.generations
        for number in one.pinned
    }


def _remove(paths: Iterable[Path]) -> None:
    found = list(paths)
    if not found:
        return
    # Packets that are in the program that was taken off still have tail calls before them.
    grace_period()
    for path in found:
        pin.unpin(path)


# --- what was left behind ---


def sweep(dead: Callable[[Record, int], bool]) -> None:
    """Remove the pins that nothing needs any more, with the lock held; ``dead`` tells of a record's programs.

    What a record tells of goes with its programs. Where records were lost, programs may run all the same: a pin stays
    as long as one uses the map, but for those that are there only because the map holds them.
    """
    there = pinned()
    if not there:
        return
    needed = _waiting()
    released: set[int] = set()
    for record in records.read_all():
        for one in record.generations:
            (released if dead(record, one.prog_id) else needed).update(one.pinned)
    left = {number: paths for number, paths in there.items() if number not in needed}
    orphans = [number for number in left if number not in released]
    try:
        in_use = _in_use(orphans) if orphans else set()
    except PermissionDeniedError:
        in_use = set(orphans)  # whoever may look will clear away
    _remove(path for number, paths in left.items() if number not in in_use for path in paths)


def _in_use(numbers: list[int]) -> set[int]:
    """Those of the maps that a program uses which is not merely an element of one of them, or is on a hook."""
    users: dict[int, set[int]] = {number: set() for number in numbers}
    for prog_id in program_ids():
        try:
            with Program.by_id(prog_id) as program:
                for number in program.info.map_ids:
                    if number in users:
                        users[number].add(prog_id)
        except NotAttachedError:
            continue
    elements = {prog_id for number in numbers for prog_id in _elements(number)}
    found = {number for number, ids in users.items() if ids - elements}
    if any(ids for number, ids in users.items() if number not in found):
        attached = set(_attached())
        found |= {number for number, ids in users.items() if ids & attached}
    return found


def _elements(number: int) -> Iterator[int]:
    """The ids of the programs in a prog array."""
    try:
        with Map.by_id(number) as one:
            if one.info.type == MapType.PROG_ARRAY:
                yield from (int.from_bytes(value, "little") for _, value in one.entries() if value)
    except NotAttachedError:
        return


def _attached() -> Iterator[int]:
    for namespace in all_namespaces():
        try:
            with Session(namespace) as session:
                yield from (one.prog_id for one in occupants(session))
        except NetbpfError:
            continue  # it may not be entered
