"""What a program keeps: variables and maps before and after, and what changed."""

from collections.abc import Iterator, Mapping

from netbpf.bpf.btf.values import Value
from netbpf.live.reader import OpenMap
from netbpf.packets.replay_model import Change, MapChange

_COMPARED = 100_000  # entries of a map that are remembered
_SHOWN = 1000  # changed entries of a map that are kept

Content = dict[bytes, bytes]


class State:
    """The maps of a loaded program as they are now, to be compared with what they become."""

    def __init__(self, maps: Mapping[str, OpenMap]) -> None:
        self._maps = [
            (name, one) for name, one in maps.items() if one.map.readable and not one.map.frozen
        ]
        self._before = [_content(one) for _, one in self._maps]

    def variables(self) -> dict[str, Change]:
        """All global variables, then and now."""
        found: dict[str, Change] = {}
        for where, one, before in self._pairs(variables=True):
            owner = where.removesuffix(one.name)  # "member." in a chain
            old, new = one.value(before[bytes(4)]), one.value(_content(one)[bytes(4)])
            if isinstance(old, dict) and isinstance(new, dict):
                for name, value in old.items():
                    free = owner + name not in found
                    found[owner + name if free else f"{where}.{name}"] = Change(value, new[name])
            else:
                found[where] = Change(old, new)
        return found

    def maps(self) -> dict[str, MapChange]:
        """The maps that changed."""
        found = {}
        for where, one, before in self._pairs(variables=False):
            after = _content(one)
            keys = [key for key in before | after if before.get(key) != after.get(key)]
            if keys:
                entries = tuple(
                    (one.key(key), Change(_total(one, before, key), _total(one, after, key)))
                    for key in keys[:_SHOWN]
                )
                whole = len(before) < _COMPARED and len(after) < _COMPARED
                found[where] = MapChange(len(keys), entries, None if whole else _COMPARED)
        return found

    def _pairs(self, *, variables: bool) -> Iterator[tuple[str, OpenMap, Content]]:
        for (where, one), before in zip(self._maps, self._before, strict=True):
            if one.holds_variables is variables:
                yield where, one, before


def _content(one: OpenMap) -> Content:
    return {bytes(key): bytes(value) for key, value in one.map.entries(_COMPARED)}


def _total(one: OpenMap, content: Content, key: bytes) -> Value:
    return one.total(content[key]) if key in content else None
