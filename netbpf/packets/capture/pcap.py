"""pcap (draft-ietf-opsawg-pcap): a file header, then packets behind a head of 16 bytes each."""

import struct
from collections.abc import Callable, Iterator

from netbpf.errors import CaptureError
from netbpf.packets.capture import linktypes
from netbpf.packets.capture.model import MAX_RECORD, Block, Stamp
from netbpf.packets.capture.window import Window

_FILE_HEADER, _HEAD = 24, 16  # bytes
# The first four bytes of a file: byte order, nanoseconds in a unit of the fraction.
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_MODIFIED = (b"\x34\xcd\xb2\xa1", b"\xa1\xb2\xcd\x34")


def is_pcap(head: bytes, origin: str) -> bool:
    """Whether a file that begins so is a pcap; CaptureError for the variant that is not read."""
    if head in _MODIFIED:
        raise CaptureError(
            f"{origin} is the variant of pcap that an old patch of libpcap wrote, with longer packet heads",
            hint="tshark -F pcap -r IN -w OUT converts it",
        )
    return head in _MAGICS


class Pcap:
    """A pcap being read. ``warnings`` grows where it is cut short or damaged."""

    def __init__(self, window: Window) -> None:
        """Read the file header; CaptureError for other link types than Ethernet."""
        self.window = window
        self.warnings: list[str] = []
        self.skipped: dict[str, int] = {}
        self._read = 0
        origin = window.source.origin
        if not window.need(_FILE_HEADER):
            raise CaptureError(f"{origin} ends within its file header, {window.end} bytes long")
        order, self._unit = _MAGICS[bytes(window.memory[window.at : window.at + 4])]
        link = window.unpack(order + "I", 20)[0]
        # The upper bits say how long a frame check sequence is (draft-ietf-opsawg-pcap, section 4).
        if link & 0xFFFF != linktypes.ETHERNET:
            raise linktypes.refused(origin, link & 0xFFFF)
        self._lengths = struct.Struct(order + "II")
        self._head = struct.Struct(order + "IIII")
        window.at += _FILE_HEADER

    def blocks(self) -> Iterator[Block]:
        """The packets; ends with a warning where the file does not end with a packet."""
        more = True
        while True:
            block = self._block()
            if block.starts:
                self._read += len(block.starts)
                yield block
                continue
            if self._damaged():
                return
            if not more:
                break
            # Only now: what has come through a pipe, with the file's header too, does not wait for what follows.
            more = self.window.more()
        if rest := self.window.end - self.window.at:
            why = self.window.broken or f"the file ends {rest} bytes into it"
            self._warn(f"packet {self._read + 1} at byte {self.window.place} is not whole ({why})")
        elif self.window.broken:
            self._warn(f"after packet {self._read} {self.window.broken}")

    def _warn(self, what: str) -> None:
        self.warnings.append(f"{self.window.source.origin}: {what}; read as far as it goes")

    def _damaged(self) -> bool:
        window = self.window
        if window.end - window.at < _HEAD:
            return False
        length = self._lengths.unpack_from(window.memory, window.at + 8)[0]
        if length <= MAX_RECORD:
            return False
        self._warn(
            f"packet {self._read + 1} at byte {window.place} claims {length} bytes: the file is damaged there"
        )
        return True

    def _block(self) -> Block:
        window = self.window
        memory, at, last = window.memory, window.at, window.end - _HEAD
        lengths_of = self._lengths.unpack_from
        starts: list[int] = []
        lengths: list[int] = []
        cut = False
        add_start, add_length = starts.append, lengths.append
        while (
            at <= last
        ):  # a fifth of a microsecond a packet: everything else waits until it is asked for
            length, wire = lengths_of(memory, at + 8)
            if at + length > last:
                break
            if wire > length:
                cut = True
            at += _HEAD
            add_start(at)
            add_length(length)
            at += length
        window.at = at
        first = self._read + 1
        return Block(
            memory, starts, lengths, range(first, first + len(starts)), self._stamper(starts), cut
        )

    def _stamper(self, starts: list[int]) -> Callable[[int], Stamp]:
        head, memory, unit = self._head, self.window.memory, self._unit

        def stamp(index: int) -> Stamp:
            seconds, fraction, _, wire = head.unpack_from(memory, starts[index] - _HEAD)
            return Stamp(seconds * 1_000_000_000 + fraction * unit, wire)

        return stamp
