"""The counters of a chain: one map that lives as long as the hook has members, whatever becomes of the chain."""

import struct
from collections.abc import Container
from typing import Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.memlock import without_memlock_limit
from netbpf.bpf.chain.verdicts import OTHER, known, layout
from netbpf.bpf.map import Map
from netbpf.constants import Hook, MapType
from netbpf.errors import NetbpfError, ObjectError

SLOTS = 256
NAME = "netbpf_verdicts"
_KEY = bytes(4)


class Counters:
    """Packets by slot and verdict, counted by each CPU for itself. A member has one slot for as long as it stays.

    It is a PERCPU_ARRAY with one value that holds all slots, so that the dispatcher looks it up once a packet. Its
    value is at most 24 KB a CPU; the kernel takes 32 KB (PCPU_MIN_UNIT_SIZE, include/linux/percpu.h).

    Counters only grow. User space writes whole values, of all slots, and would undo what CPUs count meanwhile; so a
    slot that is used again keeps what it has, and whoever gives it to a new member remembers that as a baseline.
    Close it, or use it as a context manager; the map lives on while a program uses it.
    """

    def __init__(self, counting: Map, hook: Hook) -> None:
        self.map = counting
        self.hook = hook

    @classmethod
    def create(cls, hook: Hook) -> Self:
        """New counters, all 0."""
        size = SLOTS * layout(hook).stride
        fd = without_memlock_limit(
            lambda: sys_bpf.map_create(MapType.PERCPU_ARRAY, 4, size, 1, name=NAME)
        )
        return cls(Map(fd), hook)

    @classmethod
    def by_id(cls, number: int, hook: Hook) -> Self:
        """Those of a map id. NotAttachedError where it is gone, ObjectError where the id has become another map's."""
        found = Map.by_id(number)
        shape = (
            found.info.type,
            found.info.key_size,
            found.info.value_size,
            found.info.max_entries,
        )
        if shape != (MapType.PERCPU_ARRAY, 4, SLOTS * layout(hook).stride, 1):
            found.close()
            raise ObjectError(f"map {number} does not hold the counters of a chain")
        return cls(found, hook)

    @property
    def id(self) -> int:
        """The map's id."""
        return self.map.info.id

    def fileno(self) -> int:
        """The map's descriptor."""
        return self.map.fd.fileno()

    def read(self) -> tuple[dict[str, int], ...]:
        """Packets by verdict for every slot, summed over CPUs; verdicts that never came are left out.

        "other" are numbers that are no verdict of the hook. The counts of different slots are not of one instant.
        """
        shape, table = layout(self.hook), known(self.hook)
        raw = self.map.lookup(_KEY)
        if raw is None:
            raise NetbpfError(f"map {self.id} lost the counters of its chain")
        size, stride, nothing = SLOTS * shape.stride, shape.stride, bytes(shape.stride)
        names = [OTHER] * shape.count
        for name, number in table.items():
            names[shape.index(number)] = name
        found: list[dict[str, int]] = [{} for _ in range(SLOTS)]
        for cpu in range(0, len(raw), size):
            for slot in range(SLOTS):
                start = cpu + slot * stride
                part = raw[start : start + stride]
                if part == nothing:  # most slots on most CPUs
                    continue
                counts = found[slot]
                for name, packets in zip(
                    names, struct.unpack(f"<{shape.count}Q", part), strict=True
                ):
                    if packets:
                        counts[name] = counts.get(name, 0) + packets
        # In the order of the verdicts, whatever CPU saw one first: the same counts always read the same.
        order = {name: position for position, name in enumerate(dict.fromkeys(names))}
        return tuple(dict(sorted(one.items(), key=lambda item: order[item[0]])) for one in found)

    def free_slot(self, taken: Container[int]) -> tuple[int, dict[str, int]]:
        """A slot for a new member, and what is in it already; NetbpfError where all are taken.

        A slot that nobody has used is preferred: what is freed last is used again last, so that packets which an
        earlier chain still has in its hands are long through.
        """
        counts = self.read()
        free = [slot for slot in range(SLOTS) if slot not in taken]
        if not free:
            raise NetbpfError(
                f"a chain counts {SLOTS} members at most", hint="take one out: netbpf detach"
            )
        used = max((slot for slot in range(SLOTS) if slot in taken or counts[slot]), default=-1)
        slot = next((slot for slot in free if slot > used), None)
        if slot is None:
            slot = next((slot for slot in free if not counts[slot]), free[0])
        return slot, counts[slot]

    def close(self) -> None:
        """Let go of it."""
        self.map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def since(now: dict[str, int], baseline: dict[str, int]) -> dict[str, int]:
    """What a member has counted: what its slot holds now, less what it held before."""
    return {
        name: left for name, packets in now.items() if (left := packets - baseline.get(name, 0)) > 0
    }
