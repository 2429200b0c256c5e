"""Opening a capture, whatever kind it is."""

import os
from collections.abc import Iterator
from typing import Self

from netbpf.errors import CaptureError
from netbpf.packets.capture.model import WINDOW, Block
from netbpf.packets.capture.pcap import Pcap, is_pcap
from netbpf.packets.capture.pcapng import Pcapng, is_pcapng
from netbpf.packets.capture.source import Source
from netbpf.packets.capture.window import Window


class Capture:
    """A capture that is read once, from its beginning to its end. Close it, or use it as a context manager.

    ``warnings`` are sentences about what is wrong with the file, complete when all blocks are read; ``skipped`` counts
    packets that are no Ethernet frames, by their link type.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it, and look at its beginning."""
        self.source = Source(path)
        try:
            self._window = Window(self.source, memoryview(bytearray(WINDOW)))
            self._reader = _reader(self._window)
        except BaseException:
            self.source.close()
            raise
        self.warnings = self._reader.warnings
        self.skipped = self._reader.skipped

    def blocks(self) -> Iterator[Block]:
        """The packets, some at a time; each block is good until the next one is asked for.

        Raises CaptureError for captures of nothing but other link types than Ethernet.
        """
        return self._reader.blocks()

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes read of the file, and its size; (0, 0) for what has none."""
        return self.source.position, self.source.size

    @property
    def compressed(self) -> bool:
        """Whether the file's size says nothing of what is in it."""
        return self.source.compressed

    def use(self, memory: memoryview) -> None:
        """Read packets into this memory, of at least ``WINDOW`` bytes. Before the first block is asked for."""
        self._window.use(memory)

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_capture(path: str | os.PathLike[str]) -> Capture:
    """Open a pcap or pcapng, compressed with gzip or not; ``-`` is standard input.

    CaptureError for what is none, for other link types than Ethernet, and for what cannot be read.
    """
    return Capture(path)


def _reader(window: Window) -> Pcap | Pcapng:
    origin = window.source.origin
    if not window.need(4):
        why = "is empty" if not window.end else f"has only {window.end} bytes"
        raise CaptureError(f"{origin} is no capture: it {why}")
    head = bytes(window.memory[:4])
    if is_pcap(head, origin):
        return Pcap(window)
    if is_pcapng(head):
        return Pcapng(window)
    raise CaptureError(
        f"{origin} is no capture: it begins with {head.hex(' ')}", hint="netbpf reads pcap and pcapng, also gzipped"
    )  # fmt: skip
