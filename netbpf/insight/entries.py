"""Entries of any map: read one or all, write and delete them, with keys and values as their types have them."""

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, TextIO

from netbpf.bpf.btf.encode import encode_text
from netbpf.bpf.btf.literal import parse_literal
from netbpf.bpf.btf.raw import encode_raw
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import Value
from netbpf.bpf.map import Map, possible_cpus
from netbpf.bpf.program import Program, btf_by_id
from netbpf.constants import FD_MAPS, MapType
from netbpf.errors import (
    KernelError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    ObjectError,
    UsageError,
)
from netbpf.insight.dump import Writer
from netbpf.insight.names import map_type_name
from netbpf.insight.styles import JSON, PLAIN, Style
from netbpf.live.reader import OpenMap
from netbpf.text import escape

ANY, NOEXIST, EXIST = 0, 1, 2  # BPF_ANY, BPF_NOEXIST, BPF_EXIST

_HELD: dict[int, str] = {
    MapType.PROG_ARRAY: "program",
    MapType.ARRAY_OF_MAPS: "map",
    MapType.HASH_OF_MAPS: "map",
}


@dataclass(frozen=True, slots=True)
class MapEntry:
    """An entry, decoded, and its bytes; ``per_cpu`` has the values by CPU where each has its own, else it is empty."""

    key: Value
    value: Value
    raw_key: bytes
    raw_value: bytes
    per_cpu: tuple[Value, ...] = ()


