"""Whether two types put the same values at the same places, so that the data of one serves the other.

Names of types (typedefs, struct tags) and qualifiers do not matter; names and places of members do,
and so do the numbers of enumerators. What a pointer points to does not: addresses mean nothing to
another program.
"""

from netbpf.bpf.btf.shape import Field, Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.text import escape


def same_layout(btf_a: Btf, id_a: int, btf_b: Btf, id_b: int) -> bool:
    """Whether values of one type can be read as the other; ObjectError for types without a value."""
    return difference(btf_a, id_a, btf_b, id_b) is None


def difference(btf_a: Btf, id_a: int, btf_b: Btf, id_b: int, *, name: str = "") -> str | None:
    """The first thing in which the second type differs from the first, or None.

    ``name`` is what the value is called: ``cfg.port was u16, is u32``.
    """
    return _difference(_plain(shape(btf_a, id_a)), _plain(shape(btf_b, id_b)), name)


def _plain(of: Shape) -> Shape:
    return of.plain or of


def _difference(old: Shape, new: Shape, name: str) -> str | None:
    label = escape(name) or "the value"
    if old is new:
        return None
    if _family(old) != _family(new) or (old.bits, old.shift) != (new.bits, new.shift):
        return f"{label} was {old.c_name}, is {new.c_name}"
    if old.form is Form.ENUM:
        return _enum_difference(old, new, label) or _size_difference(old, new, label)
    if old.form is Form.ARRAY and old.element and new.element:
        if old.count != new.count:
            return f"{label} had {old.count} elements, has {new.count}"
        return _difference(_plain(old.element), _plain(new.element), f"{name}[]")
    if old.form in (Form.STRUCT, Form.UNION):
        return _struct_difference(old, new, name) or _size_difference(old, new, label)
    return _size_difference(old, new, label)


def _family(of: Shape) -> tuple[Form, bool]:
    """Forms that differ only in what a typedef or a type's name says are one."""
    if of.form in (Form.INT, Form.BIG, Form.CHAR):
        return Form.INT, of.signed
    return of.form, False


def _size_difference(old: Shape, new: Shape, label: str) -> str | None:
    if old.size == new.size:
        return None
    return f"{label} had {old.size} bytes, has {new.size}"


def _enum_difference(old: Shape, new: Shape, label: str) -> str | None:
    numbers, mask = dict(new.enumerators), (1 << min(old.bits, new.bits)) - 1
    for word, number in old.enumerators:
        other = numbers.get(word, number)
        # Compilers disagree about signedness, so -1 and 0xffffffff are the same number.
        if other & mask != number & mask:
            return f"{label}: {escape(word)} was {number}, is {other}"
    return None


def _struct_difference(old: Shape, new: Shape, name: str) -> str | None:
    for key, one in old.fields.items():
        label = f"{name}.{key}" if name else key
        other = new.fields.get(key)
        if other is None:
            return f"{escape(label)} is gone"
        found = _difference(_plain(one.shape), _plain(other.shape), label)
        if found:
            return found
        if (one.bit_offset, one.bits, one.size) != (other.bit_offset, other.bits, other.size):
            return f"{escape(label)} was at {_where(one)}, is at {_where(other)}"
    added = [key for key in new.fields if key not in old.fields]
    if added:
        return f"{escape(f'{name}.{added[0]}' if name else added[0])} is new"
    return None


def _where(field: Field) -> str:
    if field.bits:
        return f"bit {field.bit_offset} ({field.bits} bits)"
    return f"byte {field.offset} ({field.size} bytes)"
