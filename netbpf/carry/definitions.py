"""What an object's definitions of its maps come to here: sizes, flags, and which of them a program reaches."""

from collections.abc import Iterable

from netbpf.bpf.linker import link
from netbpf.bpf.map import possible_cpus
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.mapsizes import entries
from netbpf.bpf.object import ObjectSpec
from netbpf.carry.ops import Op
from netbpf.constants import MapFlag, MapType

_DEVMAPS = frozenset({MapType.DEVMAP, MapType.DEVMAP_HASH})


def kept_bits(ops: list[Op], size: int) -> bytes:
    """Which bits of a new value come from the old one; see ``EntriesStep``."""
    mask = bytearray(size)
    for one in ops:
        bits = ((1 << one.new_bits) - 1) << one.new_bit if one.new_bits else -1
        pattern = (bits & ((1 << one.new_size * 8) - 1)).to_bytes(one.new_size, "little")
        for place in one.places():
            for at, byte in enumerate(pattern, place.new):
                mask[at] |= byte
    return bytes(mask)


def reachable(spec: ObjectSpec, uses: Iterable[str]) -> set[str]:
    """The maps that a program needs: those its code names, those in them, those of the programs it jumps to."""
    programs = {one.name: one for one in spec.programs}
    waiting, found, jumped = list(uses), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in found or name not in spec.maps:
            continue
        found.add(name)
        for target in spec.maps[name].slots.values():
            if spec.maps[name].type != MapType.PROG_ARRAY:
                waiting.append(target)
            elif target in programs and target not in jumped:
                jumped.add(target)
                waiting += link(spec, programs[target].function).map_names
    return found


def asked(spec: MapSpec) -> int:
    """The entries that a definition gets here: in a CPU map one per CPU at most, in some LRU maps as many for each."""
    wanted, cpus = entries(spec), possible_cpus()
    if spec.type == MapType.CPUMAP:
        return min(wanted, cpus)
    if spec.flags & MapFlag.NO_COMMON_LRU:  # kernel/bpf/hashtab.c, htab_map_alloc
        return -(-wanted // cpus) * cpus
    return wanted


def own_flags(flags: int, spec: MapSpec) -> int:
    """A map's flags without those that the kernel adds."""
    # The kernel adds it to what the object says (kernel/bpf/devmap.c, dev_map_init_map).
    return flags & ~MapFlag.RDONLY_PROG if spec.type in _DEVMAPS else flags


def flag_words(flags: int) -> str:
    """The names of flags."""
    return (
        "|".join(one.name.lower() for one in MapFlag if one & flags and one.name) or f"{flags:#x}"
    )


def type_name(number: int) -> str:
    """The name of a map's type, its number where netbpf does not know it."""
    try:
        return MapType(number).name.lower()
    except ValueError:
        return str(number)