class Entries:
    """The entries of an open map, of which this takes care from now on. Use it as a context manager."""

    def __init__(self, opened: Map) -> None:
        self.map = opened
        self.info = opened.info
        self.btf: Btf | None = btf_by_id(opened.info.btf_id)
        self.decoders = OpenMap(opened, self.btf)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.map.close()

    @property
    def name(self) -> str:
        """The map's name for messages, its id where it has none."""
        return escape(self.info.name) or f"{self.info.id}"

    # --- keys and values as typed ---

    def key(self, text: str) -> bytes:
        """The bytes of a key as typed. Raises UsageError, ObjectError."""
        if not self.info.key_size:
            raise NotSupportedError(
                f"map {self.name} ({map_type_name(self.info.type)}) has no keys"
            )
        try:
            if self.btf and self.info.btf_key_type_id:
                lpm = self.info.type == MapType.LPM_TRIE
                return encode_text(self.btf, self.info.btf_key_type_id, text, name=self.info.name, lpm=lpm)  # fmt: skip
            return encode_raw(text, self.info.key_size, name="key")
        except (ObjectError, UsageError) as error:
            self._say_what(error, "key")
            raise

    def value(self, text: str, base: bytes | None = None) -> bytes:
        """The bytes of a value as typed, for all CPUs; ``base`` has the members that are not mentioned.

        A map with a value for each CPU takes a list of as many, or one after ``all:``. Raises UsageError, ObjectError,
        NotSupportedError for maps whose values are programs or other files.
        """
        if self.info.type in FD_MAPS:
            raise NotSupportedError(
                f"map {self.name} ({map_type_name(self.info.type)}) holds files, not values",
                hint="programs and maps are put in when an object is loaded: netbpf attach",
            )
        try:
            return self._per_cpu(text) if self.map.per_cpu else self._one(text, base)
        except (ObjectError, UsageError) as error:
            self._say_what(error, "value")
            raise

    def _say_what(self, error: ObjectError | UsageError, what: str) -> None:
        """Of types the map's name stands for key and value alike (it hints at addresses): say which it is."""
        name = escape(self.info.name)
        rest = error.message.removeprefix(name)
        if name and rest != error.message and rest[:1] in (" ", ".", "["):
            error.message = f"{what}{rest}"
        error.message = f"map {self.name}: {error.message}"

    def _one(self, text: str, base: bytes | None = None) -> bytes:
        size = self.info.value_size
        if self.btf and self.info.btf_value_type_id:
            return encode_text(
                self.btf, self.info.btf_value_type_id, text, base=base or bytes(size), name=self.info.name
            )[:size]  # fmt: skip
        return encode_raw(text, size, name="value")

    def _per_cpu(self, text: str) -> bytes:
        cpus, stride = possible_cpus(), self.map.stride
        if text.startswith("all:"):
            return self._one(text.removeprefix("all:").strip()).ljust(stride, b"\0") * cpus
        parts = parse_literal(text) if text.lstrip().startswith("[") else None
        if not isinstance(parts, list) or len(parts) != cpus:
            got = f"{len(parts)} values" if isinstance(parts, list) else "one value"
            raise UsageError(
                f"keeps a value for each of {cpus} CPUs, and this is {got}",
                hint=f"give a list of {cpus}, or the same to all of them: 'all:VALUE'",
            )
        return b"".join(self._part(part).ljust(stride, b"\0") for part in parts)

    def _part(self, part: object) -> bytes:
        if isinstance(part, str) or not (self.btf and self.info.btf_value_type_id):
            return self._one(str(part))
        from netbpf.bpf.btf.encode import encode

        return encode(self.btf, self.info.btf_value_type_id, part, name=self.info.name)  # type: ignore[arg-type]

    # --- one entry ---

    def lookup(self, key: str) -> MapEntry:
        """The entry of a key as typed. NetbpfError where there is none."""
        raw = self.key(key)
        self.check_readable()
        data = self.map.lookup(raw)
        if data is None:
            raise NetbpfError(f"map {self.name} has no entry {escape(key)}")
        return self.entry(raw, data)

    def entry(self, key: bytes, data: bytes) -> MapEntry:
        """An entry of its bytes, those of all CPUs for a per-CPU map."""
        one = self.decoders
        return MapEntry(one.key(key), one.total(data), key, data, one.parts(data))

    def update(self, key: str, value: str, flags: int = ANY) -> None:
        """Write an entry. ``flags``: NOEXIST only a new one, EXIST only one that is there. Raises as ``value``.

        Members of a struct that are not mentioned keep what they have; what is written into them meanwhile is lost.
        """
        raw = self.key(key)
        partial = value.lstrip().startswith("{") and self.map.readable and not self.map.per_cpu
        base = self.map.lookup(raw) if partial else None
        data = self.value(value, base)
        try:
            self.map.update(raw, data, flags)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                raise NetbpfError(f"map {self.name} has an entry {escape(key)} already") from None
            if error.errno == errno.ENOENT:
                raise NetbpfError(f"map {self.name} has no entry {escape(key)}") from None
            raise

    def delete(self, key: str) -> None:
        """Remove an entry. NetbpfError where there is none, NotSupportedError for arrays."""
        raw = self.key(key)
        if self.info.type in (MapType.ARRAY, MapType.PERCPU_ARRAY):
            raise NotSupportedError(
                f"map {self.name} is an array: its entries are always there",
                hint=f"write zeros: netbpf map update {self.info.id} {escape(key)} 0",
            )
        self.map.delete(raw)

    @property
    def holds(self) -> bool:
        """Whether its values are ids of programs or maps."""
        return self.info.type in _HELD

    def held(self, value: Value) -> str:
        """What an id in a map of programs or maps means, ``program 17 (drop)``; empty for all other values."""
        kind = _HELD.get(self.info.type)
        if kind is None or not isinstance(value, int):
            return ""
        try:
            with (Program if kind == "program" else Map).by_id(value) as one:
                name = escape(one.info.name)
        except NotAttachedError:
            name = ""  # it went meanwhile
        return f"{kind} {value} ({name})" if name else f"{kind} {value}"

    # --- all ---

    def check_readable(self) -> None:
        """NotSupportedError for queues, ring buffers and all else without keys that can be listed."""
        if not self.map.readable:
            raise NotSupportedError(
                f"map {self.name} ({map_type_name(self.info.type)}) has no entries that can be looked up"
            )

    def entries(self, limit: int | None = None) -> Iterator[MapEntry]:
        """All entries, at most ``limit``. NotSupportedError for maps that have none to be listed."""
        self.check_readable()
        for key, data in self.map.entries(limit):
            yield self.entry(bytes(key), bytes(data))

    def write_json(self, out: TextIO | None = None, limit: int | None = None) -> int:
        """Write ``{"key", "value"}`` of every entry, at most ``limit``, separated by commas; how many there were.

        Batch after batch, so that a map of a million entries needs no more memory than a small one.
        """
        return self._write(JSON, out, limit)

    def write_lines(self, out: TextIO | None = None, limit: int | None = None) -> int:
        """Write a line ``key: value`` of every entry, at most ``limit``; how many there were. As ``write_json``."""
        return self._write(PLAIN, out, limit)

    def _write(self, style: Style, out: TextIO | None, limit: int | None) -> int:
        self.check_readable()
        return Writer(self, style).write(out or sys.stdout, limit)
