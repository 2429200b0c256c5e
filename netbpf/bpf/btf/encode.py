"""Values to bytes: what people type and what Python callers pass, checked against the type.

Whatever ``decode`` gives is taken back, and more:

- numbers: decimal, ``0x``, ``0o``, ``0b``, with a sign and underscores; true/false, on/off, yes/no;
  a ``char`` also as ``'x'``. ``__be16``, ``__be32`` and ``__be64`` take numbers as people say them
  (port 53) and are stored in network byte order. IP protocols have names where the member's name
  says that it is one (``proto: udp``);
- enums: a name, also in another case or without its prefix where only one fits (``drop`` for
  ``XDP_DROP``), or a number;
- addresses: IPv4 for four bytes (``__be32``, ``unsigned char[4]``), MAC for six, IPv6 for sixteen.
  A plain ``__u32`` takes none: its type does not say in which order it wants the bytes;
- bytes: ``0x`` and as many hex digits as an ``unsigned char`` array has, in the order of memory;
- text for ``char`` arrays, padded with NULs; it may fill the array. ``\\xNN``, ``\\n``, ``\\t``,
  ``\\0`` and ``\\\\`` are understood;
- lists for arrays; elements not mentioned become 0, as in a C initialiser;
- ``{name: value}`` for structs and unions; members not mentioned keep what ``base`` has, else 0;
- ``10.0.0.0/8`` for keys of LPM tries, and ``{src: 10.0.0.0/8}``; an address alone stands for itself, all bits;
- from Python also bytes of exactly the type's size, for anything.

Values that do not fit raise UsageError with the type and its range; members and elements that do not
exist raise ObjectError with near names.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from netbpf.bpf.btf.literal import number, parse_literal, shown
from netbpf.bpf.btf.lpm import with_length
from netbpf.bpf.btf.path import (
    Path,
    Place,
    capacity,
    element,
    locate,
    member,
    unknown_member,
    whole,
)
from netbpf.bpf.btf.scalar import bytes_of_address, bytes_of_text, expected, misfit, scalar_bits
from netbpf.bpf.btf.shape import Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.btf.values import Buffer, Value
from netbpf.errors import ObjectError

Encodable: TypeAlias = (
    "Value | Buffer | Sequence[Encodable] | Mapping[str, Encodable]"  # what `encode` takes
)


def encode(
    btf: Btf,
    type_id: int,
    value: Encodable,
    *,
    base: Buffer | None = None,
    name: str = "",
    lpm: bool = False,
) -> bytes:
    """The bytes of a value of some type.

    ``base`` is what the bytes were before; it may be longer than the type (flexible arrays). ``name``
    is what the value is called, ``lpm`` says that it is the key of an LPM trie.
    """
    of = shape(btf, type_id, name=name, lpm=lpm)
    data = _start(of, base)
    meant = with_length(of, value, name) if lpm else value
    _write(data, whole(of, len(data), name), meant)
    return bytes(data)


def encode_text(
    btf: Btf,
    type_id: int,
    text: str,
    *,
    base: Buffer | None = None,
    name: str = "",
    lpm: bool = False,
) -> bytes:
    """The same for text as typed: quotes are taken off, and a ``char`` array takes the rest as it is."""
    of = shape(btf, type_id, name=name, lpm=lpm)
    data = _start(of, base)
    value = read_text(of, text)
    _write(data, whole(of, len(data), name), with_length(of, value, name) if lpm else value)
    return bytes(data)


def assign(
    btf: Btf, type_id: int, data: bytearray, path: Path | str, value: Encodable, *, name: str = ""
) -> None:
    """Write one part of a value in place; see ``locate`` for paths. On error ``data`` is unchanged."""
    _replace(data, locate(btf, type_id, path, size=len(data), name=name), value)


def assign_text(
    btf: Btf, type_id: int, data: bytearray, path: Path | str, text: str, *, name: str = ""
) -> None:
    """The same for text as typed."""
    place = locate(btf, type_id, path, size=len(data), name=name)
    _replace(data, place, read_text(place.shape, text))


def read_text(of: Shape, text: str) -> Encodable:
    """Text as typed, taken apart as far as its type wants it."""
    if of.form is Form.TEXT:
        return parse_literal(text) if text.startswith('"') else text
    return parse_literal(text) if text.startswith(("[", "{", '"', "'")) else text


def _start(of: Shape, base: Buffer | None) -> bytearray:
    data = bytearray(of.size) if base is None else bytearray(base)
    if len(data) < of.size:
        raise ObjectError(f"{of.c_name} has {of.size} bytes, there are only {len(data)}")
    return data


def _replace(data: bytearray, place: Place, value: Encodable) -> None:
    if len(data) < place.offset + place.size:
        raise ObjectError(f"{place.name} ends behind the {len(data)} bytes of its value")
    changed = bytearray(data)
    _write(changed, place, value)
    data[:] = changed


def _write(data: bytearray, place: Place, value: object) -> None:
    of = place.shape
    if isinstance(value, bytes | bytearray | memoryview):
        _write_bytes(data, place, value)
    elif of.form in (Form.STRUCT, Form.UNION):
        _write_struct(data, place, value)
    elif of.form is Form.ARRAY or of.plain:
        _write_array(data, place, value)
    else:
        bits = place.bits or of.bits or of.size * 8
        shift = place.bit if place.bits else of.shift
        mask, span = (1 << bits) - 1, slice(place.offset, place.offset + place.size)
        kept = int.from_bytes(data[span], "little") & ~(mask << shift)
        new = (scalar_bits(place, value) & mask) << shift
        data[span] = (kept | new).to_bytes(place.size, "little")


def _write_bytes(data: bytearray, place: Place, value: Buffer) -> None:
    # Text may be shorter, and what has no size of its own takes what there is room for.
    size = place.size if place.shape.form is Form.TEXT or not place.shape.size else place.shape.size
    padded = size != place.shape.size or place.shape.form is Form.TEXT
    if place.bits or len(value) > size or (len(value) < size and not padded):
        raise misfit(place, f"it takes {size} bytes, not {len(value)}")
    data[place.offset : place.offset + size] = bytes(value).ljust(size, b"\0")


def _write_struct(data: bytearray, place: Place, value: object) -> None:
    if isinstance(value, str):
        value = parse_literal(value)
    if not isinstance(value, Mapping):
        hint = "write {NAME: VALUE, ...}, or set one member: NAME.MEMBER=VALUE"
        raise misfit(place, f"{shown(value)} is no struct", hint)
    inside = place.shape.plain or place.shape
    for name, part in value.items():
        if name not in inside.fields:
            raise unknown_member(place, str(name))
        _write(data, member(place, name), part)


def _write_array(data: bytearray, place: Place, value: object) -> None:
    """Arrays, and everything else that has a text form but is a list, struct or number inside."""
    of = place.shape
    inside = of.plain or of
    if isinstance(value, str):
        if of.form is Form.TEXT:
            found: bytes | None = bytes_of_text(place, value)
        else:
            found = bytes_of_address(place, value)
        if found is not None:
            data[place.offset : place.offset + len(found)] = found
            return
        if value.lstrip()[:1] in ("[", "{"):
            value = parse_literal(value)
        elif inside.form is not Form.BIG or number(value) is None:
            raise expected(place, value)
    if inside.form is not Form.ARRAY:
        _write(data, place._replace(shape=inside), value)
        return
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise expected(place, value)
    if len(value) > capacity(place):
        raise misfit(place, f"{len(value)} elements are too many")
    size = inside.element.size if inside.element else 0
    rest = place.offset + len(value) * size
    data[rest : place.offset + place.size] = bytes(place.offset + place.size - rest)
    for index, part in enumerate(value):
        _write(data, element(place, index), part)
