"""Frozen dataclasses as JSON and back, with every value checked: what lies in a file may have been damaged."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin

T = TypeVar("T")
Reader = Callable[[object], object]

_LARGEST = (1 << 64) - 1  # what the kernel can give


def plain(value: Any) -> Any:
    """A value of dataclasses, tuples, strings and numbers as ``json`` takes it."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def revive(kind: type[T], data: object) -> T:
    """The dataclass that ``plain`` made ``data`` of. ValueError for anything it cannot have made."""
    return cast("T", _dataclass(cast("Any", kind))(data))


@cache
def _reader(kind: Any) -> Reader:
    """What makes a value of a type: that is looked at once, there may be thousands of values."""
    if isinstance(kind, UnionType):
        return _optional(get_args(kind))
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind))
    if hasattr(kind, "__dataclass_fields__"):
        return _dataclass(kind)
    if issubclass(kind, Enum):
        return cast("Reader", kind)
    return _number(kind) if kind in (int, float) else _plain(kind)


@cache
def _dataclass(kind: Any) -> Reader:
    readers = {one.name: _reader(cast("Any", one.type)) for one in fields(kind)}

    def read(data: object) -> object:
        if not isinstance(data, dict):
            raise ValueError(f"no {kind.__name__}")
        if data.keys() != readers.keys():
            raise ValueError(f"not the fields of a {kind.__name__}")
        return kind(**{name: readers[name](value) for name, value in data.items()})

    return read


def _plain(kind: type) -> Reader:
    def read(data: object) -> object:
        if type(data) is not kind:
            raise ValueError(f"no {kind.__name__}")
        return data

    return read


def _number(kind: type) -> Reader:
    def read(data: object) -> object:
        if kind is float and type(data) is int:
            data = float(data)
        if type(data) is not kind:
            raise ValueError(f"no {kind.__name__}")
        if not 0 <= cast("float", data) <= _LARGEST:
            raise ValueError("a number that cannot be")
        return data

    return read


def _optional(kinds: Sequence[Any]) -> Reader:
    reader = _reader(next(one for one in kinds if one is not type(None)))
    if type(None) not in kinds:
        return reader
    return lambda data: None if data is None else reader(data)


def _tuple(kinds: Sequence[Any]) -> Reader:
    readers = [_reader(one) for one in kinds if one is not Ellipsis]
    endless = len(kinds) == 2 and kinds[1] is Ellipsis

    def read(data: object) -> object:
        if not isinstance(data, list):
            raise ValueError("no list")
        if endless:
            return tuple(map(readers[0], data))
        if len(readers) != len(data):
            raise ValueError("a list of another length")
        return tuple(reader(one) for reader, one in zip(readers, data, strict=True))

    return read
