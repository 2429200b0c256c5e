"""What a BTF type is as a value: checked once, then a tree that readers and writers can trust.

BTF may be hostile. Everything that could hurt later is refused here with ObjectError: members outside
their struct, types inside themselves, nesting and unions that would multiply without end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NamedTuple
from weakref import WeakKeyDictionary

from netbpf.bpf.btf.names import BIG_ENDIAN, is_address
from netbpf.bpf.btf.types import MAX_DEPTH, MODIFIERS, Btf, BtfType, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

_MAX_SIZE = 1 << 32  # sizes of map keys and values are u32 in the kernel
_MAX_FIELDS = 1 << 17
_SHOWN_ENUMERATORS = 6


class Form(Enum):
    """How a value looks; see the table in ``netbpf.bpf.btf.values``."""

    INT = auto()
    BIG = auto()  # unsigned, in network byte order
    CHAR = auto()
    BOOL = auto()
    ENUM = auto()
    FLOAT = auto()
    POINTER = auto()
    RAW = auto()  # floats that Python has no type for
    ARRAY = auto()
    STRUCT = auto()
    UNION = auto()
    # Bytes with a meaning; `plain` is what they are without it.
    TEXT = auto()
    MAC = auto()
    IPV4 = auto()
    IPV6 = auto()
    PREFIX = auto()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Shape:
    """A type as a value. ``size`` is in bytes.

    ``bits`` and ``shift`` say which bits of an integer count. ``base`` and ``dims`` make the C name.
    ``leaves`` bounds how many numbers and texts decoding gives, ``height`` how deep they nest.
    ``fields`` of structs and unions include those of their anonymous members; ``flexible`` is set
    where the last one has no size of its own.
    """

    form: Form
    type_id: int
    size: int
    base: str
    dims: str = ""
    bits: int = 0
    shift: int = 0
    signed: bool = False
    count: int = 0
    element: "Shape | None" = None
    plain: "Shape | None" = None
    fields: "dict[str, Field]" = field(default_factory=dict)
    flexible: bool = False
    enumerators: tuple[tuple[str, int], ...] = ()
    leaves: int = 1
    height: int = 1

    @property
    def c_name(self) -> str:
        """The type as C would write it, with short integers: ``u32[4]``, ``struct cfg``."""
        return self.base + self.dims


class Field(NamedTuple):
    """A member or variable. ``bits`` is 0 for whole bytes; ``size``, in bytes, may exceed the type's."""

    name: str
    shape: Shape
    bit_offset: int
    bits: int
    size: int

    @property
    def offset(self) -> int:
        """The first byte it touches."""
        return self.bit_offset >> 3


class Hint(NamedTuple):
    """What names promised so far on the way to a type."""

    address: bool = False
    six: bool = False

    def and_name(self, name: str) -> "Hint":
        """The hint once one more name is known."""
        return Hint(True, "6" in name) if is_address(name) else self


class _Key(NamedTuple):
    type_id: int
    hint: Hint
    prefix: bool


_shapes: WeakKeyDictionary[Btf, dict[_Key, Shape]] = WeakKeyDictionary()


def shape(btf: Btf, type_id: int, *, name: str = "", lpm: bool = False) -> Shape:
    """The shape of a type. ``name`` is what the value is called; ``lpm`` says it is an LPM trie's key.

    Raises ObjectError for types without a size and for BTF that makes no sense.
    """
    return _Shaper(btf).find(_Key(type_id, Hint().and_name(name), lpm), 0)


def entries_of(btf: Btf, section: BtfType) -> Iterator[tuple[str, BtfType, int, int]]:
    """(unique name, VAR, offset, size) of the variables of a DATASEC that take space."""
    seen = set()
    for entry in btf.section_vars(section):
        variable = btf.type(entry.type_id)
        if variable.kind is Kind.FUNC or entry.size == 0:
            continue  # .ksyms: functions and symbols of the kernel
        if variable.kind is not Kind.VAR:
            raise ObjectError(
                f"BTF section {escape(section.name)} holds something else than variables"
            )
        name = variable.name
        if name in seen:
            name = f"{name}@{entry.offset}"
        seen.add(name)
        yield name, variable, entry.offset, entry.size


