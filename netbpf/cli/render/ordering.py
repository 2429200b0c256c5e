"""The order in which people look for map entries: by key, numbers as numbers, addresses as addresses."""

import re
from collections.abc import Iterable
from typing import TypeAlias

from netbpf.bpf.btf.values import Value

_DIGITS = re.compile(r"(\d+)")
# Comparable with one another whatever they came from: a number sorts before a text.
_Key: TypeAlias = tuple[tuple[int, float, str], ...]


def in_order(entries: Iterable[tuple[Value, Value]]) -> list[tuple[Value, Value]]:
    """Keys and values by key: 9 before 10, 10.0.0.9 before 10.0.0.10; of structs by their first member."""
    return sorted(entries, key=lambda entry: sort_key(entry[0]))


def sort_key(value: Value) -> _Key:
    """What to compare two values by."""
    if isinstance(value, bool | int | float):
        return ((0, value, ""),)
    if isinstance(value, str):
        # The parts between numbers stand at even places.
        parts = enumerate(_DIGITS.split(value))
        return tuple((0, int(part), "") if place % 2 else (1, 0, part) for place, part in parts)
    if isinstance(value, dict):
        return tuple(part for inner in value.values() for part in sort_key(inner))
    if isinstance(value, list):
        return tuple(part for inner in value for part in sort_key(inner))
    return ()
