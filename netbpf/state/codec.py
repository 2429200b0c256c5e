"""Frozen dataclasses as JSON and back, with every value checked: what lies in a file may have been damaged."""

from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

T = TypeVar("T")

_LARGEST = (1 << 64) - 1  # what the kernel can give


def plain(value: Any) -> Any:
    """A value of dataclasses, tuples, strings and numbers as ``json`` takes it."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def revive(kind: type[T], data: object) -> T:
    """The dataclass that ``plain`` made ``data`` of. ValueError for anything it cannot have made."""
    if not isinstance(data, dict):
        raise ValueError(f"no {kind.__name__}")
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    if data.keys() != known.keys():
        raise ValueError(f"not the fields of a {kind.__name__}")
    return kind(**{name: _value(known[name].type, value) for name, value in data.items()})


def _value(kind: Any, data: object) -> object:
    if isinstance(kind, UnionType):
        return _choice(get_args(kind), data)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), data)
    if hasattr(kind, "__dataclass_fields__"):
        return revive(kind, data)
    if issubclass(kind, Enum):
        return kind(data)
    if kind is float and type(data) is int:
        data = float(data)
    if type(data) is not kind:
        raise ValueError(f"no {kind.__name__}")
    if isinstance(data, int | float) and not 0 <= data <= _LARGEST:
        raise ValueError("a number that cannot be")
    return data


def _choice(kinds: Sequence[Any], data: object) -> object:
    if data is None and type(None) in kinds:
        return None
    return _value(next(one for one in kinds if one is not type(None)), data)


def _tuple(kinds: Sequence[Any], data: object) -> tuple[object, ...]:
    if not isinstance(data, list):
        raise ValueError("no list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_value(kinds[0], one) for one in data)
    if len(kinds) != len(data):
        raise ValueError("a list of another length")
    return tuple(map(_value, kinds, data))