class _Shaper:
    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.known = _shapes.setdefault(btf, {})

    def find(self, key: _Key, depth: int) -> Shape:
        found = self.known.get(key)
        if found is None:
            found = self._make(key, depth)
            if found.height > MAX_DEPTH:
                raise _too_deep(key.type_id)
            if found.size > _MAX_SIZE or found.leaves > 256 * found.size + _MAX_FIELDS:
                raise ObjectError(f"BTF type {key.type_id} is too large to be a value")
            self.known[key] = found
        return found

    def _make(self, key: _Key, depth: int) -> Shape:
        if depth > MAX_DEPTH:
            raise _too_deep(key.type_id)
        kind, hint, typedefs = self._strip(key)
        match kind.kind:
            case Kind.INT:
                made = self._integer(kind, hint, typedefs)
            case Kind.ENUM | Kind.ENUM64:
                made = self._enum(kind)
            case Kind.FLOAT:
                form = Form.FLOAT if kind.size_or_type in (2, 4, 8) else Form.RAW
                name = escape(kind.name) or "float"
                made = Shape(form, kind.id, kind.size_or_type, name)
            case Kind.PTR:
                made = Shape(Form.POINTER, kind.id, 8, self._pointer_name(kind), bits=64)
            case Kind.ARRAY:
                made = self._array(kind, hint, depth)
            case Kind.STRUCT | Kind.UNION:
                made = self._struct(kind, typedefs, depth)
            case Kind.DATASEC:
                made = self._section(kind, depth)
            case Kind.VAR:
                hint = hint.and_name(kind.name)
                made = self.find(_Key(kind.size_or_type, hint, False), depth + 1)
            case _:
                name = f"{kind.kind.name} {escape(kind.name)}".strip()
                raise ObjectError(f"BTF type {key.type_id} ({name}) has no value")
        return _as_prefix(made) if key.prefix else made

    def _strip(self, key: _Key) -> tuple[BtfType, Hint, list[str]]:
        """The type behind typedefs and qualifiers, and what the typedefs are called."""
        type_id, hint, typedefs = key.type_id, key.hint, list[str]()
        for _ in range(MAX_DEPTH):
            kind = self.btf.type(type_id)
            if kind.kind not in MODIFIERS:
                return kind, hint, typedefs
            if kind.kind is Kind.TYPEDEF:
                typedefs.append(kind.name)
                hint = hint.and_name(kind.name)
            type_id = kind.size_or_type
        raise ObjectError(f"BTF type {key.type_id} refers to itself")

    # --- scalars ---

    def _integer(self, kind: BtfType, hint: Hint, typedefs: list[str]) -> Shape:
        encoding, size = self.btf.integer(kind), kind.size_or_type
        if not 1 <= size <= 16 or not 1 <= encoding.bits <= size * 8 - encoding.offset:
            raise ObjectError(
                f"BTF type {kind.id} is an integer of {encoding.bits} bits in {size} bytes"
            )
        whole = encoding.bits == size * 8
        form, name = Form.INT, f"{'s' if encoding.signed else 'u'}{encoding.bits}"
        if encoding.boolean and size == 1:
            form, name = Form.BOOL, "bool"
        elif (kind.name == "char" or encoding.char) and size == 1 and whole:
            form, name = Form.CHAR, "char"
        elif whole and size in (2, 4, 8) and not encoding.signed and BIG_ENDIAN & {*typedefs}:
            form, name = Form.BIG, f"be{encoding.bits}"
        made = Shape(
            form, kind.id, size, name, bits=encoding.bits, shift=encoding.offset, signed=encoding.signed
        )  # fmt: skip
        if form is Form.BIG and size == 4 and (hint.address or "in_addr_t" in typedefs):
            return _meaning(Form.IPV4, made)
        return made

    def _enum(self, kind: BtfType) -> Shape:
        size = kind.size_or_type
        if size not in (1, 2, 4, 8):
            raise ObjectError(f"BTF type {kind.id} is an enum of {size} bytes")
        if size == 8 and kind.kind is Kind.ENUM:
            name = "s64" if kind.kind_flag else "u64"
            return Shape(Form.INT, kind.id, 8, name, bits=64, signed=kind.kind_flag)
        values = self.btf.enumerators(kind)
        shown = [escape(name) for name, _ in values[:_SHOWN_ENUMERATORS]]
        if len(values) > _SHOWN_ENUMERATORS:
            shown.append("...")
        name = f"enum {escape(kind.name)}".strip() + " {" + ", ".join(shown) + "}"
        return Shape(
            Form.ENUM, kind.id, size, name, bits=size * 8, signed=kind.kind_flag, enumerators=tuple(values)
        )  # fmt: skip

    def _pointer_name(self, kind: BtfType) -> str:
        target, stars = kind, ""
        for _ in range(MAX_DEPTH):
            if target.kind is Kind.PTR:
                stars += "*"
            elif target.kind is Kind.TYPEDEF or target.kind not in MODIFIERS:
                break
            target = self.btf.type(target.size_or_type)
        name = escape(target.name) or "void"
        if target.kind in (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64):
            name = f"{target.kind.name.lower().removesuffix('64')} {name}"
        elif target.kind is Kind.FWD:
            name = f"{'union' if target.kind_flag else 'struct'} {name}"
        return f"{name} {stars}"

    # --- arrays ---

    def _array(self, kind: BtfType, hint: Hint, depth: int) -> Shape:
        shape_of = self.btf.array(kind)
        element = self.find(_Key(shape_of.type_id, hint, False), depth + 1)
        count, size = shape_of.count, shape_of.count * element.size
        made = Shape(
            Form.ARRAY, kind.id, size, element.base, f"[{count}]{element.dims}", count=count, element=element,
            leaves=count * element.leaves if element.size else 1, height=element.height + 1,
        )  # fmt: skip
        if element.form is Form.CHAR:
            return _meaning(Form.TEXT, made)
        if is_byte(element):
            if count == 6:
                return _meaning(Form.MAC, made)
            if hint.address and count in (4, 16):
                return _meaning(Form.IPV4 if count == 4 else Form.IPV6, made)
        elif hint.six and element.form is Form.IPV4 and element.plain and count == 4:
            numbers = replace(made, element=element.plain)
            return _meaning(Form.IPV6, numbers)
        return made

    # --- structs ---

    def _struct(self, kind: BtfType, typedefs: list[str], depth: int) -> Shape:
        fields: dict[str, Field] = {}
        for member in self.btf.members(kind):
            hint = Hint().and_name(member.name)
            inner = self.find(_Key(member.type_id, hint, False), depth + 1)
            bit_offset, bits = member.bit_offset, member.bitfield_size
            if not bits and inner.form in _BITFIELDS:
                # The encoding from before Linux 5.0 keeps a bitfield's place in the integer.
                whole = inner.bits == inner.size * 8 and bit_offset % 8 == 0
                bit_offset, bits = bit_offset + inner.shift, 0 if whole else inner.bits
            end = bit_offset + (bits or inner.size * 8)
            if end > kind.size_or_type * 8 or (bit_offset % 8 and not bits):
                raise ObjectError(
                    f"member {escape(member.name) or 'without a name'} of BTF type {kind.id} lies outside of it"
                )
            if bits and (inner.form not in _BITFIELDS or bits > inner.size * 8):
                raise ObjectError(
                    f"member {escape(member.name)} of BTF type {kind.id} is no bitfield"
                )
            if member.name:
                one = Field(member.name, inner, bit_offset, bits, inner.size)
                _insert(fields, one, kind)
            elif inner.form in (Form.STRUCT, Form.UNION):
                for one in inner.fields.values():
                    _insert(fields, one._replace(bit_offset=bit_offset + one.bit_offset), kind)
        word = kind.kind.name.lower()
        name = f"{word} {escape(kind.name)}" if kind.name else escape((typedefs or [word])[-1])
        form = Form.STRUCT if kind.kind is Kind.STRUCT else Form.UNION
        made = _composite(form, kind, name, fields)
        if made.size == 4 and kind.name == "in_addr":
            return _meaning(Form.IPV4, made)
        if made.size == 16 and kind.name == "in6_addr":
            return _meaning(Form.IPV6, made)
        return made

    def _section(self, kind: BtfType, depth: int) -> Shape:
        fields: dict[str, Field] = {}
        for name, variable, offset, size in entries_of(self.btf, kind):
            inner = self.find(_Key(variable.id, Hint(), False), depth + 1)
            if size < inner.size or offset + size > kind.size_or_type:
                raise ObjectError(f"variable {escape(name)} lies outside of {escape(kind.name)}")
            _insert(fields, Field(name, inner, offset * 8, 0, size), kind)
        return _composite(Form.STRUCT, kind, escape(kind.name), fields)


