"""What a program did to its variables and maps: their raw content before and after, and every difference.

Strict: what is not listed did not change, but for what the kernel lets nobody look at, which is named. Read-only data
and maps that programs cannot write to (of programs, of maps, of interfaces) are left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from netbpf.bpf.btf.shape import shape
from netbpf.bpf.btf.values import Value, format_value
from netbpf.constants import ARRAY_MAPS, FD_MAPS, HASH_MAPS, Hook, MapType
from netbpf.live.reader import OpenMap, map_type
from netbpf.live.tables import PROTOCOLS_MAP, VERDICTS_MAP, protocol_name, verdict_name

_COMPARED: Final = (HASH_MAPS | ARRAY_MAPS | {MapType.LPM_TRIE}) - FD_MAPS
# Programs write to these, and nothing can be read without taking it out, or without having listened before.
_UNSEEN: Final = frozenset({
    MapType.QUEUE, MapType.STACK, MapType.RINGBUF, MapType.BLOOM_FILTER, MapType.PERF_EVENT_ARRAY,
    MapType.SK_STORAGE, MapType.STACK_TRACE,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class VariableChange:
    """A global variable that has another value than before."""

    name: str
    section: str
    type: str
    before: Value
    after: Value


@dataclass(frozen=True, slots=True)
class EntryChange:
    """An entry of a map that was added (``before`` is None), removed (``after`` is None) or changed.

    Of per-CPU maps the values are sums. ``label`` is what people call the key: a verdict, a protocol.
    """

    map: str
    type: str
    key: Value
    before: Value
    after: Value
    label: str

    @property
    def kind(self) -> str:
        """ "added", "removed" or "changed"."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that changed. ``unseen`` are the names of maps whose content cannot be compared.

    ``large`` are those of maps with more entries than were to be compared.
    """

    variables: tuple[VariableChange, ...] = ()
    entries: tuple[EntryChange, ...] = ()
    unseen: tuple[str, ...] = ()
    large: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.variables or self.entries)


Content = dict[bytes, bytes]


class Snapshot:
    """The content of maps at one moment. ``changes`` compares it with what they hold now.

    Maps of which more than ``most`` entries hold something are left out, and named.
    """

    def __init__(self, maps: Mapping[str, OpenMap], hook: Hook, *, most: int | None = None) -> None:
        self._maps = {
            name: one for name, one in maps.items()
            if one.info.type in _COMPARED and not (one.holds_variables and one.map.frozen)
        }  # fmt: skip
        self._hook = hook
        self._unseen = tuple(name for name, one in maps.items() if one.info.type in _UNSEEN)
        found = {name: _content(one, most) for name, one in self._maps.items()}
        self._content = {name: one for name, one in found.items() if one is not None}
        self._large = tuple(name for name, one in found.items() if one is None)

    def changes(self) -> Changes:
        """What is different now. The snapshot stays as it is."""
        variables: list[VariableChange] = []
        entries: list[EntryChange] = []
        for name, before in self._content.items():
            one = self._maps[name]
            after = _content(one) or {}
            if before == after:
                continue
            if one.holds_variables:
                variables += _variables(one, before.get(_ZERO, b""), after.get(_ZERO, b""))
            else:
                entries += _entries(name, one, before, after, self._hook)
        return Changes(tuple(variables), tuple(entries), self._unseen, self._large)


_ZERO: Final = bytes(4)


def _content(one: OpenMap, most: int | None = None) -> Content | None:
    """What is in a map; None for more than ``most`` entries."""
    if one.holds_variables:
        return {_ZERO: one.map.lookup(_ZERO) or b""}
    # An array has all its entries from the start: those that are zero are not worth keeping.
    found = one.map.nonzero() if one.info.type in ARRAY_MAPS else one.map.entries()
    content = {
        bytes(key): bytes(data) for key, data in islice(found, None if most is None else most + 1)
    }
    return None if most is not None and len(content) > most else content


def _variables(one: OpenMap, before: bytes, after: bytes) -> Iterator[VariableChange]:
    old, new = one.value(before), one.value(after)
    if (
        one.section is None
        or one.btf is None
        or not isinstance(old, dict)
        or not isinstance(new, dict)
    ):
        yield VariableChange(one.name, one.name, f"u8[{len(after)}]", old, new)
        return
    fields = shape(one.btf, one.section.id).fields
    for name, value in new.items():
        if old.get(name) != value:
            yield VariableChange(
                name, one.section.name, fields[name].shape.c_name, old.get(name), value
            )


def _entries(
    name: str, one: OpenMap, before: Content, after: Content, hook: Hook
) -> Iterator[EntryChange]:
    array = one.info.type in ARRAY_MAPS
    nothing = bytes(one.map.entry_size)
    for key in sorted({**before, **after}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if array:
            old, new = old or nothing, new or nothing
        value = one.key(key)
        yield EntryChange(
            name,
            map_type(one),
            value,
            None if old is None else one.total(old),
            None if new is None else one.total(new),
            _label(name, value, hook),
        )


def _label(name: str, key: Value, hook: Hook) -> str:
    if isinstance(key, int) and name == VERDICTS_MAP:
        return verdict_name(hook, key)
    if isinstance(key, int) and name == PROTOCOLS_MAP:
        return protocol_name(key)
    return format_value(key)


def parts(before: Value, after: Value, path: str = "") -> Iterator[tuple[str, Value, Value]]:
    """The innermost values that differ: (path within the value, before, after). The path of the whole is ""."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in {**before, **after}:
            yield from parts(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from parts(one, other, f"{path}[{index}]")
    else:
        yield path, before, after
