"""The packet that a user gives: an expression, hex digits, or a file of whatever kind."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from netbpf.errors import CaptureError, PacketTextError, UsageError
from netbpf.packets.capture import open_capture
from netbpf.packets.capture.pcap import is_pcap
from netbpf.packets.capture.pcapng import is_pcapng
from netbpf.packets.hextext import from_hex
from netbpf.text import escape

_STDIN: Final = "-"
_GZIP: Final = b"\x1f\x8b"
_HEAD: Final = 4  # bytes by which a capture is known
_MOST: Final = 1 << 24  # bytes of a file that is no capture
_TEXT: Final = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)))


class Given(NamedTuple):
    """A packet, and remarks on where it came from."""

    packet: bytes
    notes: tuple[str, ...] = ()


def from_file(path: str | os.PathLike[str], number: int | None = None) -> Given:
    """The packet in a file; ``-`` is standard input.

    A capture (pcap, pcapng, gzipped or not) gives its first packet, or the one with ``number``, from 1; hex digits and
    dumps give what they stand for; anything else is taken as the packet itself.
    Raises CaptureError, UsageError.
    """
    if os.fspath(path) == _STDIN:
        content = sys.stdin.buffer.read()
        if not _is_capture(content[:_HEAD]):
            return _alone(content, "standard input", number)
        # A capture is read from a file; what it says about the file names it.
        with tempfile.TemporaryDirectory(prefix="netbpf-") as directory:
            copy = Path(directory, "standard input")
            copy.write_bytes(content)
            return _of_capture(copy, number)
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            if not _is_capture(head):
                return _alone(head + file.read(_MOST), escape(os.fspath(path)), number)
    except OSError as error:
        raise _unreadable(path, error) from None
    return _of_capture(path, number)


def holds_capture(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a capture, by its first bytes. Raises CaptureError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return _is_capture(file.read(_HEAD))
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike[str], error: OSError) -> CaptureError:
    return CaptureError(
        f"cannot read {escape(os.fspath(path))}: {error.strerror}",
        hint="check the path" if isinstance(error, FileNotFoundError) else None,
    )


def _is_capture(head: bytes) -> bool:
    return head.startswith(_GZIP) or is_pcapng(head) or is_pcap(head, "")


def _alone(content: bytes, origin: str, number: int | None) -> Given:
    if number is not None:
        raise UsageError(f"{origin} is no capture, so it holds no packet number {number}")
    if len(content) > _MOST:
        raise UsageError(f"{origin} is no capture, and too long for a packet")
    if content and _TEXT.issuperset(content):
        try:
            return Given(from_hex(content.decode("ascii")))
        except PacketTextError as error:
            error.message = f"{origin}: {error.message}"
            raise
    return Given(content)


def _of_capture(path: str | os.PathLike[str], number: int | None) -> Given:
    wanted = 1 if number is None else number
    with open_capture(path) as capture:
        last = 0
        for block in capture.blocks():
            last = block.numbers[-1] if len(block.numbers) else last
            index = next((i for i, one in enumerate(block.numbers) if one >= wanted), None)
            if index is None:
                continue
            found, stamp = block.packet(index), block.stamp(index)
            if number is not None and block.numbers[index] != number:
                raise CaptureError(
                    f"packet {number} of {capture.source.origin} is no Ethernet frame"
                )
            notes = list(capture.warnings)
            if stamp.wire_length > len(found):
                notes.append(
                    f"the capture holds {len(found)} of the packet's {stamp.wire_length} bytes"
                )
            return Given(found, tuple(notes))
        raise CaptureError(
            f"{capture.source.origin} holds no packet"
            + (f" {number}: its last is {last}" if number is not None and last else "")
        )
