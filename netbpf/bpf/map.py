"""A live map: its description and its entries as bytes."""

import errno
import functools
import itertools
import sys
from collections.abc import Iterator

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.info import map_frozen, map_info
from netbpf.bpf.handle import Handle
from netbpf.bpf.walk import RESTARTING, Seen
from netbpf.constants import ARRAY_MAPS, HASH_MAPS, PER_CPU_MAPS, MapType
from netbpf.errors import KernelError, NetbpfError, NotSupportedError, ObjectError
from netbpf.model import MapInfo
from netbpf.text import escape

_ENOTSUPP = 524  # the kernel's own ENOTSUPP (include/linux/errno.h), unknown to libc
# Entries per call: what is made of them is to stay in the cache, and a hash bucket has to fit.
_BATCH, _LEAST, _BATCH_BYTES = 4096, 256, 48 * 1024
_WALKED = 256  # entries that are read one by one, then handed on together
_CHUNK = 4096  # bytes looked at together for something that is not zero; an entry may be longer
_READABLE = HASH_MAPS | ARRAY_MAPS | {
    MapType.LPM_TRIE, MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP, MapType.CGROUP_ARRAY,
    MapType.PERF_EVENT_ARRAY, MapType.SOCKMAP, MapType.SOCKHASH, MapType.STACK_TRACE,
}  # fmt: skip
# Their keys are indexes up to max_entries, so they are never full.
_INDEXED = ARRAY_MAPS | {
    MapType.DEVMAP,
    MapType.CPUMAP,
    MapType.XSKMAP,
    MapType.SOCKMAP,
    MapType.PERF_EVENT_ARRAY,
}


@functools.cache
def possible_cpus() -> int:
    """How many CPUs the kernel may ever have: the number of values in an entry of a per-CPU map.

    /sys/devices/system/cpu/possible (Documentation/admin-guide/cputopology.rst), a list such as ``0-3,8``.
    """
    with open("/sys/devices/system/cpu/possible") as file:
        ranges = file.read().strip().split(",")
    return max(int(part.rpartition("-")[2]) for part in ranges) + 1


