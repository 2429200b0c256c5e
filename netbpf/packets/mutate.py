"""The packet that is expected to come out: the one that went in, with some of its fields changed.

Checksums and lengths follow, as a program that changes a field has to see to: each that was right in the packet is
right in the result. One that was wrong (a checksum of 0, a length that lies, a fragment's checksum) stays as it was.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from netbpf.errors import UsageError
from netbpf.packets.fields import dissect, layers_of
from netbpf.packets.layers import contained, trouble, words
from netbpf.text import did_you_mean, escape

# Fields that scapy computes when they are not set.
_COMPUTED: Final = frozenset({"chksum", "cksum", "len", "plen", "ihl", "dataofs"})
_MAC: Final = re.compile(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}")


def mutate(packet: bytes, changes: Mapping[str, object]) -> bytes:
    """The packet with these fields set: ``{"IP.ttl": 63, "UDP.dport": 5353, "IP:2.src": "10.0.0.1"}``.

    Names are scapy's, as a diff shows them; ``IP:2`` is the second IP header. Raises UsageError for fields the
    packet does not have (with near names), values that do not fit, and packets that scapy does not build again as
    they were; ToolMissingError without scapy.
    """
    if not changes:
        return packet
    made = dissect(packet)
    places = _places(made)
    unknown = [name for name in changes if name not in places]
    if unknown:
        raise UsageError(
            f"the packet has no field {escape(unknown[0])}",
            hint=did_you_mean(unknown[0], places, "it has"),
        )
    with contained():
        for layer, field in _right(made, packet, places):
            if f"{_path(places, layer)}.{field}" not in changes:
                layer.delfieldval(field)
        for name, value in changes.items():
            layer, field = places[name]
            _check_mac(name, layer.get_field(field), value)
            try:
                layer.setfieldval(field, value)
                # Of the whole packet scapy would not say which field it was.
                layer.get_field(field).addfield(
                    layer, b"", layer.get_field(field).any2i(layer, value)
                )
            except trouble() as error:
                raise UsageError(
                    f"{escape(name)} cannot be {escape(repr(value))}: {words(error)}"
                ) from None
        try:
            return bytes(made)
        except trouble() as error:
            names = ", ".join(map(escape, changes))
            raise UsageError(
                f"scapy cannot build the packet with {names} changed: {words(error)}"
            ) from None


def _check_mac(name: str, field: Any, value: object) -> None:
    # scapy makes six bytes of any text.
    from scapy.fields import MACField

    if isinstance(field, MACField) and isinstance(value, str) and not _MAC.fullmatch(value):
        raise UsageError(f"{escape(name)} cannot be {escape(repr(value))}: that is no MAC address")


def _places(made: Any) -> dict[str, tuple[Any, str]]:
    """Each field's layer and name, by its path."""
    found: dict[str, tuple[Any, str]] = {}
    layer = made
    for one in layers_of(made):
        for field in one.fields:
            found[field.path] = (layer, field.name)
        layer = layer.payload
    return found


def _path(places: Mapping[str, tuple[Any, str]], layer: Any) -> str:
    return next(path.rpartition(".")[0] for path, (one, _) in places.items() if one is layer)


def _right(
    made: Any, packet: bytes, places: Mapping[str, tuple[Any, str]]
) -> Sequence[tuple[Any, str]]:
    """The computed fields that have the value scapy would compute. UsageError where it does not build the packet."""
    if bytes(made) != packet:
        raise UsageError(
            "scapy does not build this packet again as it was, so nothing can be changed in it"
        )
    right = []
    for path, (layer, field) in places.items():
        value = layer.getfieldval(field)
        if field not in _COMPUTED or not isinstance(value, int):
            continue
        # One at a time: a checksum is right or wrong with the others as they are in the packet.
        layer.delfieldval(field)
        try:
            again = _places(dissect(bytes(made))).get(path)
        except trouble():
            again = None
        layer.setfieldval(field, value)
        if again is not None and again[0].getfieldval(again[1]) == value:
            right.append((layer, field))
    return right
