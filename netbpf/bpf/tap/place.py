"""Where a tap keeps what it has copied until the verdict is known, and what it counts: one array with a value.

Its value has a part for every CPU: counts, the depth, and a slot for each level of nesting. A program on a hook is
entered again before it is done where it sends a packet through the same hook (bpf_clone_redirect); what began last
ends first. The memory can be mapped, so that reading the counts costs no system call.
"""

import mmap
import struct
from typing import Final, NamedTuple, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.memlock import without_memlock_limit
from netbpf.bpf.map import Map, possible_cpus
from netbpf.constants import MapFlag, MapType

LEVELS: Final = 3
LARGEST: Final = 262_144  # bytes of a packet that can be kept; as tcpdump
VERDICTS: Final = 16  # counters of verdicts: more than a hook has
# Bytes within the part of a CPU.
SEEN, MATCHED, LOST, NESTED, DEPTH, ARMED, BY_VERDICT = 0, 8, 16, 24, 32, 36, 64
SLOTS: Final = BY_VERDICT + 8 * VERDICTS
RECORD: Final = 56  # bytes before the packet in a slot: see ``code.HEAD``
NAME, RING_NAME = "netbpf_tap", "netbpf_tapped"
_COUNTS: Final = struct.Struct("=4Q")
_MOST_RING: Final = 1 << 30


def slot_size(snaplen: int) -> int:
    """Bytes of a slot."""
    return RECORD + (snaplen + 7 & ~7)


def stride(snaplen: int) -> int:
    """Bytes of a CPU's part: whole cache lines, so that no two CPUs write to one."""
    size = SLOTS + LEVELS * slot_size(snaplen)
    return size + -size % 128


class Counts(NamedTuple):
    """What a tap has counted since it was made, all CPUs together.

    ``seen`` are the packets that came to it, ``matched`` those that passed its filter, ``lost`` those for which the
    ring buffer had no room, ``nested`` those that matched in the middle of too many others; ``verdicts`` are those of
    the matched, by their index in the hook's ``verdicts.Layout``.
    """

    seen: int
    matched: int
    lost: int
    nested: int
    verdicts: tuple[int, ...]


class Place:
    """The maps of a tap. Close it, or use it as a context manager; they live on while a program uses them."""

    def __init__(self, state: Map, ring: Map, snaplen: int) -> None:
        """Takes over the maps."""
        self.state, self.ring, self.snaplen = state, ring, snaplen
        self._memory: mmap.mmap | None = None

    @classmethod
    def create(cls, snaplen: int, ring_size: int) -> Self:
        """New maps. ``ring_size`` is a power of two and whole pages, in bytes. Raises KernelError (ENOMEM, EPERM)."""
        size = possible_cpus() * stride(snaplen)
        state = Map(
            without_memlock_limit(
                lambda: sys_bpf.map_create(
                    MapType.ARRAY, 4, size, 1, flags=MapFlag.MMAPABLE, name=NAME
                )
            )
        )
        try:
            ring = Map(
                without_memlock_limit(
                    lambda: sys_bpf.map_create(MapType.RINGBUF, 0, 0, ring_size, name=RING_NAME)
                )
            )
        except BaseException:
            state.close()
            raise
        return cls(state, ring, snaplen)

    @classmethod
    def by_ids(cls, state: int, ring: int, snaplen: int) -> Self:
        """Those of map ids; NotAttachedError where they are gone."""
        first = Map.by_id(state)
        try:
            return cls(first, Map.by_id(ring), snaplen)
        except BaseException:
            first.close()
            raise

    def counts(self) -> Counts:
        """What has been counted so far."""
        if self._memory is None:
            size = self.state.info.value_size
            self._memory = mmap.mmap(self.state.fd.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
        total = [0, 0, 0, 0]
        verdicts = [0] * VERDICTS
        for start in range(0, len(self._memory), stride(self.snaplen)):
            found = _COUNTS.unpack_from(self._memory, start + SEEN)
            if not found[0]:
                continue
            total = [one + more for one, more in zip(total, found, strict=True)]
            by_verdict = struct.unpack_from(f"={VERDICTS}Q", self._memory, start + BY_VERDICT)
            verdicts = [one + more for one, more in zip(verdicts, by_verdict, strict=True)]
        return Counts(total[0], total[1], total[2], total[3], tuple(verdicts))

    def close(self) -> None:
        """Let go of them."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self.state.close()
        self.ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
