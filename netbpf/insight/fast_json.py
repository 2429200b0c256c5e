"""Entries as JSON, a batch at a time.

A million entries through a decoder and ``json.dumps`` take seconds. Where keys and values are plain numbers, or structs
of plain numbers without a gap of meaning, the text of a whole batch is made by one ``%`` of a template.
"""

import json
import struct
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TextIO

from netbpf.bpf.btf.decode import layout
from netbpf.bpf.btf.shape import Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.constants import MapType
from netbpf.errors import ObjectError

if TYPE_CHECKING:
    from netbpf.insight.entries import Entries

_CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"} | {
    (1, True): "b", (2, True): "h", (4, True): "i", (8, True): "q",
}  # fmt: skip
_MANY = 1024  # entries that are written at once


class _Plain(NamedTuple):
    """How to unpack something, and the text around its numbers."""

    code: str
    template: str


def _plain(of: Shape) -> _Plain | None:
    """For numbers and structs of them; None for all else."""
    if of.form in (Form.INT, Form.CHAR) and of.bits == of.size * 8:
        code = _CODES.get((of.size, bool(of.signed)))
        return _Plain(code, "%d") if code else None
    if of.form is not Form.STRUCT or of.flexible:
        return None
    found = layout(of.fields.values())
    if not found or found.converts or not found.names:
        return None
    parts = []
    for name, field in of.fields.items():
        if field.shape.form not in (Form.INT, Form.CHAR):
            return None
        parts.append(f"{json.dumps(name)}:%d".replace("%", "%%").replace("%%d", "%d"))
    gap = of.size - struct.calcsize(found.code)
    return _Plain(
        found.code.removeprefix("<") + (f"{gap}x" if gap else ""), "{" + ",".join(parts) + "}"
    )


class Writer:
    """Writes the entries of one map."""

    def __init__(self, entries: "Entries") -> None:
        self._entries = entries
        self._map = entries.map

    def _shapes(self) -> tuple[_Plain, _Plain] | None:
        entries, info = self._entries, self._entries.info
        btf: Btf | None = entries.btf
        if btf is None or not info.btf_key_type_id or not info.btf_value_type_id:
            return None
        if entries.map.per_cpu or info.type == MapType.LPM_TRIE:
            return None
        try:
            key = _plain(shape(btf, info.btf_key_type_id, name=info.name))
            value = _plain(shape(btf, info.btf_value_type_id, name=info.name))
        except ObjectError:
            return None
        fits = key and value and struct.calcsize("<" + key.code) == info.key_size
        if not fits or struct.calcsize("<" + value.code) != info.value_size:  # type: ignore[union-attr]
            return None
        return (key, value) if key and value else None

    def write(self, out: TextIO) -> int:
        """All of them; how many there were."""
        found = self._shapes()
        texts = self._templated(*found) if found else self._decoded()
        total, comma = 0, ""
        for text, count in texts:
            out.write(comma)
            out.write(text)
            total += count
            comma = ","
        return total

    def _templated(self, key: _Plain, value: _Plain) -> Iterator[tuple[str, int]]:
        if key.template == value.template == "%d":
            yield from self._numbers(key.code, value.code)
            return
        row = f'{{"key":{key.template},"value":{value.template}}}'
        keys, values = struct.Struct("<" + key.code), struct.Struct("<" + value.code)
        for batch in self._map.batches():
            count = batch.length
            if not count:
                continue
            pairs = zip(keys.iter_unpack(batch.keys), values.iter_unpack(batch.values), strict=True)
            numbers = tuple(chain.from_iterable(chain.from_iterable(pairs)))
            yield ",".join([row] * count) % numbers, count

    def _numbers(self, key: str, value: str) -> Iterator[tuple[str, int]]:
        """One number each: Python's own text of a list of pairs has all of it but the words."""
        for batch in self._map.batches():
            if batch.length:
                keys = batch.keys.cast(key)  # type: ignore[call-overload]
                values = batch.values.cast(value)  # type: ignore[call-overload]
                text = repr(list(zip(keys, values, strict=True)))
                text = text[2:-2].replace("), (", '},{"key":').replace(", ", ',"value":')
                yield f'{{"key":{text}}}', batch.length

    def _decoded(self) -> Iterator[tuple[str, int]]:
        dumps: Callable[[object], str] = json.JSONEncoder(separators=(",", ":")).encode
        parts: list[str] = []
        for entry in self._entries.entries():
            found: dict[str, object] = {"key": entry.key, "value": entry.value}
            if entry.per_cpu:
                found["values"] = [
                    {"cpu": cpu, "value": value} for cpu, value in enumerate(entry.per_cpu)
                ]
            parts.append(dumps(found))
            if len(parts) == _MANY:
                yield ",".join(parts), _MANY
                parts.clear()
        if parts:
            yield ",".join(parts), len(parts)
