"""Comparing two packets: field by field as scapy dissects them, and byte by byte in columns of hex digits."""

from typing import Any, Final, NamedTuple

from netbpf.errors import ToolMissingError
from netbpf.packets.layers import load_usual, trouble

_COLUMNS: Final = 16  # bytes per row of a hex dump
_ROWS: Final = 24  # rows shown at most
_LONG: Final = 24  # bytes of a field that are shown


class Field(NamedTuple):
    """One field of one layer: ``UDP.dport``, or ``IP:2.ttl`` for the second IP header; its value and how to show it."""

    layer: str
    name: str
    value: object
    shown: str

    @property
    def path(self) -> str:
        """Layer and name with a dot between."""
        return f"{self.layer}.{self.name}"


class Layer(NamedTuple):
    """A header: scapy's name for it, its number among those of that name from 1, its fields."""

    name: str
    number: int
    fields: tuple[Field, ...]

    @property
    def path(self) -> str:
        """``IP``, ``IP:2``."""
        return self.name if self.number == 1 else f"{self.name}:{self.number}"


class Difference(NamedTuple):
    """A field that is not the same in two packets. ``before`` or ``after`` is None where there is none.

    ``kind`` is "changed", or "added" or "removed" with its whole layer.
    """

    layer: str
    field: str
    before: str | None
    after: str | None
    kind: str = "changed"

    @property
    def path(self) -> str:
        """Layer and field with a dot between."""
        return f"{self.layer}.{self.field}"


def dissect(packet: bytes) -> Any:
    """A packet as scapy sees it, ``Raw`` where it is no frame at all. ToolMissingError without scapy."""
    load_usual()
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    try:
        return Ether(packet)
    except trouble():
        # scapy forgives what is cut short in every layer but the first.
        return Raw(packet)


def layers_of(packet: Any) -> list[Layer]:
    """The headers of a scapy packet, outermost first, the payload (``Raw``) last."""
    from scapy.packet import NoPayload

    found: list[Layer] = []
    seen: dict[str, int] = {}
    while packet is not None and not isinstance(packet, NoPayload):
        name = type(packet).__name__
        seen[name] = seen.get(name, 0) + 1
        path = name if seen[name] == 1 else f"{name}:{seen[name]}"
        fields = []
        for field in packet.fields_desc:
            value = packet.getfieldval(field.name)
            fields.append(Field(path, field.name, value, _shown(packet, field, value)))
        found.append(Layer(name, seen[name], tuple(fields)))
        packet = packet.payload
    return found


def fields_of(packet: bytes) -> list[Field]:
    """All fields of a packet, outermost first."""
    return [field for layer in layers_of(dissect(packet)) for field in layer.fields]


def _shown(packet: Any, field: Any, value: object) -> str:
    if isinstance(value, bytes):
        if len(value) <= _LONG:
            return value.hex(" ")
        return f"{value[:_LONG].hex(' ')} ... ({len(value)} bytes)"
    return str(field.i2repr(packet, value))


def differences(before: bytes, after: bytes) -> list[Difference] | None:
    """Which fields differ, in the order of the packets; None without scapy.

    Headers that were put in or taken out are found as such: of an encapsulated packet only the outer ones are new.
    """
    if before == after:
        return []
    try:
        one, other = layers_of(dissect(before)), layers_of(dissect(after))
    except ToolMissingError:
        return None
    found: list[Difference] = []
    for left, right in _paired(one, other):
        if left is None or right is None:
            found += _whole(left, right)
        else:
            found += _within(left, right)
    return found


def _whole(left: Layer | None, right: Layer | None) -> list[Difference]:
    if left is not None:
        return [Difference(left.path, f.name, f.shown, None, "removed") for f in left.fields]
    assert right is not None
    return [Difference(right.path, f.name, None, f.shown, "added") for f in right.fields]


def _within(left: Layer, right: Layer) -> list[Difference]:
    ours = {field.name: field for field in left.fields}
    theirs = {field.name: field for field in right.fields}
    found = []
    for name in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None or one.value != other.value:
            found.append(Difference(right.path, name, one and one.shown, other and other.shown))
    return found


def _paired(one: list[Layer], other: list[Layer]) -> list[tuple[Layer | None, Layer | None]]:
    """Layers that stand for each other: the pairing, in order, in which the most is equal."""
    # best[i][j]: how much can be equal in what begins at i and j; a layer of another kind never pairs.
    best = [[0.0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in reversed(range(len(one))):
        for j in reversed(range(len(other))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1])
            if one[i].name == other[j].name:
                best[i][j] = max(best[i][j], _alike(one[i], other[j]) + best[i + 1][j + 1])
    pairs: list[tuple[Layer | None, Layer | None]] = []
    i = j = 0
    while i < len(one) or j < len(other):
        if (
            i < len(one)
            and j < len(other)
            and one[i].name == other[j].name
            and (best[i][j] == _alike(one[i], other[j]) + best[i + 1][j + 1])
        ):
            pairs.append((one[i], other[j]))
            i, j = i + 1, j + 1
        elif j == len(other) or (i < len(one) and best[i][j] == best[i + 1][j]):
            pairs.append((one[i], None))
            i += 1
        else:
            pairs.append((None, other[j]))
            j += 1
    return pairs


def _alike(one: Layer, other: Layer) -> float:
    """More than 0, so that any pairing of two layers is better than none; up to 2."""
    theirs = {field.name: field.value for field in other.fields}
    equal = sum(theirs.get(field.name) == field.value for field in one.fields)
    return 1 + equal / max(len(one.fields), len(other.fields), 1)


def unlike(one: bytes, other: bytes) -> int:
    """The number of bytes in which two packets differ, a missing byte being a difference."""
    return sum(a != b for a, b in zip(one, other, strict=False)) + abs(len(one) - len(other))


def summary(packet: bytes) -> str:
    """One line for a packet: its layers as scapy names them, or its beginning, and its size."""
    try:
        what = str(dissect(packet).summary())
    except ToolMissingError:
        what = packet[:14].hex(" ")
    return f"{what} ({len(packet)} bytes)"


def hex_columns(before: bytes, after: bytes, titles: tuple[str, str] = ("before", "after")) -> str:
    """Two hex dumps side by side; ``^^`` stands below each byte that differs, ``--`` for one that is missing."""
    lines = [f"  offset  {titles[0]:<{3 * _COLUMNS - 1}}   {titles[1]}"]
    rows = range(0, max(len(before), len(after)), _COLUMNS)
    different = [
        start
        for start in rows
        if before[start : start + _COLUMNS] != after[start : start + _COLUMNS]
    ]
    # A long packet is cut to the rows that matter.
    chosen = list(rows) if len(rows) <= _ROWS else different[:_ROWS]
    for start in chosen:
        ours, theirs, marks = [], [], []
        for index in range(start, start + _COLUMNS):
            a, b = (part[index : index + 1].hex() for part in (before, after))
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
