"""The copies that a per-CPU map keeps of one value, as one value.

Integers and floats are added: Python's integers do not wrap, so a sum may be larger than the C type
and is still right. Everything else (names, texts, addresses, ports, flags) has no sum: it stands once
where all CPUs agree, and is the list of all CPUs' values where they differ.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from netbpf.bpf.btf.decode import Decoder, layout, shape_decoder
from netbpf.bpf.btf.shape import Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import Buffer, Value
from netbpf.errors import ObjectError

_ADDED = frozenset({Form.INT, Form.CHAR, Form.FLOAT})


def copies(data: Buffer, stride: int, size: int) -> list[memoryview]:
    """The values of all CPUs in what a lookup returned.

    ``stride`` is the bytes from one to the next (the value size rounded up to 8), ``size`` the
    value's own. Raises ObjectError where the data is not a whole number of copies.
    """
    view = memoryview(data)
    if stride <= 0 or size > stride or not view or len(view) % stride:
        raise ObjectError(
            f"{len(view)} bytes are no whole number of per-CPU values of {stride} bytes"
        )
    return [view[start : start + size] for start in range(0, len(view), stride)]


def summer(btf: Btf, type_id: int, stride: int, size: int, *, name: str = "") -> Decoder:
    """A function from all CPUs' copies of a value to their sum; ``copies`` says what the sizes are.

    It raises ObjectError for data of the wrong length, ``summer`` itself for types without a value.
    """
    of = shape(btf, type_id, name=name)
    if of.size > size or size > stride:
        raise ObjectError(
            f"{of.c_name} of {of.size} bytes does not fit per-CPU values of {size} bytes"
        )
    return _columns(of, stride) or _folded(of, stride, size)


def _folded(of: Shape, stride: int, size: int) -> Decoder:
    decode, fold = shape_decoder(of), folder(of)
    return lambda data: fold([decode(one) for one in copies(data, stride, size)])


def _columns(of: Shape, stride: int) -> Decoder | None:
    """A struct of plain numbers: one ``iter_unpack`` over all CPUs, then sums of columns."""
    if of.form is not Form.STRUCT or of.flexible:
        return None
    found = layout(of.fields.values())
    if (
        not found
        or found.converts
        or any(one.shape.form not in _ADDED for one in of.fields.values())
    ):
        return None
    names = found.names
    row = struct.Struct(f"{found.code}{stride - struct.calcsize(found.code)}x")

    def sum_columns(data: Buffer) -> Value:
        if not data or len(data) % stride:
            copies(data, stride, stride)
        return dict(zip(names, map(sum, zip(*row.iter_unpack(data), strict=False)), strict=False))

    return sum_columns


# --- decoded values ---


def sum_values(values: Sequence[Value]) -> Value:
    """One value of several decoded ones whose type is not known: all numbers are added.

    With the type at hand ``folder`` is better: it knows that a port number is not to be added.
    """
    return _fold_untyped(values)


def _fold_untyped(values: Sequence[Any]) -> Value:
    first = values[0] if values else None
    if isinstance(first, dict):
        if all(isinstance(one, dict) and one.keys() == first.keys() for one in values):
            return {key: _fold_untyped([one[key] for one in values]) for key in first}
    elif isinstance(first, list):
        if all(isinstance(one, list) and len(one) == len(first) for one in values):
            return [_fold_untyped(column) for column in zip(*values, strict=True)]
    elif values and not any(isinstance(one, bool) for one in values):
        return _added(values)
    return _agreed(values)


def folder(of: Shape) -> Callable[[Sequence[Any]], Value]:
    """A function that makes one value of the decoded values that all CPUs have of a shape."""
    if of.form in _ADDED:
        return _added
    if of.form is Form.ARRAY and of.element:
        element = folder(of.element)
        return lambda values: [element(column) for column in zip(*values, strict=True)]
    if of.form in (Form.STRUCT, Form.UNION):
        fields = [(one.name, folder(one.shape)) for one in of.fields.values()]
        return lambda values: {name: fold([one[name] for one in values]) for name, fold in fields}
    return _agreed


def _added(values: Sequence[Any]) -> Value:
    try:
        total: int | float = sum(values)
    except TypeError:  # "nan" and "inf" are texts
        return _agreed(values)
    # So is a sum that no float can hold.
    return total if total - total == 0 else str(total)


def _agreed(values: Sequence[Any]) -> Value:
    first = values[0] if values else None
    # True is 1 to Python, but not to JSON.
    same = all(one == first and type(one) is type(first) for one in values)
    return first if same else list(values)
