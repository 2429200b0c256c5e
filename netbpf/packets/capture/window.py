"""The part of a capture that is in memory."""

import struct

from netbpf.packets.capture.source import Source


class Window:
    """A piece of memory that wanders through a stream: what is read is dropped, what is begun moves to the front.

    ``at`` and ``end`` bound what is not yet read, ``base`` is the place of ``memory[0]`` in the stream. ``broken``
    says why the stream ended, where it did not end by itself.
    """

    def __init__(self, source: Source, memory: memoryview) -> None:
        self.source, self.memory = source, memory
        self.at = self.end = self.base = 0
        self.broken = ""

    def use(self, memory: memoryview) -> None:
        """Go on in another piece of memory, at least as large."""
        rest = self.end - self.at
        memory[:rest] = self.memory[self.at : self.end]
        self.memory, self.base = memory, self.place
        self.at, self.end = 0, rest

    @property
    def place(self) -> int:
        """Where in the stream reading has come to."""
        return self.base + self.at

    def more(self) -> bool:
        """Read on once; False at the end of the stream, or where there is no room."""
        if self.at:
            rest = self.end - self.at
            self.memory[:rest] = bytes(self.memory[self.at : self.end])
            self.base += self.at
            self.at, self.end = 0, rest
        if self.broken or self.end == len(self.memory):
            return False
        count, self.broken = self.source.read_into(self.memory[self.end :])
        self.end += count
        return count > 0

    def need(self, count: int) -> bool:
        """Whether ``count`` bytes are there, reading as long as it takes."""
        while self.end - self.at < count:
            if not self.more():
                return False
        return True

    def skip(self, count: int) -> bool:
        """Drop ``count`` bytes; False where the stream ends before."""
        while count > self.end - self.at:
            count -= self.end - self.at
            self.at = self.end
            if not self.more():
                return False
        self.at += count
        return True

    def unpack(self, layout: str, offset: int = 0) -> tuple[int, ...]:
        """Numbers from what is not yet read; they have to be there."""
        return struct.unpack_from(layout, self.memory, self.at + offset)
