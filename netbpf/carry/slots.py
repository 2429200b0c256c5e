"""Maps whose values are programs or maps: prog arrays, and maps of maps."""

from collections.abc import Callable, Mapping

from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.mapload import kernel_name
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import Program
from netbpf.carry.model import Action, Change, Detail, Item
from netbpf.errors import NotAttachedError
from netbpf.text import escape


def _numbers(live: Map) -> dict[int, int]:
    """The ids in a map of programs or maps by index; those of a hash by the first bytes of the key."""
    return {
        int.from_bytes(key, "little"): int.from_bytes(value[:4], "little")
        for key, value in live.entries()
        if len(value)
    }


def plan_prog_array(
    live: Map, old_spec: ObjectSpec, new_spec: ObjectSpec, name: str, refuse: Callable[[str, str], None]
) -> Item:  # fmt: skip
    """A prog array starts anew, with the programs of the new object.

    What initialisers say is the new object's business. An entry that was filled at attach gets the new object's
    program of the same name, in ``new_spec``. An entry that holds a program of somebody else is refused: it would be
    lost.
    """
    initial, wanted = old_spec.maps[name].slots, new_spec.maps[name].slots
    known = {kernel_name("", one.name): one.name for one in old_spec.programs}
    there = {one.name for one in new_spec.programs}
    details = [Detail(Change.NOTE, f"{escape(name)} is filled with the new object's programs")]
    for index, number in sorted(_numbers(live).items()):
        if index in initial:
            continue
        try:
            with Program.by_id(number) as program:
                running = program.info.name
        except NotAttachedError:
            continue  # it went meanwhile
        program_name = known.get(running)
        place = f"{escape(name)}[{index}]"
        if program_name is None:
            refuse(
                name,
                f"{place} holds program {number} ({escape(running)}), which is none of its object",
            )
        elif program_name not in there:
            refuse(
                name, f"{place} holds {escape(program_name)}, which the new object does not have"
            )
        elif index >= new_spec.maps[name].max_entries:
            refuse(name, f"{place} is behind the end of the new object's array")
        elif index not in wanted:
            wanted[index] = program_name
            text = f"{place} = {escape(program_name)}: setting kept"
            details.append(Detail(Change.SETTING, text, place))
    return Item(name, Action.NEW, tuple(details))


def plan_outer(
    name: str, live: Map, was: MapSpec, spec: MapSpec, old: Mapping[str, Map], carried: Mapping[str, Map]
) -> str | bool:  # fmt: skip
    """A map of maps: whether it is to be filled anew (else it goes on as it is), or why neither can be.

    It goes on if the initialisers are the same and the maps they name go on too. Else it is filled anew, provided
    that nothing is in it but what the old object's initialisers put there.
    """
    same = was.slots == spec.slots and all(target in carried for target in spec.slots.values())
    if same:
        return False
    static = {index: old[target].info.id for index, target in was.slots.items() if target in old}
    others = {
        index: number for index, number in _numbers(live).items() if static.get(index) != number
    }
    if not others:
        return True
    index = min(others)
    return (
        f"the maps that the object puts into it are others now, and {escape(name)}[{index}] holds map "
        f"{others[index]}, which would be lost"
    )
