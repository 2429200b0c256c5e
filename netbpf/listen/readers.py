"""Who else reads a ring buffer."""

import os
from collections.abc import Iterator

from netbpf._sys.describe import fdinfo, kind_of
from netbpf.insight.kernel_model import Process


def ring_readers(map_ids: set[int]) -> dict[int, tuple[Process, ...]]:
    """The other processes that read ring buffers, by the map: they have it open, and memory of BPF maps mapped.

    A reader has to write its position, so it needs both. A process that only keeps the map alive, as loaders do, has
    not mapped it. One that closed its descriptor and kept the mapping is not seen: ``RingBuffer.disturbed`` counts it.
    """
    found: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid() and _maps_memory(name):
            for number in {*_open_maps(name)} & map_ids:
                found.setdefault(number, []).append(Process(int(name), _command(name)))
    return {number: tuple(readers) for number, readers in found.items()}


def _maps_memory(process: str) -> bool:
    try:
        with open(f"/proc/{process}/maps", errors="replace") as lines:
            return any("anon_inode:bpf-map" in line and " rw-s " in line for line in lines)
    except OSError:
        return False  # ended meanwhile, or not ours to look at


def _open_maps(process: str) -> Iterator[int]:
    try:
        descriptors = os.listdir(f"/proc/{process}/fd")
    except OSError:
        return
    for number in map(int, descriptors):
        try:
            if kind_of(number, process) == "map":
                yield int(fdinfo(number, process)["map_id"])
        except (OSError, KeyError, ValueError):
            continue  # closed meanwhile


def _command(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
