"""Old values made into new ones, thousands at a time: fields were added at their end, nothing moved."""

from netbpf.bpf.map import Map
from netbpf.carry.batches import Block


class Widener:
    """Turns blocks of one map's values into those of another. ``kept`` is as in ``EntriesStep``."""

    def __init__(self, old: Map, new: Map, kept: bytes) -> None:
        self._old = old.stride if old.per_cpu else old.info.value_size
        self._new = new.stride if new.per_cpu else new.info.value_size
        self._copies = old.entry_size // max(self._old, 1)  # one, or one of each CPU
        self._masks = [(at, mask) for at, mask in enumerate(kept) if mask != 0xFF]
        # Long moves are fewer moves.
        self._width = 8 if self._old % 8 == self._new % 8 == 0 else 1

    def values(self, old: memoryview | bytes, length: int) -> bytes:
        """The new values of ``length`` entries."""
        count = length * self._copies
        made = bytearray(count * self._new)
        if self._old == self._new:
            made[:] = old
        else:
            # Column by column: a slice with a step is one call for all entries.
            source, target = memoryview(old).cast("B"), memoryview(made)
            if self._width == 8:
                source, target = source.cast("Q"), target.cast("Q")
            old_step, new_step = self._old // self._width, self._new // self._width
            for column in range(min(old_step, new_step)):
                target[column::new_step] = source[column::old_step]
        for at, mask in self._masks:
            if mask:
                kept = bytes(one & mask for one in range(256))
                made[at :: self._new] = made[at :: self._new].translate(kept)
            else:
                made[at :: self._new] = bytes(count)
        return bytes(made)

    def block(self, old: Block) -> Block:
        """A whole block."""
        return Block(old.length, old.keys, memoryview(self.values(old.values, old.length)))
