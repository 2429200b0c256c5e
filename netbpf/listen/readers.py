"""Who else reads a ring buffer."""

from netbpf.bpf.holders import HolderTable, Process


def ring_readers(map_ids: set[int]) -> dict[int, tuple[Process, ...]]:
    """The other processes that read ring buffers, by the map: they have it open, and memory of BPF maps mapped.

    A reader has to write its position, so it needs both. A process that only keeps the map alive, as loaders do, has
    not mapped it. One that closed its descriptor and kept the mapping is not seen: ``RingBuffer.disturbed`` counts it.
    """
    table = HolderTable("map")
    found = {
        number: tuple(one for one in table.processes("map", number) if _maps_memory(one.pid))
        for number in map_ids
    }
    return {number: readers for number, readers in found.items() if readers}


def _maps_memory(process: int) -> bool:
    try:
        with open(f"/proc/{process}/maps", errors="replace") as lines:
            return any("anon_inode:bpf-map" in line and " rw-s " in line for line in lines)
    except OSError:
        return False  # ended meanwhile, or not ours to look at
