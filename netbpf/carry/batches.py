"""All entries of a map as large blocks of bytes: a million of them take half a second and little memory."""

import errno
from collections.abc import Iterator
from typing import NamedTuple

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.map import Map
from netbpf.errors import KernelError

_SIZE = 4096  # entries per call
_BYTES = 8 << 20  # and at most so many bytes
_ENOTSUPP = 524  # the kernel's own (include/linux/errno.h)


class Block(NamedTuple):
    """So many keys and values, each end to end."""

    length: int
    keys: memoryview
    values: memoryview


def block_size(entry_size: int, max_entries: int) -> int:
    """How many entries to take at once."""
    return max(min(_SIZE, _BYTES // max(entry_size, 1), max_entries), 1)


def batches(live: Map, flags: int = 0) -> Iterator[Block]:
    """Everything in a map that can be listed. ``flags`` are those of lookups (BPF_F_LOCK).

    Entries that come and go meanwhile may be missed or seen; none that stays is missed.
    """
    if flags:
        yield from _one_by_one(live, flags)
        return
    fd, key_size, value_size = live.fd.fileno(), live.info.key_size, live.entry_size
    size = block_size(key_size + value_size, live.info.max_entries)
    cursor = None
    while True:
        try:
            found = sys_bpf.map_lookup_batch(fd, cursor, size, key_size, value_size)
        except KernelError as error:
            if error.errno == errno.ENOSPC:  # one bucket holds more than fits
                size *= 2
                continue
            if cursor is None and error.errno in (errno.EINVAL, _ENOTSUPP):
                yield from _one_by_one(live, flags)  # before Linux 5.6
                return
            raise
        if found.length:
            yield Block(found.length, found.keys, found.values)
        if found.cursor is None:
            return
        cursor = found.cursor


def _one_by_one(live: Map, flags: int) -> Iterator[Block]:
    fd, key_size, value_size = live.fd.fileno(), live.info.key_size, live.entry_size
    size = block_size(key_size + value_size, live.info.max_entries)
    keys, values, key = bytearray(), bytearray(), None
    # Deleting while walking can send the walk back to the start; more steps than entries means just that.
    for _ in range(2 * live.info.max_entries + 2):
        key = sys_bpf.map_next_key(fd, key, key_size)
        if key is None:
            break
        value = sys_bpf.map_lookup(fd, key, value_size, flags)
        if value is not None:
            keys += key
            values += value
        if len(keys) == size * key_size:
            yield Block(size, memoryview(keys), memoryview(values))
            keys, values = bytearray(), bytearray()
    if keys:
        yield Block(len(keys) // key_size, memoryview(keys), memoryview(values))


def write(target: Map, block: Block, flags: int = 0) -> None:
    """Put a block into a map; KernelError (E2BIG) where it is full."""
    fd = target.fd.fileno()
    try:
        sys_bpf.map_update_batch(fd, block.length, bytes(block.keys), bytes(block.values), flags)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, _ENOTSUPP):
            raise
        key_size, value_size = target.info.key_size, target.entry_size
        for index in range(block.length):
            key = bytes(block.keys[index * key_size : (index + 1) * key_size])
            value = bytes(block.values[index * value_size : (index + 1) * value_size])
            sys_bpf.map_update(fd, key, value, flags)
