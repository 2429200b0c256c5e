"""Values as text, a column at a time: what thousands of entries cost is paid once for each of their members.

A type becomes pieces of text and, between them, leaves: where a number, name or address lies and how a column of them
becomes texts. Whatever has no leaves of its own (arrays of hundreds, types that end in a flexible array) is one leaf
whose values are decoded one by one. A ``Style`` says what the text is: JSON, or lines for people.
"""

import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import add
from typing import Any, NamedTuple

from netbpf.bpf.btf.decode import Reader, field_reader, scalar_reader, shape_decoder
from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.shape import Field, Form, Shape
from netbpf.bpf.btf.values import Value
from netbpf.insight.styles import JSON, Style

Column = Sequence[Any]

_MOST_ELEMENTS, _MOST_LEAVES = 32, 512  # of an array, of a type, that get leaves of their own
_MOST_WORDS = 4096  # texts of numbers that are remembered for each leaf
_NUMBERS = "bBhHiIqQ"
_RAW = {1: "B", 2: "H", 4: "I", 8: "Q"}
_OURS = "<" if sys.byteorder == "little" else ">"


class Leaf(NamedTuple):
    """A part of a value. ``offset`` and ``size`` in bytes, ``code`` for ``struct``; ``big``: big-endian.

    ``convert`` makes a column of texts, or of numbers that are written as they are; None: it is one. ``added`` says
    that the copies of several CPUs are added, ``whole`` that they can only be made one by who knows the type.
    ``quoted``: a quote stands on both sides.
    """

    offset: int
    size: int
    code: str
    convert: Callable[[Column], Iterable[Any]] | None = None
    added: bool = False
    quoted: bool = False
    whole: bool = False
    big: bool = False

    def converted(self, column: Column) -> Column:
        """What was read, fit to be written."""
        return list(self.convert(column)) if self.convert else column


class Text(NamedTuple):
    """The text of a type: a piece before each leaf, and one behind the last."""

    pieces: tuple[str, ...]
    leaves: tuple[Leaf, ...] = ()

    @classmethod
    def of(cls, *parts: "str | Text") -> "Text":
        """One behind the other."""
        pieces, leaves = [""], list[Leaf]()
        for part in parts:
            first, *others = (part,) if isinstance(part, str) else part.pieces
            pieces[-1] += first
            if not isinstance(part, str):
                pieces += others
                leaves += part.leaves
        return cls(tuple(pieces), tuple(leaves))

    def unquoted(self) -> "Text":
        """The same without the quotes around leaves."""
        pieces = list(self.pieces)
        for number, leaf in enumerate(self.leaves):
            if leaf.quoted:
                pieces[number], pieces[number + 1] = pieces[number][:-1], pieces[number + 1][1:]
        return Text(tuple(pieces), self.leaves)


# --- types ---


def text_of(of: Shape, size: int, style: Style = JSON, *, alone: bool = False) -> Text:
    """The text of values of a shape that have ``size`` bytes; the shape needs no more than that.

    ``alone``: they are not to be compared with those of other CPUs, so one address may have several leaves.
    """
    if size != of.size or of.flexible or of.leaves > _MOST_LEAVES:
        return _whole(shape_decoder(of), 0, size, style.value)
    return _Types(style, alone=alone).text(of, 0)


def raw_text(size: int, style: Style = JSON) -> Text:
    """The text of values whose type is not known: hex."""
    if size not in _RAW:
        return _whole(decode_raw, 0, size, style.raw)
    hexed = f"{style.quote}0x%0{2 * size}x{style.quote}"
    shown = hexed.__mod__ if style is JSON else lambda number: f"{hexed % number} ({number})"
    return _one(Leaf(0, size, _RAW[size], partial(map, shown), whole=True))


def number_text(size: int) -> Text:
    """The text of values that are known to be unsigned numbers."""
    return _one(Leaf(0, size, _RAW[size], whole=True))


def _one(leaf: Leaf, quote: str = "") -> Text:
    return Text((quote, quote), (leaf._replace(quoted=bool(quote)),))


def _whole(
    decode: Callable[[bytes], Value], offset: int, size: int, shown: Callable[[Value], str]
) -> Text:
    return _one(Leaf(offset, size, f"{size}s", partial(_each, decode, shown), whole=True))


def _each(
    decode: Callable[[Any], Value], shown: Callable[[Value], str], column: Column
) -> list[str]:
    return [shown(decode(one)) for one in column]


