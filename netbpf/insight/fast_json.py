"""Entries as JSON, a batch at a time.

A million entries through a decoder and ``json.dumps`` take seconds. Here the text of a whole batch is made by one ``%``
of a template (``netbpf.insight.columns``). Half of what is left is the kernel's, which looks into every bucket. Reading
ahead in a thread was tried and took longer.
"""

from itertools import chain
from typing import TYPE_CHECKING, TextIO

from netbpf._sys.bpf import Batch
from netbpf.bpf.btf.raw import decode_number
from netbpf.bpf.btf.shape import shape
from netbpf.bpf.map import possible_cpus
from netbpf.constants import MapType
from netbpf.errors import ObjectError
from netbpf.insight.columns import (
    Column,
    Leaf,
    Reading,
    Text,
    number_text,
    raw_text,
    text_of,
    to_json,
    total_of,
)

if TYPE_CHECKING:
    from netbpf.insight.entries import Entries, MapEntry


def entry_json(entry: "MapEntry") -> dict[str, object]:
    """``key`` and ``value``; of a per-CPU map the ``values`` of each CPU too."""
    found: dict[str, object] = {"key": entry.key, "value": entry.value}
    if entry.per_cpu:
        found["values"] = [{"cpu": cpu, "value": value} for cpu, value in enumerate(entry.per_cpu)]
    return found


class Writer:
    """Writes the entries of one map."""

    def __init__(self, entries: "Entries") -> None:
        self._entries = entries
        self._map = entries.map
        info = entries.info
        lpm = info.type == MapType.LPM_TRIE
        self._key = self._text(info.btf_key_type_id, info.key_size, lpm=lpm)
        self._value = self._text(info.btf_value_type_id, info.value_size)
        if entries.decoders.key is decode_number:
            self._key = number_text(info.key_size)
        if entries.decoders.value is decode_number:
            self._value = number_text(info.value_size)
        self._keys = Reading(self._key.leaves, info.key_size)
        self._cpus = possible_cpus() if self._map.per_cpu else 0
        self._values = Reading(self._copies(), self._map.entry_size)
        self._row = self._template()
        self._width = self._row.replace("%%", "").count("%")
        self._rows: tuple[int, str] = (0, "")

    def _text(self, type_id: int, size: int, *, lpm: bool = False) -> Text:
        """As ``live.reader.OpenMap`` chooses its decoders: types that make no sense are hex."""
        btf = self._entries.btf
        if btf is None or not type_id:
            return raw_text(size)
        try:
            of = shape(btf, type_id, name=self._entries.info.name, lpm=lpm)
        except ObjectError:
            return raw_text(size)
        return text_of(of, size) if of.size <= size else raw_text(size)

    # --- per CPU ---

    @property
    def _summed(self) -> bool:
        """Whether the value of all CPUs is made of columns, not of whole values."""
        return bool(self._cpus) and not any(one.whole for one in self._value.leaves)

    def _copies(self) -> list[Leaf]:
        """The leaves of one entry's value: of each CPU's, and of all together where only the decoder sums them."""
        if not self._cpus:
            return list(self._value.leaves)
        stride, size, total = self._map.stride, self._map.entry_size, self._entries.decoders.total
        found = [
            leaf._replace(offset=leaf.offset + cpu * stride)
            for cpu in range(self._cpus)
            for leaf in self._value.leaves
        ]
        if not self._summed:
            found.append(
                Leaf(0, size, f"{size}s", lambda column: [to_json(total(one)) for one in column])
            )
        return found

    def _template(self) -> str:
        one = self._value.template
        if not self._cpus:
            return f',{{"key":{self._key.template},"value":{one}}}'
        total = "%s"
        if self._summed:
            total = one
            for shown in {leaf.shown for leaf in self._value.leaves} - {"%s"}:
                total = total.replace(shown, "%s")
        each = ",".join(f'{{"cpu":{cpu},"value":{one}}}' for cpu in range(self._cpus))
        return f',{{"key":{self._key.template},"value":{total},"values":[{each}]}}'

    def _value_columns(self, batch: Batch) -> list[Column]:
        """In the order of the template."""
        found = self._values.columns(batch.values)
        if not self._cpus:
            return found
        if not self._summed:
            return [found[-1], *found[:-1]]
        step = len(self._value.leaves)
        by_cpu = [found[cpu * step : (cpu + 1) * step] for cpu in range(self._cpus)]
        return [*total_of(self._value, by_cpu), *found]

    # --- all ---

    def write(self, out: TextIO, limit: int | None = None) -> int:
        """All of them, at most ``limit``; how many there were."""
        total = 0
        for batch in self._map.batches(limit):
            if not batch.length:
                continue
            text = self._batch(batch)
            out.write(text if total else text[1:])
            total += batch.length
        return total

    def _batch(self, batch: Batch) -> str:
        """Each entry with a comma before it."""
        if len(batch.values) != batch.length * self._map.entry_size:
            return self._unreadable(batch)
        count, width = batch.length, self._width
        if self._rows[0] != count:
            self._rows = count, self._row * count
        items: list[object] = [None] * (count * width)
        columns = chain(self._keys.columns(batch.keys), self._value_columns(batch))
        for place, column in enumerate(columns):
            items[place::width] = column
        return self._rows[1] % tuple(items)

    def _unreadable(self, batch: Batch) -> str:
        """Keys without values, which some maps do not show to user space."""
        size = self._entries.info.key_size
        keys = (bytes(batch.keys[at : at + size]) for at in range(0, len(batch.keys), size))
        return "".join(f",{to_json(entry_json(self._entries.entry(key, b'')))}" for key in keys)
