"""pcapng (draft-ietf-opsawg-pcapng): sections of blocks, each section in a byte order of its own."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from netbpf.errors import CaptureError
from netbpf.packets.capture import linktypes
from netbpf.packets.capture.model import MAX_RECORD, Block, Stamp
from netbpf.packets.capture.window import Window

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_HEAD, _LEAST = 8, 12  # bytes: type and length; and the length once more at the end
_LARGEST_KEPT = MAX_RECORD + 65536  # bytes of a block that is looked into: a packet and its options
_RESOLUTION, _OFFSET = 9, 14  # options of an interface
# Bytes before the packet of each kind of block, its head included.
_BEFORE = {PACKET: 28, OLD_PACKET: 28, SIMPLE_PACKET: 12}


def is_pcapng(head: bytes) -> bool:
    """Whether a file that begins so may be a pcapng."""
    return head == b"\x0a\x0d\x0d\x0a"


@dataclass(frozen=True, slots=True)
class _Interface:
    """Where packets came in. ``units`` of its stamps are a second, ``offset`` seconds are added to them."""

    link: int
    snaplen: int
    units: int = 1_000_000
    offset: int = 0


@dataclass(slots=True)
class _Found:
    """Packets of the window: where their blocks begin, and where they themselves do."""

    heads: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    cut: bool = False


class Pcapng:
    """A pcapng being read. ``warnings`` grows where it is cut short or damaged, ``skipped`` counts packets of
    interfaces that are no Ethernet, by link type."""

    def __init__(self, window: Window) -> None:
        """Look at the first block; CaptureError where it is no section header."""
        self.window = window
        self.warnings: list[str] = []
        self.skipped: dict[str, int] = {}
        self._packets = 0
        self._of_ethernet = 0
        self._foreign: int | None = None
        self._interfaces: list[_Interface] = []
        self._damage = ""
        self._passing = 0  # bytes of a block that is not looked into
        self._use_order("<")
        if not window.need(_LEAST) or bytes(window.memory[8:12]) not in _ORDERS:
            raise CaptureError(
                f"{window.source.origin} is no capture: it begins as pcapng does, and goes on otherwise"
            )

    def blocks(self) -> Iterator[Block]:
        """The packets of Ethernet interfaces; ends with a warning where the file is cut short or damaged."""
        more = True
        while not self._damage:
            before = self.window.place
            found = _Found()
            self._collect(found)
            if found.starts:
                self._of_ethernet += len(found.starts)
                yield self._block(found)
                continue
            if not more and self.window.place == before:
                break
            # Only now: what has come through a pipe does not wait for what follows.
            more = self.window.more()
        self._finish()

    def _finish(self) -> None:
        window = self.window
        rest = window.end - window.at
        if self._damage:
            self._warn(f"{self._damage} at byte {window.place}, after packet {self._packets}")
        elif rest or self._passing:
            why = window.broken or f"the file ends {rest} bytes into it"
            self._warn(
                f"the block at byte {window.place}, after packet {self._packets}, is not whole ({why})"
            )
        elif window.broken:
            self._warn(f"after packet {self._packets} {window.broken}")
        if self._foreign is not None and not self._of_ethernet:
            raise linktypes.refused(window.source.origin, self._foreign)

    def _warn(self, what: str) -> None:
        self.warnings.append(f"{self.window.source.origin}: {what}; read as far as it goes")

    def _use_order(self, order: str) -> None:
        self._two = struct.Struct(order + "II")
        self._packet = struct.Struct(order + "IIIII")
        self._old = struct.Struct(order + "HHIIII")
        self._one = struct.Struct(order + "I")
        self._option = struct.Struct(order + "HH")
        self._order = order

    # --- blocks ---

    def _collect(self, found: _Found) -> None:
        """Go through what is in the window, up to a block that is not whole, or to the next section."""
        window = self.window
        if self._passing:
            passed = min(self._passing, window.end - window.at)
            window.at += passed
            self._passing -= passed
        memory, end = window.memory, window.end
        while not self._damage and end - window.at >= _HEAD:
            at = window.at
            kind, total = self._two.unpack_from(memory, at)
            if kind == SECTION:
                if found.starts or end - at < _LEAST:
                    return
                total = self._begin_section(at)
            if total < _LEAST or total % 4:
                self._damage = f"a block claims {total} bytes"
                return
            if total > end - at:
                self._not_whole(kind, total, end - at)
                return
            if self._one.unpack_from(memory, at + total - 4)[0] != total:
                self._damage = "a block's two lengths differ"
                return
            if kind in _BEFORE:
                self._take(kind, at, total, found)
            elif kind == INTERFACE:
                self._add_interface(at, total)
            if not self._damage:
                window.at = at + total

    def _begin_section(self, at: int) -> int:
        """A section header: its byte order, and how long it is."""
        order = _ORDERS.get(bytes(self.window.memory[at + 8 : at + 12]))
        if order is None:
            self._damage = "a section header has no byte order"
            return 0
        self._use_order(order)
        self._interfaces = []  # a new list: stamps of the last section may still be asked for
        total: int = self._one.unpack_from(self.window.memory, at + 4)[0]
        return total

    def _not_whole(self, kind: int, total: int, here: int) -> None:
        if kind not in (SECTION, INTERFACE, *_BEFORE):
            self._passing = total - here
            self.window.at = self.window.end
        elif total > _LARGEST_KEPT:
            self._damage = f"a block claims {total} bytes"

    def _add_interface(self, at: int, total: int) -> None:
        if total < 20:
            self._damage = "an interface is described too briefly"
            return
        memory = self.window.memory
        link = struct.unpack_from(self._order + "H", memory, at + 8)[0]
        snaplen = self._one.unpack_from(memory, at + 12)[0]
        units, offset = 1_000_000, 0
        place, last = at + 16, at + total - 4
        while place + 4 <= last:
            code, length = self._option.unpack_from(memory, place)
            place += 4
            if code == 0 or place + length > last:
                break
            if code == _RESOLUTION and length >= 1:
                power = memory[place]
                units = 1 << (power & 0x7F) if power & 0x80 else 10**power
            elif code == _OFFSET and length == 8:
                offset = struct.unpack_from(self._order + "q", memory, place)[0]
            place += (length + 3) & ~3
        self._interfaces.append(_Interface(link, snaplen, units, offset))

    # --- packets ---

    def _take(self, kind: int, at: int, total: int, found: _Found) -> None:
        memory, before = self.window.memory, _BEFORE[kind]
        room = total - before - 4
        if room < 0:
            self._damage = f"a packet's block has {total} bytes"
            return
        if kind == PACKET:
            number, _, _, length, wire = self._packet.unpack_from(memory, at + _HEAD)
        elif kind == OLD_PACKET:
            number, _, _, _, length, wire = self._old.unpack_from(memory, at + _HEAD)
        else:
            number, (length, wire) = 0, self._simple_lengths(at, room)
        if length > room:
            self._damage = f"a packet claims {length} bytes in a block of {total}"
        elif number >= len(self._interfaces):
            self._damage = f"a packet names interface {number}, which is not described"
        else:
            self._packets += 1
            link = self._interfaces[number].link
            if link == linktypes.ETHERNET:
                found.heads.append(at)
                found.starts.append(at + before)
                found.lengths.append(length)
                found.numbers.append(self._packets)
                found.cut |= wire > length
            else:
                name = linktypes.name_of(link)
                self._foreign = link if self._foreign is None else self._foreign
                self.skipped[name] = self.skipped.get(name, 0) + 1

    def _simple_lengths(self, at: int, room: int) -> tuple[int, int]:
        """A simple packet does not say how much of it is there."""
        wire: int = self._one.unpack_from(self.window.memory, at + _HEAD)[0]
        snaplen = self._interfaces[0].snaplen if self._interfaces else 0
        return min(wire, snaplen or wire, room), wire

    def _block(self, found: _Found) -> Block:
        return Block(
            self.window.memory,
            found.starts,
            found.lengths,
            found.numbers,
            self._stamper(found),
            found.cut,
        )

    def _stamper(self, found: _Found) -> Callable[[int], Stamp]:
        memory, interfaces = self.window.memory, self._interfaces
        two, packet, old = self._two, self._packet, self._old

        def stamp(index: int) -> Stamp:
            at = found.heads[index]
            kind = two.unpack_from(memory, at)[0]
            if kind == SIMPLE_PACKET:
                return Stamp(None, two.unpack_from(memory, at + 4)[1])
            if kind == PACKET:
                number, high, low, _, wire = packet.unpack_from(memory, at + _HEAD)
            else:
                number, _, high, low, _, wire = old.unpack_from(memory, at + _HEAD)
            one = interfaces[number]
            ticks = high << 32 | low
            return Stamp(ticks * 1_000_000_000 // one.units + one.offset * 1_000_000_000, wire)

        return stamp
