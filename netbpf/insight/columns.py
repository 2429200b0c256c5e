"""Values as JSON text, a column at a time: what thousands of entries cost is paid once for each of their members.

A type becomes the text around its numbers, a template for ``%``, and the leaves that fill it: where a number, name or
address lies and how a column of them is converted. Whatever has no leaves of its own (arrays of hundreds, types that
end in a flexible array) is one leaf whose values are decoded one by one.
"""

import json
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from operator import add
from typing import Any, NamedTuple

from netbpf.bpf.btf.decode import Reader, field_reader, scalar_reader, shape_decoder
from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.shape import Field, Form, Shape
from netbpf.bpf.btf.values import Value

Column = Sequence[Any]
to_json: Callable[[object], str] = json.JSONEncoder(separators=(",", ":")).encode

_MOST_ELEMENTS, _MOST_LEAVES = 32, 512  # of an array, of a type, that get leaves of their own
_MOST_WORDS = 4096  # texts of numbers that are remembered for each leaf
_ROWS = 256  # read by one call of struct
_NUMBERS = "bBhHiIqQ"
_RAW = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Leaf(NamedTuple):
    """A part of a value. ``offset`` and ``size`` in bytes, ``code`` for ``struct``.

    ``convert`` makes of a column what ``shown`` (of ``%``) takes; None: as it is. ``added`` says that the copies of
    several CPUs are added, ``whole`` that they can only be made one by who knows the type.
    """

    offset: int
    size: int
    code: str
    convert: Callable[[Column], Iterable[Any]] | None = None
    shown: str = "%s"
    added: bool = False
    whole: bool = False


class Text(NamedTuple):
    """The JSON text of a type: ``template`` has a place for each leaf."""

    template: str
    leaves: tuple[Leaf, ...]


# --- types ---


def text_of(of: Shape, size: int) -> Text:
    """The text of values of a shape that have ``size`` bytes; the shape needs no more than that."""
    if of.flexible or of.leaves > _MOST_LEAVES:
        return _whole(shape_decoder(of), 0, size)
    return _text(of, 0)


def raw_text(size: int) -> Text:
    """The text of values whose type is not known: hex."""
    if size in _RAW:
        shown = f'"%#0{2 * size + 2}x"'
        return Text(shown, (Leaf(0, size, _RAW[size], shown=shown, whole=True),))
    return _whole(decode_raw, 0, size)


def number_text(size: int) -> Text:
    """The text of values that are known to be unsigned numbers."""
    return Text("%s", (Leaf(0, size, _RAW[size], whole=True),))


def _whole(decode: Callable[[bytes], Value], offset: int, size: int) -> Text:
    leaf = Leaf(offset, size, f"{size}s", partial(_each, decode), whole=True)
    return Text("%s", (leaf,))


def _each(decode: Callable[[Any], Value], column: Column) -> list[str]:
    return [to_json(decode(one)) for one in column]


def _text(of: Shape, offset: int) -> Text:
    if of.form in (Form.STRUCT, Form.UNION):
        parts = [(one.name, _field(one, offset)) for one in of.fields.values()]
        members = ",".join(f"{_name(name)}:{part.template}" for name, part in parts)
        return Text(f"{{{members}}}", _leaves(part for _, part in parts))
    if of.form is not Form.ARRAY:
        return _scalar(of, scalar_reader(of), offset, of.size)
    element = of.element
    if element is None or not of.size:
        return Text("[]", ())
    if of.count > _MOST_ELEMENTS:
        return _whole(shape_decoder(of), offset, of.size)
    items = [_text(element, offset + number * element.size) for number in range(of.count)]
    return Text(f"[{','.join(one.template for one in items)}]", _leaves(items))


def _name(name: str) -> str:
    return json.dumps(name).replace("%", "%%")


def _leaves(parts: Iterable[Text]) -> tuple[Leaf, ...]:
    return tuple(chain.from_iterable(part.leaves for part in parts))


def _field(field: Field, base: int) -> Text:
    offset = base + field.offset
    if field.bits:
        reader = field_reader(field)
        return _scalar(field.shape, reader, offset, struct.calcsize("<" + reader.code))
    if field.size != field.shape.size:  # a variable that is larger than its type
        return _whole(shape_decoder(field.shape), offset, field.size)
    return _text(field.shape, offset)


