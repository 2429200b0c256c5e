"""Bytes to values: a type is compiled once into closures over ``struct.Struct``, then used often.

Every shape becomes a reader: a ``struct`` code that takes its bytes out of whatever holds it, and a
function that makes the value of what the code gave. A struct of plain numbers costs one call of
``Struct.unpack_from`` and one dict.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from netbpf.bpf.btf.path import Place
from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.shape import Field, Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import Buffer, Value
from netbpf.errors import ObjectError

Decoder = Callable[[Buffer], Value]

_UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}
_decoders: WeakKeyDictionary[Shape, Decoder] = WeakKeyDictionary()


class Reader(NamedTuple):
    """How to read one shape: ``code`` for ``struct``, then ``convert`` (None: as it is).

    Composites have the code of a byte string and a decoder as ``convert``.
    """

    code: str
    convert: Callable[[Any], Value] | None


def decoder(btf: Btf, type_id: int, *, name: str = "", lpm: bool = False) -> Decoder:
    """A function from bytes to the value of a type, as ``netbpf.bpf.btf.values`` describes it.

    ``name`` is what the value is called (it may say that four bytes are an address), ``lpm`` that it
    is the key of an LPM trie. The function raises ObjectError for too few bytes and ignores what
    follows the type, except that a flexible array takes it. Raises ObjectError for types without a
    value. Asking again for the same type costs a dictionary lookup.
    """
    return shape_decoder(shape(btf, type_id, name=name, lpm=lpm))


def shape_decoder(of: Shape) -> Decoder:
    """The decoder of a shape; see ``decoder``."""
    found = _decoders.get(of)
    if found is None:
        found = _decoders[of] = _checked(of)
    return found


def decode(btf: Btf, type_id: int, data: Buffer, *, name: str = "", lpm: bool = False) -> Value:
    """The value of one type in some bytes; see ``decoder``."""
    return decoder(btf, type_id, name=name, lpm=lpm)(data)


def field_decoder(field: Field) -> Decoder:
    """A decoder of a member, bitfields included, from the bytes of its whole struct."""
    read = field_reader(field)
    code, convert, offset = struct.Struct("<" + read.code), read.convert, field.offset

    def decode_field(data: Buffer) -> Value:
        try:
            (item,) = code.unpack_from(data, offset)
        except struct.error:
            raise _too_short(len(data), offset + code.size) from None
        value: Value = convert(item) if convert else item
        return value

    return decode_field


def decode_place(place: Place, data: Buffer) -> Value:
    """The value of one part, which ``path.locate`` found, in the bytes of the whole."""
    part = memoryview(data)[place.offset : place.offset + place.size]
    if len(part) < place.size:
        raise _too_short(len(data), place.offset + place.size)
    if not place.bits:
        return shape_decoder(place.shape)(part)
    number = int.from_bytes(part, "little") >> place.bit & ((1 << place.bits) - 1)
    convert = _from_unsigned(place.shape, place.bits)
    return convert(number) if convert else number


def _too_short(got: int, needed: int) -> ObjectError:
    return ObjectError(f"a value of {needed} bytes cannot be read from {got} bytes")


def _checked(of: Shape) -> Decoder:
    size = of.size
    read = whole_reader(of)

    def decode_checked(data: Buffer) -> Value:
        if len(data) < size:
            raise _too_short(len(data), size)
        return read(data)

    return decode_checked


def whole_reader(of: Shape) -> Decoder:
    """A decoder that trusts its caller to pass enough bytes."""
    if of.form in (Form.STRUCT, Form.UNION):
        return _struct(of)
    if of.form is Form.ARRAY:
        return _array(of)
    reader = scalar_reader(of)
    unpack = struct.Struct("<" + reader.code).unpack_from
    convert = reader.convert
    if convert is None:
        return lambda data: unpack(data)[0]
    if of.form is Form.TEXT and of.size == 0:
        return lambda data: text(bytes(data))
    return lambda data: convert(unpack(data)[0])


# --- scalars, and bytes with a meaning ---


def text(data: bytes) -> str:
    """Text of a char array: NULs at its end dropped, what is no UTF-8 and NULs inside as ``\\xNN``."""
    data = data.rstrip(b"\0")
    if b"\\" in data:
        data = data.replace(b"\\", b"\\\\")
    found = data.decode("utf-8", "backslashreplace")
    return found.replace("\0", "\\x00") if "\0" in found else found


def _float(value: float) -> Value:
    # NaN and the infinities are the only numbers whose difference to themselves is not zero.
    return value if value - value == 0 else str(value)


def _signed(bits: int, value: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _cut(shift: int, bits: int, convert: Callable[[int], Value] | None, value: int) -> Value:
    value = value >> shift & ((1 << bits) - 1)
    return convert(value) if convert else value


def _from_unsigned(of: Shape, bits: int) -> Callable[[int], Value] | None:
    """From the unsigned bits of an integer or enum to its value; None where they are the value."""
    if of.form is Form.BOOL:
        return lambda value: value != 0 if value < 2 else value
    if of.form is not Form.ENUM:
        return partial(_signed, bits) if of.signed else None
    low, high = -1 << (bits - 1), 1 << bits
    names: dict[int, str] = {}
    for name, number in of.enumerators:
        if low <= number < high:
            names.setdefault(number & (high - 1), name)
    if not of.signed:
        return lambda value: names.get(value, value)
    return lambda value: names[value] if value in names else _signed(bits, value)


def scalar_reader(of: Shape) -> Reader:
    """How to read a shape that is one number, text or address: no struct, union or array."""
    size = of.size
    match of.form:
        case Form.INT | Form.CHAR | Form.BOOL | Form.ENUM:
            if of.bits != size * 8:
                return _bits_reader(size, of.shift, of.bits, _from_unsigned(of, of.bits))
            if of.form in (Form.INT, Form.CHAR) and size in _UNSIGNED:
                return Reader(_UNSIGNED[size].lower() if of.signed else _UNSIGNED[size], None)
            if size not in _UNSIGNED:
                return Reader(
                    f"{size}s", partial(int.from_bytes, byteorder="little", signed=of.signed)
                )
            return Reader(_UNSIGNED[size], _from_unsigned(of, of.bits))
        case Form.BIG:
            return Reader(f"{size}s", partial(int.from_bytes, byteorder="big"))
        case Form.FLOAT:
            return Reader({2: "e", 4: "f", 8: "d"}[size], _float)
        case Form.POINTER:
            return Reader("Q", hex)
        case Form.TEXT:
            return Reader(f"{size}s", text)
        case Form.MAC:
            return Reader("6s", _mac)
        case Form.IPV4:
            return Reader("4s", _ipv4)
        case Form.IPV6:
            return Reader("16s", _ipv6_reader())
        case Form.PREFIX:
            return Reader(f"{size}s", _prefix_reader(size - 4))
        case _:
            return Reader(f"{size}s", decode_raw)


def _mac(data: bytes) -> str:
    return data.hex(":")


def _ipv4(data: bytes) -> str:
    return "{}.{}.{}.{}".format(*data)


def _ipv6_reader() -> Callable[[bytes], str]:
    from socket import AF_INET6, inet_ntop

    return partial(inet_ntop, AF_INET6)


def _prefix_reader(size: int) -> Callable[[bytes], str]:
    address: Callable[[bytes], str] = {4: _ipv4, 6: _mac}.get(size) or _ipv6_reader()
    return lambda data: f"{address(data[4:])}/{int.from_bytes(data[:4], 'little')}"


def _bits_reader(
    size: int, shift: int, bits: int, convert: Callable[[int], Value] | None
) -> Reader:
    cut = partial(_cut, shift, bits, convert)
    if size in _UNSIGNED:
        return Reader(_UNSIGNED[size], cut)
    return Reader(f"{size}s", lambda data: cut(int.from_bytes(data, "little")))


# --- composites ---


def _reader(of: Shape) -> Reader:
    if of.form in (Form.STRUCT, Form.UNION, Form.ARRAY):
        return Reader(f"{of.size}s", shape_decoder(of))
    return scalar_reader(of)


def field_reader(field: Field) -> Reader:
    """How to read a member from where it begins (``field.offset``), bitfields included."""
    if field.bits:
        shift = field.bit_offset & 7
        covered = (shift + field.bits + 7) >> 3
        return _bits_reader(covered, shift, field.bits, _from_unsigned(field.shape, field.bits))
    reader = _reader(field.shape)
    if field.size == field.shape.size:
        return reader
    # A variable that is larger than its type: its flexible array has elements.
    return Reader(f"{field.size}s", shape_decoder(field.shape))


def _struct(of: Shape) -> Decoder:
    fields = list(of.fields.values())
    read = _in_one_pass(fields) or _one_by_one(fields)
    if not of.flexible:
        return read
    *_, last = fields
    flexible, size, offset = whole_reader(last.shape), of.size, last.offset

    def with_rest(data: Buffer) -> Value:
        found = read(data)
        if len(data) > size and isinstance(found, dict):
            found[last.name] = flexible(memoryview(data)[offset:])
        return found

    return with_rest


class Layout(NamedTuple):
    """Fields that lie one behind the other: one ``unpack_from`` reads them all.

    ``code`` ends behind the last field; ``converts`` names the fields whose item is not yet the value.
    """

    names: tuple[str, ...]
    code: str
    converts: list[tuple[str, Callable[[Any], Value]]]


def layout(fields: Iterable[Field]) -> Layout | None:
    """The layout of a struct's fields; None where some share bytes (bitfields, unions)."""
    code, position = "<", 0
    names: list[str] = []
    converts: list[tuple[str, Callable[[Any], Value]]] = []
    for field in fields:
        if field.bits or field.offset < position:
            return None
        reader = field_reader(field)
        if field.offset > position:
            code += f"{field.offset - position}x"
        code += reader.code
        position = field.offset + field.size
        names.append(field.name)
        if reader.convert:
            converts.append((field.name, reader.convert))
    return Layout(tuple(names), code, converts)