class _Types:
    """Makes texts in one style."""

    def __init__(self, style: Style, *, alone: bool) -> None:
        self._style, self._alone = style, alone

    def text(self, of: Shape, offset: int) -> Text:
        """The text of a shape that begins at an offset."""
        if of.form in (Form.STRUCT, Form.UNION):
            members = [
                Text.of(self._style.name(one.name), self._field(one, offset))
                for one in of.fields.values()
            ]
            return Text.of("{", *_listed(members, self._style.between), "}")
        if of.form is not Form.ARRAY:
            return self._scalar(of, scalar_reader(of), offset, of.size)
        element = of.element
        if element is None or not of.size:
            return Text(("[]",))
        if of.count > _MOST_ELEMENTS:
            return _whole(shape_decoder(of), offset, of.size, self._style.value)
        items = [self.text(element, offset + number * element.size) for number in range(of.count)]
        return Text.of("[", *_listed(items, self._style.between), "]")

    def _field(self, field: Field, base: int) -> Text:
        offset = base + field.offset
        if field.bits:
            reader = field_reader(field)
            return self._scalar(field.shape, reader, offset, struct.calcsize("<" + reader.code))
        if field.size != field.shape.size:  # a variable that is larger than its type
            return _whole(shape_decoder(field.shape), offset, field.size, self._style.value)
        return self.text(field.shape, offset)

    def _scalar(self, of: Shape, reader: Reader, offset: int, size: int) -> Text:
        code, convert = reader
        leaf = partial(Leaf, offset, size)
        quote, value = self._style.quote, self._style.value
        match of.form:
            case Form.INT | Form.CHAR:
                return _one(leaf(code, partial(map, convert) if convert else None, added=True))
            case Form.BIG if size in _RAW and code == f"{size}s":  # of a bitfield a number
                return _one(leaf(_RAW[size], big=True))
            case Form.BOOL | Form.ENUM:
                words = _Words(convert or _same, value)
                return _one(leaf(code, partial(map, words.__getitem__)))
            case Form.POINTER:
                return _one(leaf(code, partial(map, hex)), quote)
            case Form.MAC:
                return _one(leaf(code, _macs), quote)
            case Form.IPV4 if self._alone:
                # Four small numbers are made text in half the time of one inet_ntoa(3).
                parts = [_one(Leaf(offset + number, 1, "B")) for number in range(4)]
                return Text.of(quote, *_listed(parts, "."), quote)
            case Form.IPV4:
                from socket import inet_ntoa

                return _one(leaf(code, partial(map, inet_ntoa)), quote)
            case _:
                # Floats of several CPUs may be texts ("nan"), which are not added.
                each = partial(_each, convert or _same, value)
                return _one(leaf(code, each, whole=of.form is Form.FLOAT))


def _listed(parts: list[Text], between: str) -> Iterator[Text | str]:
    for number, part in enumerate(parts):
        if number:
            yield between
        yield part


def _macs(column: Column) -> list[str]:
    return [one.hex(":") for one in column]


def _same(value: Value) -> Value:
    return value


class _Words(dict[int, str]):
    """The texts of numbers that have names, made when they are first needed."""

    def __init__(self, convert: Callable[[Any], Value], shown: Callable[[Value], str]) -> None:
        super().__init__()
        self._convert, self._shown = convert, shown

    def __missing__(self, number: int) -> str:
        found = self._shown(self._convert(number))
        if len(self) < _MOST_WORDS:
            self[number] = found
        return found


# --- per CPU ---


class Total(NamedTuple):
    """What several CPUs have together, and what each has: by leaf, then by CPU.

    Where all agree, apart from what is added, the total has a text's quotes still around it; else it has its own.
    """

    total: list[Column]
    parts: list[list[Column]]
    agree: bool


def total_of(text: Text, copies: Sequence[Sequence[Column]], style: Style = JSON) -> Total:
    """Sums, or what all agree on, or lists. ``copies``: by leaf, then by CPU, as they were read.

    No leaf may be ``whole``.
    """
    parts = [_copies(leaf, columns) for leaf, columns in zip(text.leaves, copies, strict=True)]
    both = list(zip(text.leaves, parts, strict=True))
    agree = all(leaf.added or all(one is part[0] for one in part) for leaf, part in both)
    return Total([_together(leaf, part, style, agree=agree) for leaf, part in both], parts, agree)


def _copies(leaf: Leaf, columns: Sequence[Column]) -> list[Column]:
    """Converted; what has the same bytes is the same column."""
    first, *others = columns
    made = leaf.converted(first)
    return [made, *(made if one == first else leaf.converted(one) for one in others)]


def _together(leaf: Leaf, parts: list[Column], style: Style, *, agree: bool) -> Column:
    total, *others = parts
    if leaf.added:
        for one in others:
            total = list(map(add, total, one))
        return total
    if agree:
        return total
    quote = style.quote if leaf.quoted else ""
    shown = ([f"{quote}{text}{quote}" for text in part] for part in parts)
    return [_agreed(values, style.between) for values in zip(*shown, strict=True)]


def _agreed(values: tuple[str, ...], between: str) -> str:
    return values[0] if values.count(values[0]) == len(values) else f"[{between.join(values)}]"


# --- bytes ---


class Reading:
    """Takes the columns of some leaves out of values that lie end to end, ``size`` bytes each."""

    def __init__(self, leaves: Sequence[Leaf], size: int) -> None:
        self._leaves = leaves
        self._readers = [_reader(leaf, size) for leaf in leaves]

    def raw(self, data: memoryview) -> list[Column]:
        """The columns of the leaves as they are in memory."""
        data = data.cast("B")
        return [read(data) for read in self._readers]

    def columns(self, data: memoryview) -> list[Column]:
        """The columns of the leaves, converted."""
        return list(map(Leaf.converted, self._leaves, self.raw(data)))


def _reader(leaf: Leaf, size: int) -> Callable[[memoryview], Column]:
    order = ">" if leaf.big else "<"
    if leaf.code in _NUMBERS and leaf.offset % leaf.size == 0 == size % leaf.size:
        read = _numbers if order == _OURS else _swapped
        return partial(read, leaf.code, leaf.offset // leaf.size, size // leaf.size)
    rest = size - leaf.offset - leaf.size
    one = struct.Struct(f"{order}{leaf.offset}x{leaf.code}{rest}x")
    return partial(_unpacked, one)


def _numbers(code: str, first: int, step: int, data: memoryview) -> list[int]:
    found: list[int] = data.cast(code)[first::step].tolist()  # type: ignore[call-overload]
    return found


def _swapped(code: str, first: int, step: int, data: memoryview) -> list[int]:
    found = array(code, data.cast(code)[first::step].tobytes())  # type: ignore[call-overload]
    found.byteswap()
    numbers: list[int] = found.tolist()
    return numbers


def _unpacked(one: struct.Struct, data: memoryview) -> list[Any]:
    return list(chain.from_iterable(one.iter_unpack(data)))
