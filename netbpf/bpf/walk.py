"""Walks through maps that begin anew: who deletes the entry where a walk stands sends it back to the first.

So do LPM tries, DEVMAP_HASH, SOCKHASH and, one entry at a time, hash maps (the map_get_next_key of
kernel/bpf/lpm_trie.c, devmap.c and hashtab.c, and of net/core/sock_map.c). Batches of hash maps go on by buckets,
arrays by numbers: there nothing comes twice.
"""

import struct
from itertools import chain

from netbpf._sys.bpf import Batch
from netbpf.constants import HASH_MAPS, MapType

RESTARTING = HASH_MAPS | {MapType.LPM_TRIE, MapType.DEVMAP_HASH, MapType.SOCKHASH}


class Seen:
    """The keys of a walk so far, ``size`` bytes each."""

    def __init__(self, size: int) -> None:
        self._keys: set[bytes] = set()
        self._key = struct.Struct(f"{size}s")

    def new(self, batch: Batch) -> Batch:
        """What of a batch comes for the first time."""
        keys: list[bytes] = list(chain.from_iterable(self._key.iter_unpack(batch.keys)))
        if len(set(keys)) < len(keys) or not self._keys.isdisjoint(keys):
            return self._some(batch, keys)
        self._keys.update(keys)
        return batch

    def _some(self, batch: Batch, keys: list[bytes]) -> Batch:
        size = len(batch.values) // batch.length
        found: dict[bytes, memoryview] = {}
        for number, key in enumerate(keys):
            if key not in self._keys:
                found.setdefault(key, batch.values[number * size : (number + 1) * size])
        self._keys.update(found)
        joined = memoryview(b"".join(found)), memoryview(b"".join(found.values()))
        return Batch(len(found), *joined, batch.cursor)