class Map(Handle[MapInfo]):
    """An open map."""

    kind, word = "MAP", "map"

    def _describe(self) -> MapInfo:
        return map_info(self.fd.fileno())

    # --- shape ---

    @property
    def per_cpu(self) -> bool:
        """Whether every CPU has a value of its own."""
        return self.info.type in PER_CPU_MAPS

    @property
    def stride(self) -> int:
        """Bytes between two CPUs' values: the value size rounded up to 8 (kernel/bpf/syscall.c, bpf_map_value_size)."""
        return (self.info.value_size + 7) & ~7

    @property
    def entry_size(self) -> int:
        """Bytes that one lookup returns: the values of all CPUs for a per-CPU map."""
        if self.per_cpu:
            return self.stride * possible_cpus()
        # Maps of file descriptors give ids, 4 bytes, whatever else they hold.
        return self.info.value_size

    @property
    def frozen(self) -> bool:
        """Whether user space may no longer write (BPF_MAP_FREEZE)."""
        return map_frozen(self.fd.fileno())

    @property
    def readable(self) -> bool:
        """Whether it has keys that can be listed: queues, ring buffers, bloom filters and storages have none."""
        return self.info.type in _READABLE

    # --- entries ---

    def lookup(self, key: bytes) -> bytes | None:
        """The raw value of a key (all CPUs' values for a per-CPU map), or None."""
        return sys_bpf.map_lookup(self.fd.fileno(), key, self.entry_size)

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Write one entry. A full map gives a NetbpfError that says so."""
        if len(key) != self.info.key_size or len(value) != self.entry_size:
            raise ObjectError(
                f"map {escape(self.info.name)} takes keys of {self.info.key_size} "
                f"and values of {self.entry_size} bytes, not {len(key)} and {len(value)}"
            )
        try:
            sys_bpf.map_update(self.fd.fileno(), key, value, flags)
        except KernelError as error:
            raise self._explain(error, key) from None

    def delete(self, key: bytes) -> None:
        """Remove one entry; NetbpfError where there is none."""
        try:
            sys_bpf.map_delete(self.fd.fileno(), key)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise NetbpfError(f"map {escape(self.info.name)} has no such entry") from None
            raise self._explain(error, key) from None

    def _explain(self, error: KernelError, key: bytes) -> NetbpfError:
        name, info = escape(self.info.name), self.info
        # A full LPM trie answers ENOSPC (kernel/bpf/lpm_trie.c), other maps E2BIG.
        if error.errno in (errno.E2BIG, errno.ENOSPC):
            if info.type in _INDEXED:
                index = int.from_bytes(key, "little")
                return ObjectError(
                    f"map {name} has {info.max_entries} entries; index {index} is behind its end"
                )
            return NetbpfError(
                f"map {name} is full ({info.max_entries} of {info.max_entries} entries)"
            )
        if error.errno == errno.EINVAL and info.type == MapType.LPM_TRIE:
            length, most = int.from_bytes(key[:4], sys.byteorder), (info.key_size - 4) * 8
            if length > most:
                return ObjectError(f"map {name}: prefix length {length} is out of range 0..{most}")
        if error.errno in (errno.EPERM, errno.EACCES):
            if self.frozen:
                return NotSupportedError(
                    f"map {name} is frozen: user space cannot write to it any more"
                )
            return permission_error(f"write to map {name}", Capability.BPF)
        return error

    def entries(
        self, limit: int | None = None
    ) -> Iterator[tuple[memoryview | bytes, memoryview | bytes]]:
        """Raw keys and values, at most ``limit`` of them; in batches where the kernel can (Linux 5.6).

        Entries that come and go meanwhile may be missed or seen; no entry that stays is missed, and none comes twice.
        """
        if not self.readable:
            return
        if self._in_batches:
            yield from self._batched(limit)
        else:
            yield from self._walked(limit)

    def nonzero(self) -> Iterator[tuple[memoryview | bytes, memoryview | bytes]]:
        """Those of ``entries`` whose values are not all zeros; of arrays ten times faster.

        An array has all its entries from the start, and few of them are ever written.
        """
        plain = self.info.type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and self.readable
        batches = self._batches(None) if plain else None
        first = next(batches, None) if batches else None
        if batches is None or first is None:
            yield from ((key, value) for key, value in self.entries() if any(value))
            return
        key_size, size = self.info.key_size, self.entry_size
        step = max(_CHUNK // size, 1)
        for batch in itertools.chain((first,), batches):
            values = bytes(batch.values[: batch.length * size])
            for start in range(0, batch.length, step):
                chunk = values[start * size : (start + step) * size]
                if not chunk.strip(b"\0"):
                    continue
                for index in range(start, min(start + step, batch.length)):
                    value = values[index * size : (index + 1) * size]
                    if any(value):
                        yield batch.keys[index * key_size : (index + 1) * key_size], value

    def _batched(
        self, limit: int | None
    ) -> Iterator[tuple[memoryview | bytes, memoryview | bytes]]:
        key_size, value_size = self.info.key_size, self.entry_size
        left, first = limit, True
        for batch in self._batches(limit):
            first = False
            for index in range(batch.length if left is None else min(batch.length, left)):
                yield (
                    batch.keys[index * key_size : (index + 1) * key_size],
                    batch.values[index * value_size : (index + 1) * value_size],
                )
            left = None if left is None else left - batch.length
            if left is not None and left <= 0:
                return
        if first:
            yield from self._walked(limit)

    def batches(self, limit: int | None = None) -> Iterator[sys_bpf.Batch]:
        """Raw keys and values end to end, of at most ``limit`` entries; see ``entries``.

        Values that cannot be read are empty.
        """
        left = limit
        for batch in self._all_batches(limit):
            if left is not None and batch.length >= left:
                if left:
                    size = len(batch.values) // batch.length * left
                    keys = batch.keys[: left * self.info.key_size]
                    yield sys_bpf.Batch(left, keys, batch.values[:size], None)
                return
            yield batch
            left = None if left is None else left - batch.length

    def _all_batches(self, limit: int | None) -> Iterator[sys_bpf.Batch]:
        some = False
        for batch in self._batches(limit) if self._in_batches else ():
            some = True
            yield batch
        if some or not self.readable:
            return
        yield from self._singly(limit)

    def _singly(self, limit: int | None, after: bytes | None = None) -> Iterator[sys_bpf.Batch]:
        walked = self._walked(limit, after)
        while pairs := list(itertools.islice(walked, _WALKED)):
            # Of some maps only some values can be read.
            for _, same in itertools.groupby(pairs, key=lambda pair: len(pair[1])):
                keys, values = zip(*same, strict=True)
                joined = memoryview(b"".join(keys)), memoryview(b"".join(values))
                yield sys_bpf.Batch(len(keys), *joined, None)

    @property
    def _in_batches(self) -> bool:
        """Whether the kernel may read many entries at once."""
        known = HASH_MAPS | ARRAY_MAPS | {MapType.LPM_TRIE}
        return self.info.type in known and self.info.type != MapType.PROG_ARRAY

    def _batches(self, limit: int | None) -> Iterator[sys_bpf.Batch]:
        """Reads of many entries; none at all where the kernel does not know them."""
        fitting = _BATCH_BYTES // max(self.info.key_size + self.entry_size, 1)
        most = min(max(fitting, _LEAST), _BATCH, _BATCH if limit is None else max(limit, 64))
        size = min(most, max(self.info.max_entries, 1))
        cursor: bytes | None = None
        # A hash map's cursor is a bucket.
        restarting = self.info.type in RESTARTING - HASH_MAPS
        new = Seen(self.info.key_size).new if restarting else _same
        while True:
            try:
                batch = sys_bpf.map_lookup_batch(
                    self.fd.fileno(), cursor, size, self.info.key_size, self.entry_size
                )
            except KernelError as error:
                if error.errno == errno.ENOSPC:  # one bucket holds more than fits
                    size *= 2
                    continue
                if error.errno == errno.EINTR and self.info.type not in HASH_MAPS:
                    # Before Linux 6.14, where an array of maps has a hole (generic_map_lookup_batch,
                    # kernel/bpf/syscall.c). The cursor of these maps is the last key.
                    after = cursor and cursor[: self.info.key_size]
                    yield from map(new, self._singly(None, after))
                    return
                if cursor is None and error.errno in (errno.EINVAL, _ENOTSUPP):
                    return
                raise
            yield new(batch)
            if batch.cursor is None:
                return
            cursor = batch.cursor

    def _walked(
        self, limit: int | None, after: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        fd, key, count = self.fd.fileno(), after, 0
        known: set[bytes] | None = set() if self.info.type in RESTARTING else None
        # Deleting while walking can send the walk back to the start; more steps than entries means just that.
        for _ in range(2 * self.info.max_entries + 2):
            if limit is not None and count >= limit:
                return
            key = sys_bpf.map_next_key(fd, key, self.info.key_size)
            if key is None:
                return
            value = self._lookup_quietly(key)
            if value is None or (known is not None and key in known):
                continue
            if known is not None:
                known.add(key)
            count += 1
            yield key, value

    def _lookup_quietly(self, key: bytes) -> bytes | None:
        try:
            return self.lookup(key)
        except KernelError as error:
            # Some maps list keys whose values user space cannot read.
            if error.errno in (errno.EOPNOTSUPP, _ENOTSUPP, errno.EPERM):
                return b""
            raise


def _same(batch: sys_bpf.Batch) -> sys_bpf.Batch:
    return batch
