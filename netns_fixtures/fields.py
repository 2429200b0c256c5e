"""Comparing packets field by field, as scapy dissects them, and showing where they differ.

Without scapy the bytes alone are compared and shown. What two packets have in common with those of ``netbpf run`` is in
``netbpf.packets.fields``.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from netbpf.errors import ToolMissingError
from netbpf.packets import fields
from netbpf.packets.fields import Field, unlike
from netns_fixtures.errors import TrafficError
from netns_fixtures.frames import ETHERNET_HEADER


def dissect(frame: bytes) -> Any:
    """The frame as a scapy packet, or None without scapy."""
    try:
        return fields.dissect(frame)
    except ToolMissingError:
        return None


def _fields(packet: Any) -> list[Field]:
    return [field for layer in fields.layers_of(packet) for field in layer.fields]


class Comparison:
    """What has to be equal between an expected frame and those that arrive.

    ``ignore`` names fields that may differ: ``["IP.ttl", "IP.chksum"]``. TrafficError for a name that the expected
    packet does not have, since a misspelt one would ignore nothing and a later one too much.
    """

    def __init__(self, expected: bytes, ignore: Iterable[str] = ()) -> None:
        self.expected = expected
        self.ignore = frozenset(ignore)
        if self.ignore:
            self._check_ignored()

    def _check_ignored(self) -> None:
        packet = dissect(self.expected)
        if packet is None:
            raise TrafficError("ignore= needs scapy, which is not installed")
        paths = [field.path for field in _fields(packet)]
        for unknown in sorted(self.ignore - set(paths)):
            raise TrafficError(
                f"ignore={unknown!r}: the expected packet has no such field; it has {', '.join(paths)}"
            )

    def matches(self, frame: bytes) -> bool:
        """Whether this is the expected packet, but for what is ignored."""
        if frame == self.expected:
            return True
        # Dissecting loses nothing that is not ignored only if both have the same length.
        if not self.ignore or len(frame) != len(self.expected):
            return False
        return not self.differences(frame)

    def differences(self, frame: bytes) -> list[tuple[str, str, str]]:
        """(field, expected, got) of each difference that counts; "-" for a field one of the two has not."""
        ours, theirs = dissect(self.expected), dissect(frame)
        if ours is None or theirs is None:
            return []
        left = {field.path: field for field in _fields(ours)}
        right = {field.path: field for field in _fields(theirs)}
        found = []
        for path in dict.fromkeys([*left, *right]):
            one, other = left.get(path), right.get(path)
            if path in self.ignore or (one and other and one.value == other.value):
                continue
            found.append((path, one.shown if one else "-", other.shown if other else "-"))
        return found

    def distance(self, frame: bytes) -> int:
        """How unlike a frame is: the number of bytes that differ."""
        return unlike(self.expected, frame)

    def report(self, frame: bytes) -> str:
        """The differences by field, then by byte."""
        parts = []
        rows = self.differences(frame)
        if rows:
            width = max(len(path) for path, _, _ in rows)
            column = min(max(len(ours) for _, ours, _ in rows), 48)
            parts.append(
                "\n".join(
                    f"  {path:<{width}}  expected {ours:<{column}}  got {theirs}"
                    for path, ours, theirs in rows
                )
            )
        parts.append(hex_columns(self.expected, frame))
        return "\n\n".join(parts)


def summary(frame: bytes) -> str:
    """One line for a frame: its layers as scapy names them, and its size."""
    packet = dissect(frame)
    what = frame[:ETHERNET_HEADER].hex(" ") if packet is None else packet.summary()
    return f"{what} ({len(frame)} bytes)"


def listing(frames: Sequence[bytes], limit: int = 10) -> str:
    """Frames one below the other, numbered from 1."""
    lines = [f"  #{number} {summary(frame)}" for number, frame in enumerate(frames[:limit], 1)]
    if len(frames) > limit:
        lines.append(f"  ... and {len(frames) - limit} more")
    return "\n".join(lines)


def hex_columns(expected: bytes, got: bytes) -> str:
    """Two hex dumps side by side; ``^^`` stands below each byte that differs, ``--`` for one that is missing."""
    return fields.hex_columns(expected, got, ("expected", "got"))
