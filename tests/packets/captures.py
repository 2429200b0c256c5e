"""Captures byte by byte, as other tools and other machines write them."""

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from netbpf.packets.capture import open_capture


class Read(NamedTuple):
    """A packet as a capture gave it."""

    number: int
    time_ns: int | None
    wire_length: int
    data: bytes


def read(path: object) -> tuple[list[Read], list[str]]:
    """All packets of a capture, and the warnings."""
    found = []
    with open_capture(str(path)) as capture:
        for block in capture.blocks():
            for index, number in enumerate(block.numbers):
                stamp = block.stamp(index)
                found.append(Read(number, stamp.time_ns, stamp.wire_length, block.packet(index)))
    return found, capture.warnings


def pcap(
    packets: Iterable[bytes], *, order: str = "<", nano: bool = False, link: int = 1, wire: int = 0
) -> bytes:
    """A pcap; packet ``n``, from 0, came in at 1000 + n seconds and n units of the fraction."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for number, data in enumerate(packets):
        length = max(wire, len(data))
        out += [struct.pack(order + "IIII", 1000 + number, number, len(data), length), data]
    return b"".join(out)


def block(kind: int, content: bytes, order: str = "<") -> bytes:
    """A block of a pcapng."""
    content += bytes(-len(content) % 4)
    total = struct.pack(order + "I", len(content) + 12)
    return struct.pack(order + "I", kind) + total + content + total


def section(order: str = "<") -> bytes:
    """A section header."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    order: str = "<", *, link: int = 1, snaplen: int = 0, options: Sequence[tuple[int, bytes]] = ()
) -> bytes:
    """The description of an interface."""
    content = struct.pack(order + "HHI", link, 0, snaplen)
    for code, value in options:
        content += struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
    if options:
        content += bytes(4)
    return block(1, content, order)


def packet(
    data: bytes, ticks: int = 0, *, order: str = "<", where: int = 0, wire: int = 0
) -> bytes:
    """An enhanced packet block."""
    head = struct.pack(
        order + "IIIII", where, ticks >> 32, ticks & 0xFFFFFFFF, len(data), max(wire, len(data))
    )
    return block(6, head + data, order)


def pcapng(packets: Iterable[bytes], order: str = "<") -> bytes:
    """A pcapng of one interface; packet ``n`` came in at n microseconds."""
    body = b"".join(packet(data, number, order=order) for number, data in enumerate(packets))
    return section(order) + interface(order) + body
