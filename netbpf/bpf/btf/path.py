"""Parts of a value by name: ``cfg.port``, ``ports[2]``, ``a.b[1].c``, ``rules[10.0.0.0/8].action``."""

from collections.abc import Container
from typing import NamedTuple, TypeAlias

from netbpf.bpf.btf.literal import number, shown
from netbpf.bpf.btf.shape import Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.errors import ObjectError, UsageError
from netbpf.text import did_you_mean, escape


class Index(NamedTuple):
    """What stands in brackets: the index of an array, or, first behind a map's name, a key."""

    text: str


Step: TypeAlias = str | Index


class Path(NamedTuple):
    """Names of members (str) and indexes, from the outside in. An empty path is the value itself."""

    steps: tuple[Step, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Path":
        """The path in a text; UsageError where it is none.

        Brackets may hold anything, brackets in pairs and quotes included: ``rules[{addr: [1, 2]}]``.
        """
        path, end = _scan(text, 0)
        if end != len(text):
            raise UsageError(
                f"{shown(text)} is no variable or part of one: unexpected {shown(text[end])}"
            )
        return path

    def first(self, known: Container[str]) -> tuple[str, "Path"]:
        """The name a path begins with, and the path from there.

        Compilers call a static variable of a function ``function.variable``: where the first name
        is not known but so many names joined by dots are, that is the name. UsageError for a path
        that does not begin with a name.
        """
        names: list[str] = []
        for step in self.steps:
            if isinstance(step, Index):
                break
            names.append(step)
            if (joined := ".".join(names)) in known:
                return joined, Path(self.steps[len(names) :])
        if not names:
            raise UsageError(f"{shown(str(self))} does not begin with a name")
        return names[0], Path(self.steps[1:])

    def __str__(self) -> str:
        out = ""
        for step in self.steps:
            out += f"[{step.text}]" if isinstance(step, Index) else f".{step}" if out else step
        return out


class Assignment(NamedTuple):
    """``path=value`` as typed."""

    path: Path
    value: str


def parse_assignment(text: str) -> Assignment:
    """``cfg.port=53`` taken apart at the first ``=`` behind the path; UsageError where there is none."""
    path, end = _scan(text, 0)
    if text[end : end + 1] != "=":
        raise UsageError(
            f"{shown(text)} is no assignment",
            hint="write NAME=VALUE, such as limit=5 or cfg.port=53",
        )
    return Assignment(path, text[end + 1 :].strip())


def _scan(text: str, position: int) -> tuple[Path, int]:
    steps: list[Step] = []
    while position < len(text):
        char = text[position]
        if char == "[" and steps:
            end = _closing(text, position)
            steps.append(Index(text[position + 1 : end].strip()))
            position = end + 1
        elif char == "=":
            break
        elif (char == "." and steps) or not steps:
            position += bool(steps)
            start = position
            if text[start : start + 1] == "." and not steps:
                position += 1  # names of sections begin with a dot
            while position < len(text) and text[position] not in ".[]=":
                position += 1
            name = text[start:position].strip()
            if not name or name == ".":
                raise UsageError(f"{shown(text)} has a part without a name")
            steps.append(name)
        else:
            break
    if not steps:
        raise UsageError(f"{shown(text)} names no variable")
    return Path(tuple(steps)), position


def _closing(text: str, position: int) -> int:
    depth, quote = 0, ""
    for place in range(position, len(text)):
        char = text[place]
        if quote:
            if char == quote and text[place - 1] != "\\":
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
            if depth == 0:
                return place
    raise UsageError(f"{shown(text)}: the bracket is not closed")


# --- places in bytes ---


class Place(NamedTuple):
    """Where a part of a value lies. Offset and size in bytes.

    ``bits`` is 0 except for a bitfield, which begins ``bit`` bits into the first of ``size`` bytes.
    ``name`` is its path for messages.
    """

    shape: Shape
    offset: int
    size: int
    bit: int
    bits: int
    name: str

    @property
    def type_id(self) -> int:
        """The type behind typedefs and qualifiers."""
        return self.shape.type_id


def locate(
    btf: Btf, type_id: int, path: Path | str, *, size: int | None = None, name: str = ""
) -> Place:
    """Where the part of a type that a path names lies.

    ``size`` is how many bytes the whole value has, where a flexible array makes it larger than its
    type. ``name`` is what the value is called. Members of anonymous structs and unions are reached
    by their own names. Raises ObjectError for a member or element there is none of, UsageError for
    a path into something without parts.
    """
    if isinstance(path, str):
        path = Path.parse(path)
    place = whole(shape(btf, type_id, name=name), size, name)
    while path.steps:
        step = path.steps[0]
        if isinstance(step, Index):
            place, path = _enter_index(place, step.text), Path(path.steps[1:])
        else:
            step, path = path.first(place.shape.fields)
            place = _enter(place, step)
    return place


def whole(of: Shape, size: int | None = None, name: str = "") -> Place:
    """The place of a value that is part of nothing."""
    return Place(of, 0, of.size if size is None else size, 0, 0, name)


def member(place: Place, name: str) -> Place:
    """The place of a struct's member, which must exist."""
    inside = place.shape.plain or place.shape
    field = inside.fields[name]
    size = field.size
    if inside.flexible and next(reversed(inside.fields)) == name and place.size > inside.size:
        size = place.size - field.offset
    bit = field.bit_offset & 7 if field.bits else 0
    if field.bits:
        size = (bit + field.bits + 7) >> 3
    label = f"{place.name}.{name}" if place.name else name
    return Place(field.shape, place.offset + field.offset, size, bit, field.bits, label)


def capacity(place: Place) -> int:
    """How many elements an array has here; a flexible one as many as there are bytes for."""
    array = place.shape.plain or place.shape
    if array.count or not array.element or not array.element.size:
        return array.count
    return place.size // array.element.size


def element(place: Place, index: int) -> Place:
    """The place of an array's element, which must exist."""
    array = place.shape.plain or place.shape
    assert array.element is not None
    size = array.element.size
    return Place(array.element, place.offset + index * size, size, 0, 0, f"{place.name}[{index}]")


def _what(place: Place) -> str:
    return f"{escape(place.name) or 'the value'} is {place.shape.c_name}"


def unknown_member(place: Place, name: str) -> ObjectError:
    """The error for a member that a struct does not have."""
    inside = place.shape.plain or place.shape
    owner = escape(place.name) or inside.base
    return ObjectError(
        f"{owner} has no member {escape(name)}",
        hint=did_you_mean(name, inside.fields, "its members"),
    )


def _enter(place: Place, name: str) -> Place:
    inside = place.shape.plain or place.shape
    if inside.form not in (Form.STRUCT, Form.UNION):
        hint = "an element is written NAME[INDEX]" if inside.form is Form.ARRAY else None
        raise UsageError(f"{_what(place)}: it has no member {escape(name)}", hint=hint)
    if name not in inside.fields:
        raise unknown_member(place, name)
    return member(place, name)


def _enter_index(place: Place, text: str) -> Place:
    array = place.shape.plain or place.shape
    if array.form is not Form.ARRAY:
        hint = "a member is written NAME.MEMBER" if array.fields else None
        raise UsageError(f"{_what(place)}: it has no elements", hint=hint)
    index, count = number(text), capacity(place)
    if index is None:
        raise UsageError(f"{_what(place)}: {shown(text)} is no index")
    if not 0 <= index < count:
        bounds = f"0..{count - 1}" if count else "none, it is empty"
        raise ObjectError(f"{_what(place)}: index {index} is out of range ({bounds})")
    return element(place, index)
