"""Comparing packets field by field, as scapy dissects them, and showing where they differ.

Without scapy the bytes alone are compared and shown.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from netns_fixtures.errors import TrafficError
from netns_fixtures.frames import ETHERNET_HEADER

_COLUMNS: Final = 16  # bytes per row of a hex dump
_ROWS: Final = 24  # rows shown at most


class Field(NamedTuple):
    """One field of one layer: ``UDP.dport``, or ``IP:2.ttl`` for the second IP header; its value and how to show it."""

    layer: str
    name: str
    value: object
    shown: str

    @property
    def path(self) -> str:
        """What ``ignore`` calls it."""
        return f"{self.layer}.{self.name}"


def dissect(frame: bytes) -> Any:
    """The frame as a scapy packet, or None without scapy."""
    try:
        # Not used here: scapy only knows what lies behind an EtherType once its module has been imported.
        import scapy.layers.inet
        import scapy.layers.inet6  # noqa: F401
        from scapy.layers.l2 import Ether
    except ImportError:
        return None
    return Ether(frame)


def _fields(packet: Any) -> list[Field]:
    found: list[Field] = []
    seen: dict[str, int] = {}
    while packet is not None and not _is_nothing(packet):
        name = type(packet).__name__
        seen[name] = seen.get(name, 0) + 1
        layer = name if seen[name] == 1 else f"{name}:{seen[name]}"
        for field in packet.fields_desc:
            value = packet.getfieldval(field.name)
            found.append(Field(layer, field.name, value, _shown(packet, field, value)))
        packet = packet.payload
    return found


def _is_nothing(packet: Any) -> bool:
    from scapy.packet import NoPayload

    return isinstance(packet, NoPayload)


def _shown(packet: Any, field: Any, value: object) -> str:
    if isinstance(value, bytes):
        return (
            value.hex(" ")
            if len(value) <= 24
            else f"{value[:24].hex(' ')} ... ({len(value)} bytes)"
        )
    return str(field.i2repr(packet, value))


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


def unlike(one: bytes, other: bytes) -> int:
    """The number of bytes in which two frames differ, a missing byte being a difference."""
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


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
    lines = [f"  offset  {'expected':<{3 * _COLUMNS - 1}}   got"]
    rows = range(0, max(len(expected), len(got)), _COLUMNS)
    different = [
        start
        for start in rows
        if expected[start : start + _COLUMNS] != got[start : start + _COLUMNS]
    ]
    # A long packet is cut to the rows that matter.
    chosen = list(rows) if len(rows) <= _ROWS else different[:_ROWS]
    for start in chosen:
        ours, theirs, marks = [], [], []
        for index in range(start, start + _COLUMNS):
            a, b = (part[index : index + 1].hex() for part in (expected, got))
            same = a == b
            ours.append(a or ("  " if same else "--"))
            theirs.append(b or ("  " if same else "--"))
            marks.append("  " if same else "^^")
        lines.append(f"  {start:04x}    {' '.join(ours)}   {' '.join(theirs)}".rstrip())
        if start in different:
            line = " ".join(marks)
            lines.append(f"          {line}   {line}".rstrip())
    if len(chosen) < len(rows):
        lines.append(f"  {len(rows) - len(chosen)} other rows are equal or left out")
    return "\n".join(lines)
