"""What has changed in a map between two readings, in little memory: both are read side by side.

A hash map lists its entries in the same order as long as none comes or goes, so most blocks are the same bytes. Where
one does come or go, entries wait for their other half, which is not far.
"""

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple

from netbpf.carry.batches import Block


class Difference(NamedTuple):
    """An entry before and after; None where it was not there."""

    key: bytes
    before: bytes | None
    after: bytes | None


def differences(
    before: Iterable[Block], after: Iterable[Block], key_size: int
) -> Iterator[Difference]:
    """Every entry that is not the same in both, those that came and went last."""
    waiting: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for old, new in zip_longest(before, after):
        if old and new and old.length == new.length and old.keys == new.keys and not any(waiting):
            if old.values != new.values:
                for (key, was), (_, now) in zip(
                    _entries(old, key_size), _entries(new, key_size), strict=True
                ):
                    if was != now:
                        yield Difference(key, was, now)
            continue
        for key, was in _entries(old, key_size):
            other = waiting[1].pop(key, None)
            if other is None:
                waiting[0][key] = was
            elif other != was:
                yield Difference(key, was, other)
        for key, now in _entries(new, key_size):
            found = waiting[0].pop(key, None)
            if found is None:
                waiting[1][key] = now
            elif found != now:
                yield Difference(key, found, now)
    for key, was in waiting[0].items():
        yield Difference(key, was, None)
    for key, now in waiting[1].items():
        yield Difference(key, None, now)


def _entries(block: Block | None, key_size: int) -> Iterator[tuple[bytes, bytes]]:
    if block is None:
        return
    size = len(block.values) // block.length
    keys, values = bytes(block.keys), bytes(block.values)
    for index in range(block.length):
        yield (
            keys[index * key_size : (index + 1) * key_size],
            values[index * size : (index + 1) * size],
        )