_BITFIELDS = frozenset({Form.INT, Form.BIG, Form.CHAR, Form.BOOL, Form.ENUM})


def is_byte(shape: Shape) -> bool:
    """Whether it is a plain ``unsigned char``."""
    return shape.form is Form.INT and shape.size == 1 and shape.bits == 8 and not shape.signed


def _too_deep(type_id: int) -> ObjectError:
    return ObjectError(
        f"BTF type {type_id} contains itself, or nests deeper than {MAX_DEPTH} levels"
    )


def _insert(fields: dict[str, Field], one: Field, owner: BtfType) -> None:
    if one.name in fields:
        raise ObjectError(f"BTF type {owner.id} has two members called {escape(one.name)}")
    if len(fields) >= _MAX_FIELDS:
        raise ObjectError(f"BTF type {owner.id} has too many members")
    fields[one.name] = one


def _composite(form: Form, kind: BtfType, name: str, fields: dict[str, Field]) -> Shape:
    last = next(reversed(fields.values()), None)
    array = last and (last.shape.plain or last.shape)
    return Shape(
        form, kind.id, kind.size_or_type, name, fields=fields,
        flexible=bool(
            form is Form.STRUCT and array and array.form is Form.ARRAY and array.count == 0
            and array.element and array.element.size
        ),
        leaves=sum(max(1, one.shape.leaves) for one in fields.values()),
        height=1 + max((one.shape.height for one in fields.values()), default=0),
    )  # fmt: skip