def _scalar(of: Shape, reader: Reader, offset: int, size: int) -> Text:
    code, convert = reader
    leaf = partial(Leaf, offset, size)
    match of.form:
        case Form.INT | Form.CHAR | Form.BIG:
            many = partial(map, convert) if convert else None
            made = leaf(code, many, added=of.form is not Form.BIG)
        case Form.BOOL | Form.ENUM:
            made = leaf(code, partial(map, _Words(convert).__getitem__))
        case Form.POINTER:
            made = leaf(code, shown='"%#x"')
        case Form.MAC:
            made = leaf(code, lambda column: [one.hex(":") for one in column], '"%s"')
        case Form.IPV4:
            from socket import inet_ntoa

            made = leaf(code, partial(map, inet_ntoa), '"%s"')
        case _:
            # Floats of several CPUs may be texts ("nan"), which are not added.
            made = leaf(code, partial(_each, convert or _same), whole=of.form is Form.FLOAT)
    return Text(made.shown, (made,))


def _same(value: Value) -> Value:
    return value


class _Words(dict[int, str]):
    """The JSON of numbers that have names, made when it is first needed."""

    def __init__(self, convert: Callable[[Any], Value] | None) -> None:
        super().__init__()
        self._convert = convert or _same

    def __missing__(self, number: int) -> str:
        found = to_json(self._convert(number))
        if len(self) < _MOST_WORDS:
            self[number] = found
        return found


# --- per CPU ---


def total_of(text: Text, columns: Sequence[Sequence[Column]]) -> list[Column]:
    """For each leaf the column of what several CPUs have: sums, or what all agree on, or lists; to be shown by %s.

    ``columns``: by CPU, then by leaf. No leaf may be ``whole``.
    """
    found: list[Column] = []
    for leaf, copies in zip(text.leaves, zip(*columns, strict=True), strict=True):
        first, *others = copies
        if leaf.added:
            for copy in others:
                first = list(map(add, first, copy))
            found.append(first)
        elif all(copy == first for copy in others):
            found.append(_shown(leaf, first))
        else:
            shown = [_shown(leaf, copy) for copy in copies]
            found.append([_agreed(values) for values in zip(*shown, strict=True)])
    return found


def _shown(leaf: Leaf, column: Column) -> list[str]:
    if leaf.shown == '"%s"':
        return [f'"{one}"' for one in column]
    return [*map(str, column)] if leaf.shown == "%s" else [leaf.shown % one for one in column]


def _agreed(values: tuple[str, ...]) -> str:
    return values[0] if values.count(values[0]) == len(values) else f"[{','.join(values)}]"


# --- bytes ---


class Reading:
    """Takes the columns of some leaves out of values that lie end to end, ``size`` bytes each."""

    def __init__(self, leaves: Sequence[Leaf], size: int) -> None:
        self._leaves = leaves
        self._passes: list[tuple[list[int], _Pass]] = []
        for numbers in _without_overlap(leaves):
            self._passes.append((numbers, _Pass([leaves[one] for one in numbers], size)))

    def columns(self, data: memoryview) -> list[Column]:
        """The columns of the leaves, converted."""
        found: list[Column] = [()] * len(self._leaves)
        for numbers, one in self._passes:
            flat = one.flat(data)
            for place, number in enumerate(numbers):
                column = flat[place :: len(numbers)]
                convert = self._leaves[number].convert
                found[number] = list(convert(column)) if convert else column
        return found


def _without_overlap(leaves: Sequence[Leaf]) -> list[list[int]]:
    """Numbers of leaves, in as few groups as it takes that none shares bytes with another of its group."""
    groups: list[tuple[int, list[int]]] = []
    for number in sorted(range(len(leaves)), key=lambda one: leaves[one].offset):
        leaf = leaves[number]
        for place, (end, members) in enumerate(groups):
            if leaf.offset >= end:
                groups[place] = (leaf.offset + leaf.size, [*members, number])
                break
        else:
            groups.append((leaf.offset + leaf.size, [number]))
    return [members for _, members in groups]


class _Pass:
    """Leaves that lie one behind the other, read together."""

    def __init__(self, leaves: Sequence[Leaf], size: int) -> None:
        code, position = "", 0
        for leaf in leaves:
            code += f"{leaf.offset - position}x" if leaf.offset > position else ""
            code, position = code + leaf.code, leaf.offset + leaf.size
        code += f"{size - position}x" if size > position else ""
        self._size = size
        # Numbers of one width without gaps are read as what they are, in memory's own order.
        alike = set(code) <= {code[0]} and code[0] in _NUMBERS and sys.byteorder == "little"
        self._alike = code[0] if alike else ""
        self._one, self._many = struct.Struct("<" + code), struct.Struct("<" + code * _ROWS)

    def flat(self, data: memoryview) -> list[Any]:
        """All items, value after value."""
        if self._alike:
            return data.cast("B").cast(self._alike).tolist()  # type: ignore[call-overload,no-any-return]
        end = len(data) // self._many.size * self._many.size
        items = chain(self._many.iter_unpack(data[:end]), self._one.iter_unpack(data[end:]))
        return list(chain.from_iterable(items))
