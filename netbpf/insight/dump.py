"""All entries of a map as text, JSON or lines for people, a batch at a time.

A million entries through a decoder and ``json.dumps`` take seconds. Here the columns of a whole batch become one text
by one ``%`` (``netbpf.insight.columns``). Half of what is left is the kernel's, which looks into every bucket; of large
maps one thread reads, one makes the text and one writes it, as both reading and writing leave Python to the others.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, TextIO

from netbpf._sys.bpf import Batch
from netbpf.ahead import ahead
from netbpf.bpf.btf.raw import decode_number, decode_raw
from netbpf.bpf.btf.shape import shape
from netbpf.bpf.btf.values import Value, format_value
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
    total_of,
)
from netbpf.insight.styles import JSON, Style, to_json, untyped

if TYPE_CHECKING:
    from netbpf.insight.entries import Entries, MapEntry

_MANY = 20_000  # entries, from which on a thread is worth its start


def entry_json(entry: "MapEntry") -> dict[str, object]:
    """``key`` and ``value``; of a per-CPU map the ``values`` of each CPU too."""
    found: dict[str, object] = {"key": entry.key, "value": entry.value}
    if entry.per_cpu:
        found["values"] = [{"cpu": cpu, "value": value} for cpu, value in enumerate(entry.per_cpu)]
    return found


def plain_value(entries: "Entries", value: Value) -> str:
    """A value as a line has it; ids have the name of what they mean."""
    if isinstance(value, str) and entries.decoders.value is decode_raw:
        return untyped(value)
    return entries.held(value) or format_value(value)


class Writer:
    """Writes the entries of one map: JSON objects separated by commas, or a line for each."""

    def __init__(self, entries: "Entries", style: Style = JSON) -> None:
        self._entries, self._style = entries, style
        self._map = entries.map
        info = entries.info
        self._key = self._text(info.btf_key_type_id, info.key_size, key=True)
        self._value = self._text(info.btf_value_type_id, info.value_size)
        if entries.decoders.key is decode_number:
            self._key = number_text(info.key_size)
        if entries.decoders.value is decode_number:
            self._value = number_text(info.value_size)
        self._keys = Reading(self._key.leaves, info.key_size)
        self._cpus = possible_cpus() if self._map.per_cpu else 0
        self._values = Reading(self._copies(), self._map.entry_size)
        self._named = not self._parts and entries.holds
        # For the values of all CPUs that agree, and for those that do not.
        self._rows = {agree: _Rows(self._row(agree=agree)) for agree in (True, False)}

    def _text(self, type_id: int, size: int, *, key: bool = False) -> Text:
        """As ``live.reader.OpenMap`` chooses its decoders: types that make no sense are hex."""
        btf, lpm = self._entries.btf, key and self._entries.info.type == MapType.LPM_TRIE
        if btf is None or not type_id:
            return raw_text(size, self._style)
        try:
            of = shape(btf, type_id, name=self._entries.info.name, lpm=lpm)
        except ObjectError:
            return raw_text(size, self._style)
        if of.size > size:
            return raw_text(size, self._style)
        return text_of(of, size, self._style, alone=key or not self._map.per_cpu)

    # --- per CPU ---

    @property
    def _parts(self) -> bool:
        """Whether the value of each CPU is shown, beside that of all together."""
        return self._style is JSON

    @property
    def _summed(self) -> bool:
        """Whether the value of all CPUs is made of columns, not of whole values."""
        return bool(self._cpus) and not any(one.whole for one in self._value.leaves)

    def _copies(self) -> list[Leaf]:
        """The leaves of one entry's value: of each CPU's, and of all together where only the decoder sums them."""
        if not self._cpus:
            return list(self._value.leaves)
        stride = self._map.stride
        found = [
            leaf._replace(offset=leaf.offset + cpu * stride)
            for cpu in range(self._cpus)
            for leaf in self._value.leaves
        ]
        if self._summed:
            return found
        return [self._total, *(found if self._parts else ())]

    @property
    def _total(self) -> Leaf:
        """The value of all CPUs, which only the decoder makes one."""
        size = self._map.entry_size
        return Leaf(0, size, f"{size}s", self._totals)

    def _totals(self, column: Column) -> list[str]:
        of = self._entries.decoders
        shown = self._style.raw if of.value is decode_raw else self._style.value
        return [shown(of.total(one)) for one in column]

    def _row(self, *, agree: bool) -> Text:
        """An entry, with a place for each column."""
        one = total = self._value
        if self._cpus and not self._summed:
            total = Text(("", ""), (self._total,))
        elif not agree:
            total = one.unquoted()
        if not self._parts:
            return Text.of(self._key, ": ", total, "\n")
        row = Text.of(',{"key":', self._key, ',"value":', total)
        for cpu in range(self._cpus):
            before = "}," if cpu else ',"values":['
            row = Text.of(row, f'{before}{{"cpu":{cpu},"value":', one)
        return Text.of(row, "}]}" if self._cpus else "}")

    def _value_columns(self, batch: Batch) -> tuple[list[Column], bool]:
        """In the order of the row; and whether all CPUs agree."""
        if not self._summed:
            return self._values.columns(batch.values), True
        raw, step = self._values.raw(batch.values), len(self._value.leaves)
        both = total_of(self._value, [raw[leaf::step] for leaf in range(step)], self._style)
        parts = zip(*both.parts, strict=True) if self._parts else ()
        return [*both.total, *chain.from_iterable(parts)], both.agree

    # --- all ---

    def write(self, out: TextIO, limit: int | None = None) -> int:
        """All of them, at most ``limit``; how many there were."""
        most, total = self._entries.info.max_entries, 0
        many = min(most, limit or most) > _MANY
        batches = self._batches(limit)
        texts = self._texts(ahead(batches) if many else batches)
        with closing(ahead(texts) if many else texts) as made:
            for count, text in made:
                out.write(text if total or not self._parts else text[1:])
                total += count
        return total

    def _batches(self, limit: int | None) -> Generator[Batch, None, None]:
        yield from (batch for batch in self._map.batches(limit) if batch.length)

    def _texts(
        self, batches: Generator[Batch, None, None]
    ) -> Generator[tuple[int, str], None, None]:
        with closing(batches):
            for batch in batches:
                yield batch.length, self._batch(batch)

    def _batch(self, batch: Batch) -> str:
        """Each entry as JSON with a comma before it, or as a line."""
        if len(batch.values) != batch.length * self._map.entry_size or self._named:
            return self._singly(batch)
        values, agree = self._value_columns(batch)
        columns = [*self._keys.columns(batch.keys), *values]
        return self._rows[agree].text(columns, batch.length)

    def _singly(self, batch: Batch) -> str:
        """For values that have names outside of the map, and for those that user space is not shown: keys alone."""
        keys, values = (_split(part, batch.length) for part in (batch.keys, batch.values))
        return "".join(map(self._one, map(self._entries.entry, keys, values)))

    def _one(self, entry: "MapEntry") -> str:
        if self._parts:
            return f",{to_json(entry_json(entry))}"
        shown = untyped if self._entries.decoders.key is decode_raw else format_value
        return f"{shown(entry.key)}: {plain_value(self._entries, entry.value)}\n"


def _split(data: memoryview, count: int) -> Iterator[bytes]:
    size = len(data) // count
    return (bytes(data[at * size : (at + 1) * size]) for at in range(count))


class _Rows:
    """A row, repeated for many entries."""

    def __init__(self, row: Text) -> None:
        # Numbers that become text on the way into their row are made a third faster than texts of their own.
        self._row = "%s".join(piece.replace("%", "%%") for piece in row.pieces)
        self._rows, self._count = "", 0

    def text(self, columns: list[Column], count: int) -> str:
        """The rows of some entries; ``columns`` has what is written in the place of each leaf."""
        if self._count != count:
            self._rows, self._count = self._row * count, count
        width = len(columns)
        items: list[object] = [None] * (count * width)
        for place, column in enumerate(columns):
            items[place::width] = column
        return self._rows % tuple(items)