def _meaning(form: Form, plain: Shape) -> Shape:
    return Shape(
        form, plain.type_id, plain.size, plain.base, plain.dims, bits=plain.bits, plain=plain,
        height=plain.height,
    )  # fmt: skip


# --- keys of LPM tries ---


def _as_prefix(key: Shape) -> Shape:
    """The key as an address with a prefix length, where it holds nothing but the two."""
    length = key.size - 4
    if key.form is not Form.STRUCT or length not in (4, 6, 16):
        return key
    behind = [one for one in key.fields.values() if one.bit_offset >= 32 and one.size]
    if not behind or not all(
        one.offset == 4 and _is_one_address(one.shape, length) for one in behind
    ):
        return key
    if any(
        one.bits or one.offset + one.size > 4 for one in key.fields.values() if one not in behind
    ):
        return key
    return _meaning(Form.PREFIX, key)


def _is_one_address(shape: Shape, size: int) -> bool:
    if shape.size != size:
        return False
    if shape.form in (Form.IPV4, Form.IPV6, Form.MAC):
        return True
    if shape.form in (Form.INT, Form.BIG):
        return size == 4
    if shape.form is Form.ARRAY and shape.element:
        return shape.element.form in (Form.INT, Form.BIG, Form.IPV4)
    if shape.form in (Form.STRUCT, Form.UNION):
        return bool(shape.fields) and all(
            one.offset == 0 and not one.bits and _is_one_address(one.shape, size)
            for one in shape.fields.values()
        )
    return False
