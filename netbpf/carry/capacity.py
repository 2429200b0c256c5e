"""Whether what is in a map fits into a smaller one."""

from netbpf.bpf.map import Map
from netbpf.carry.batches import batches
from netbpf.constants import MapType

_INDEXED = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})


def too_small(live: Map, wanted: int) -> str | None:
    """Why ``wanted`` entries are too few for a map, or None."""
    if wanted >= live.info.max_entries:
        return None
    count = last = 0
    for batch in batches(live):
        count += batch.length
        if live.info.type in _INDEXED:
            last = _last_used(batch.values, batch.length, live.entry_size, batch.keys) or last
    if live.info.type in _INDEXED:
        if last < wanted:
            return None
        return f"it would have {wanted} elements, and element {last} is in use"
    return (
        None if count <= wanted else f"it would have room for {wanted} entries, and holds {count}"
    )


def _last_used(values: memoryview, length: int, size: int, keys: memoryview) -> int:
    """The highest index in a batch whose value is not all zero; 0 for none."""
    if not any(values):
        return 0
    for index in range(length - 1, -1, -1):
        if any(values[index * size : (index + 1) * size]):
            return int.from_bytes(keys[index * 4 : index * 4 + 4], "little")
    return 0
