"""What number a relocation puts into its instruction, by its kind, for the object's types and for the kernel's."""

from typing import NamedTuple

from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.core.relocation import ENUMS, CoreKind, type_text
from netbpf.bpf.core.spec import Parts, Spec
from netbpf.errors import ObjectError

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
_BITFIELD_TYPES = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64})


class Value(NamedTuple):
    """A number as 64 bits. ``check``: which of them the compiler must have agreed on.

    ``size`` (bytes) and ``type_id`` describe the field that a load or store goes to; 0 where that does not matter.
    ``narrow`` marks the value of a 32-bit enum, of which no BTF from before Linux 6.0 says whether it is signed.
    """

    number: int
    check: int = U64
    size: int = 0
    type_id: int = 0
    narrow: bool = False


class Change(NamedTuple):
    """From what the compiler saw to what the kernel has. ``new`` None: no such thing there, poison the instruction.

    ``resizable``: where sizes differ, a load or store of the other size still reads the same value.
    """

    old: Value
    new: Value | None
    resizable: bool = True


def change(kind: CoreKind, local: Spec, target: Spec | None, parts: Parts) -> Change:
    """Both values of a relocation, ``target`` being None where the kernel has no such thing.

    Raises ObjectError where a value cannot be told: a bitfield wider than any load, a type without size.
    """
    old = _value(kind, local, parts)
    if target is None:
        missing = kind.about_field or kind is CoreKind.ENUMVAL_VALUE
        poisoned = missing and kind is not CoreKind.FIELD_EXISTS
        return Change(old, None if poisoned else Value(0))
    new = _value(kind, target, parts)
    resizable = old.size == new.size or _zero_extends(local.btf, old, target.btf, new)
    return Change(old, new, resizable)


def _zero_extends(local: Btf, old: Value, target: Btf, new: Value) -> bool:
    """Whether a load of another size gives the same value: of pointers and of unsigned integers, which zeros fill."""
    one, other = local.type(old.type_id), target.type(new.type_id)
    if one.kind is not other.kind:
        return False
    if one.kind is Kind.INT:
        return not any(
            number.signed and not number.char and not number.boolean
            for number in (local.integer(one), target.integer(other))
        )
    return one.kind is Kind.PTR


def _value(kind: CoreKind, spec: Spec, parts: Parts) -> Value:
    match kind:
        case CoreKind.FIELD_EXISTS | CoreKind.TYPE_EXISTS | CoreKind.TYPE_MATCHES:
            return Value(1)
        case CoreKind.ENUMVAL_EXISTS:
            return Value(1)
        case CoreKind.TYPE_ID_LOCAL | CoreKind.TYPE_ID_TARGET:
            return Value(spec.root, check=0)  # linkers of BTF renumber types
        case CoreKind.TYPE_SIZE:
            return Value(spec.btf.size(spec.root))
        case CoreKind.ENUMVAL_VALUE:
            return _enumerator(spec, parts)
        case _:
            return _field(kind, spec, parts)


def _enumerator(spec: Spec, parts: Parts) -> Value:
    kind = spec.btf.type(spec.steps[0].type_id)
    number = parts.enumerators(spec.btf, kind)[spec.steps[0].number][1]
    if kind.kind is Kind.ENUM64:
        return Value(number & U64)
    # Sign-extended whatever the enum says, as libbpf does: before clang 15 and pahole 1.24 it said nothing. The
    # compiler's idea of the upper half is taken from the instruction.
    signed = (number & U32 ^ 1 << 31) - (1 << 31)
    return Value(signed & U64, check=U32, narrow=True)


def _field(kind: CoreKind, spec: Spec, parts: Parts) -> Value:
    btf, last = spec.btf, spec.steps[-1]
    if last.name is None:
        size = btf.size(last.type_id)
        if kind is CoreKind.FIELD_BYTE_OFFSET:
            return Value(spec.bit_offset // 8, size=size, type_id=last.type_id)
        if kind is CoreKind.FIELD_BYTE_SIZE:
            return Value(size)
        raise ObjectError(f"{kind.name} cannot be told of an array element: {spec.text()}")

    member = parts.members(btf, btf.type(last.type_id))[last.number]
    type_of = btf.resolve(member.type_id)
    if kind is CoreKind.FIELD_SIGNED:
        signed = type_of.kind_flag if type_of.kind in ENUMS else False
        if type_of.kind is Kind.INT:
            signed = btf.integer(type_of).signed
        return Value(int(signed))
    if not member.bitfield_size:
        size = btf.size(type_of.id)
        return _aspect(kind, spec, spec.bit_offset // 8, size, size * 8, U64, type_of.id)
    if type_of.kind not in _BITFIELD_TYPES or not type_of.size_or_type:
        raise ObjectError(f"a bitfield cannot be of type {type_text(type_of)}: {spec.text()}")
    start, size = _storage(spec, type_of.size_or_type, member.bitfield_size)
    # Which bytes a compiler loads for a bitfield is its own choice.
    return _aspect(kind, spec, start, size, member.bitfield_size, 0, 0)


def _storage(spec: Spec, size: int, bits: int) -> tuple[int, int]:
    """Offset and size in bytes of the smallest aligned load, not below the type's own, with a whole bitfield."""
    while True:
        start = spec.bit_offset // 8 // size * size
        if spec.bit_offset + bits <= (start + size) * 8:
            return start, size
        if size >= 8:
            raise ObjectError(f"no load holds the whole bitfield {spec.text()}")
        size *= 2


def _aspect(
    kind: CoreKind, spec: Spec, start: int, size: int, bits: int, check: int, type_id: int
) -> Value:
    """One aspect of a field whose bytes are ``start`` to ``start + size`` and which has ``bits`` bits."""
    match kind:
        case CoreKind.FIELD_BYTE_OFFSET:
            return Value(start, check, size if type_id else 0, type_id)
        case CoreKind.FIELD_BYTE_SIZE:
            return Value(size, check)
        case CoreKind.FIELD_LSHIFT_U64:
            # How far left puts the field's highest bit into bit 63 (of a little-endian load).
            number = 64 - (spec.bit_offset + bits - start * 8)
        case _:
            number, check = 64 - bits, U64
    if number < 0:
        raise ObjectError(f"{spec.text()} is wider than 64 bits")
    return Value(number, check)
