"""Two readings of a map compared, and values made into wider ones: against the plainest way to do it."""

import random
from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from netbpf.bpf.map import Map
from netbpf.carry.batches import Block
from netbpf.carry.changes import differences
from netbpf.carry.widen import Widener

entries = st.dictionaries(st.integers(0, 60), st.integers(0, 3), max_size=40)


def blocks(content: dict[int, int], size: int, order: random.Random) -> list[Block]:
    """A map as the kernel lists it: in an order that depends on the keys alone, some entries off their place."""
    keys = sorted(content, key=lambda key: (key * 37) % 61)
    for _ in range(order.randrange(3)):
        if len(keys) > 1:
            at = order.randrange(len(keys) - 1)
            keys[at], keys[at + 1] = keys[at + 1], keys[at]
    found = []
    for start in range(0, len(keys), size):
        part = keys[start : start + size]
        found.append(Block(
            len(part), memoryview(b"".join(key.to_bytes(2, "little") for key in part)),
            memoryview(b"".join(content[key].to_bytes(4, "little") for key in part)),
        ))  # fmt: skip
    return found


@given(entries, entries, st.integers(1, 9), st.integers(1, 9), st.randoms())
def test_differences(
    before: dict[int, int], changed: dict[int, int], a: int, b: int, order: random.Random
) -> None:
    after = {key: changed.get(key, value) for key, value in before.items() if changed.get(key) != 0}
    after |= {key: value for key, value in changed.items() if key > 50}
    found = list(differences(blocks(before, a, order), blocks(after, b, order), 2))
    as_numbers = [
        tuple(None if part is None else int.from_bytes(part, "little") for part in one)
        for one in found
    ]
    assert sorted(as_numbers, key=str) == sorted(
        (
            (key, before.get(key), after.get(key))
            for key in before.keys() | after.keys()
            if before.get(key) != after.get(key)
        ),
        key=str,
    )


def shaped(value_size: int, cpus: int) -> Map:
    """As much of a map as is asked of it."""
    stride = (value_size + 7) & ~7
    return cast(
        "Map",
        SimpleNamespace(
            per_cpu=cpus > 0, stride=stride, info=SimpleNamespace(value_size=value_size),
            entry_size=cpus * stride if cpus else value_size,
        ),
    )  # fmt: skip


@given(
    st.integers(1, 30), st.integers(0, 20), st.sampled_from([0, 1, 3]), st.integers(1, 5), st.data()
)
def test_wider_values(
    old_size: int, more: int, cpus: int, length: int, data: st.DataObject
) -> None:
    old, new = shaped(old_size, cpus), shaped(old_size + more, cpus)
    mask = st.sampled_from([0, 0xFF, 0x0F])
    kept = bytes(data.draw(mask) for _ in range(old_size)) + bytes(more)
    content = data.draw(
        st.binary(min_size=length * old.entry_size, max_size=length * old.entry_size)
    )
    found = Widener(old, new, kept).values(memoryview(content), length)
    old_step, new_step = (old.stride, new.stride) if cpus else (old_size, old_size + more)
    for number in range(length * max(cpus, 1)):
        was = content[number * old_step : number * old_step + old_size]
        now = found[number * new_step : number * new_step + old_size + more]
        assert now == bytes(a & b for a, b in zip(was, kept, strict=False)) + bytes(more)
