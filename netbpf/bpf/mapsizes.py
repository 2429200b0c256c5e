"""The sizes of a map that its definition leaves open, or that the kernel takes in one way only."""

import mmap

from netbpf.bpf.map import possible_cpus
from netbpf.bpf.mapdefs import RINGS, MapSpec
from netbpf.constants import MapType

# One entry per CPU: the kernel takes no CPU beyond the possible ones, whatever max_entries says.
PER_CPU_SIZED = frozenset({MapType.CPUMAP, MapType.PERF_EVENT_ARRAY})


def entries(spec: MapSpec) -> int:
    """How many entries a map gets: what the object says, in a number that the kernel takes."""
    if spec.type in PER_CPU_SIZED and spec.max_entries == 0:
        return possible_cpus()
    if spec.type in RINGS and spec.max_entries:
        # The kernel wants a power of two of whole pages (kernel/bpf/ringbuf.c, ringbuf_map_alloc).
        return max(mmap.PAGESIZE, 1 << (spec.max_entries - 1).bit_length())
    return spec.max_entries