def _in_one_pass(fields: list[Field]) -> Decoder | None:
    found = layout(fields)
    if not found:
        return None
    names, converts, unpack = found.names, found.converts, struct.Struct(found.code).unpack_from
    if not converts:
        return lambda data: dict(zip(names, unpack(data), strict=False))

    def decode_struct(data: Buffer) -> Value:
        found = dict(zip(names, unpack(data), strict=False))
        for name, convert in converts:
            found[name] = convert(found[name])
        return found

    return decode_struct


def _one_by_one(fields: list[Field]) -> Decoder:
    """Bitfields and unions: several fields take the same bytes."""
    steps = []
    for field in fields:
        reader = field_reader(field)
        unpack = struct.Struct("<" + reader.code).unpack_from
        steps.append((field.name, unpack, field.offset, reader.convert))

    def decode_struct(data: Buffer) -> Value:
        found: dict[str, Value] = {}
        for name, unpack, offset, convert in steps:
            item = unpack(data, offset)[0]
            found[name] = convert(item) if convert else item
        return found

    return decode_struct


def _array(of: Shape) -> Decoder:
    element, count = of.element, of.count
    assert element is not None
    if not element.size:
        return lambda data: []
    reader, size = _reader(element), element.size
    convert, one = reader.convert, struct.Struct("<" + reader.code)
    if not count:  # flexible: whatever is there
        return lambda data: _items(one, convert, memoryview(data)[: len(data) // size * size])
    if len(reader.code) > 1:
        total = of.size
        return lambda data: _items(one, convert, memoryview(data)[:total])
    unpack = struct.Struct(f"<{count}{reader.code}").unpack_from
    if convert is None:
        return lambda data: list(unpack(data))
    return lambda data: list(map(convert, unpack(data)))


def _items(one: struct.Struct, convert: Callable[[Any], Value] | None, data: memoryview) -> Value:
    found: Iterator[tuple[Any, ...]] = one.iter_unpack(data)
    if convert is None:
        return [item for (item,) in found]
    return [convert(item) for (item,) in found]
