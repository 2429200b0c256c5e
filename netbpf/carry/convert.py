"""From one type to another: which parts of an old value go where in a new one, and what is in the way.

Structs go by the names of their members, arrays by index. A number keeps its value where the new type is as wide or
wider. A narrower one is refused in entries of maps, of which there may be many; in variables it is taken where the
value fits, so that there is a way back from a wider one. Unions, addresses and text go as bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from netbpf.bpf.btf.compare import difference
from netbpf.bpf.btf.shape import Field, Form, Shape, shape
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.carry.ops import Meaning, Op, Repeat
from netbpf.text import escape

_NUMBERS = frozenset({Form.INT, Form.BIG, Form.CHAR, Form.BOOL, Form.ENUM})
_BYTES = frozenset({Form.TEXT, Form.MAC, Form.IPV4, Form.IPV6, Form.PREFIX})
# The kernel neither shows these to user space nor takes them from it (btf_field_type, include/linux/bpf.h).
LOCKS = frozenset({"struct bpf_spin_lock", "struct bpf_res_spin_lock"})
_HELD = {
    "struct bpf_timer": "a timer",
    "struct bpf_wq": "a work queue",
    "struct bpf_task_work": "task work",
    "struct bpf_list_head": "a list of the program's objects",
    "struct bpf_list_node": "a node of a list",
    "struct bpf_rb_root": "a tree of the program's objects",
    "struct bpf_rb_node": "a node of a tree",
    "struct bpf_refcount": "a reference count",
}
_COUNTED = (4, 8)  # bytes: BPF has atomic additions of these widths


def has_callbacks(btf: Btf, type_id: int) -> bool:
    """Whether values of a type hold a timer or a work queue."""
    return _holds(shape(btf, type_id), {"struct bpf_timer", "struct bpf_wq"})


def _holds(of: Shape, names: set[str]) -> bool:
    if of.element:
        return _holds(of.element, names)
    return of.base in names or any(_holds(one.shape, names) for one in of.fields.values())


@dataclass(slots=True)
class Conversion:
    """What came of comparing two types: parts that move, what is refused, and what is to be said.

    ``pointers`` are parts whose old value has to be NULL: an address means nothing to another program.
    """

    ops: list[Op] = field(default_factory=list)
    pointers: list[Op] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    widened: list[str] = field(default_factory=list)
    narrowed: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)


class Converter:
    """Compares the types of two objects. With ``narrow`` numbers may go into narrower ones, if their values fit."""

    def __init__(self, old: Btf, new: Btf, *, narrow: bool = False) -> None:
        self.old, self.new, self.narrow = old, new, narrow

    def fields(self, old: Field, new: Field, name: str) -> Conversion:
        """Two variables, or members; places in ``ops`` count from where their sections or structs begin."""
        found = Conversion()
        found.ops = self._field(old, new, name, found)
        return found

    def types(self, old: Shape, new: Shape, name: str = "") -> Conversion:
        """Two whole values."""
        found = Conversion()
        found.ops = self._value(old, new, name, found)
        return found

    def difference(self, old: Shape, new: Shape, name: str) -> str | None:
        """In what two types differ; see ``compare.difference``."""
        return difference(self.old, old.type_id, self.new, new.type_id, name=name)

    def _field(self, old: Field, new: Field, name: str, found: Conversion) -> list[Op]:
        if old.bits or new.bits:
            return self._numbers(old.shape, new.shape, name, found, old, new)
        if old.size == old.shape.size and new.size == new.shape.size:
            before = len(found.pointers)
            ops = self._value(old.shape, new.shape, name, found)
            found.pointers[before:] = [
                one.at(old.offset, new.offset) for one in found.pointers[before:]
            ]
            return [one.at(old.offset, new.offset) for one in ops]
        # A variable larger than its type: its flexible array has elements.
        differs = self.difference(old.shape, new.shape, name)
        if differs or new.size < old.size or self._uncopied(self.old, old.shape, name, found):
            found.problems.append(differs or f"{escape(name)} had {old.size} bytes, has {new.size}")
            return []
        return [Op(name, old.offset, new.offset, old.size, old.size, number=False)]

    def _value(self, old: Shape, new: Shape, name: str, found: Conversion) -> list[Op]:
        if old.form in _BYTES or new.form in _BYTES:
            if not self.difference(old, new, name):
                return [Op(name, 0, 0, old.size, old.size, number=False)] if old.size else []
            if old.form is new.form is Form.TEXT and old.size <= new.size:
                found.grown.append(f"{escape(name)} grew from {old.size} to {new.size} bytes")
                return [Op(name, 0, 0, old.size, old.size, number=False)]
            old, new = old.plain or old, new.plain or new
        if self._uncopied(self.old, old, name, found) or self._uncopied(self.new, new, name, found):
            return []
        if old.form in _NUMBERS and new.form in _NUMBERS:
            return self._numbers(old, new, name, found)
        if old.form is not new.form:
            found.problems.append(f"{escape(name)} was {old.c_name}, is {new.c_name}")
            return []
        match old.form:
            case Form.STRUCT:
                return self._structs(old, new, name, found)
            case Form.ARRAY:
                return self._arrays(old, new, name, found)
            case Form.POINTER:
                found.pointers.append(Op(name, 0, 0, 8, 8))
                return []
        if differs := self.difference(old, new, name):
            found.problems.append(differs)
            return []
        return [Op(name, 0, 0, old.size, old.size, number=False)] if old.size else []

    # --- what the kernel keeps to itself ---

    @staticmethod
    def _uncopied(btf: Btf, of: Shape, name: str, found: Conversion) -> bool:
        """Whether a type is one that cannot be copied; for locks there is nothing to copy either."""
        if of.dims:
            return False
        if of.base in LOCKS:
            return True
        what = _HELD.get(of.base)
        if of.form is Form.POINTER:
            # __kptr, __percpu_kptr, __uptr
            target = btf.type(btf.type(of.type_id).size_or_type)
            what = "a pointer to an object of the kernel" if target.kind is Kind.TYPE_TAG else None
        if what:
            found.problems.append(
                f"{escape(name) or 'the value'} is {what}, which cannot be copied"
            )
        return what is not None

    # --- numbers ---

    def _numbers(
        self,
        old: Shape,
        new: Shape,
        name: str,
        found: Conversion,
        old_field: Field | None = None,
        new_field: Field | None = None,
    ) -> list[Op]:
        a, b = _Bits.of(old, old_field), _Bits.of(new, new_field)
        label = escape(name) or "the value"
        if old.form not in _NUMBERS or new.form not in _NUMBERS:
            found.problems.append(f"{label} was {old.c_name}, is {new.c_name}")
            return []
        was = f"{label} was {_called(old, old_field)}, is {_called(new, new_field)}"
        one_big = (old.form is Form.BIG) != (new.form is Form.BIG)
        if problem := self._number_problem(old, new, a, b, was, label, one_big=one_big):
            found.problems.append(problem)
            return []
        if b.width < a.width:
            found.narrowed.append(f"{label}: {_called(old, old_field)} → {_called(new, new_field)}")
        if b.width > a.width:
            found.widened.append(f"{label}: {_called(old, old_field)} → {_called(new, new_field)}")
        counted = (
            old.form is new.form is Form.INT and not a.bits and not b.bits and b.size in _COUNTED
        )
        return [
            Op(
                name, a.start, b.start, a.size, b.size,
                # Of the same width, network byte order is a matter of the name alone.
                big=old.form is Form.BIG and not one_big,
                old_signed=old.signed, new_signed=new.signed,
                old_bit=a.bit, new_bit=b.bit, old_bits=a.bits, new_bits=b.bits,
                meaning=Meaning.COUNT if counted else Meaning.WORTH,
            )
        ]  # fmt: skip

    def _number_problem(
        self, old: Shape, new: Shape, a: "_Bits", b: "_Bits", was: str, label: str, *, one_big: bool
    ) -> str | None:
        if b.width < a.width and not self.narrow:
            return f"{was}: what is wider does not fit"
        if one_big and b.width != a.width:
            return f"{was}: one of them is in network byte order"
        if new.form is Form.BOOL and old.form is not Form.BOOL:
            return was
        if old.form is new.form is Form.ENUM:
            numbers, mask = dict(new.enumerators), (1 << a.width) - 1
            for word, number in old.enumerators:
                if (numbers.get(word, number) ^ number) & mask:
                    return f"{label}: {escape(word)} was {number}, is {numbers[word]}"
        return None

    # --- composites ---

    def _arrays(self, old: Shape, new: Shape, name: str, found: Conversion) -> list[Op]:
        assert old.element
        assert new.element
        label = escape(name) or "the value"
        if new.count < old.count:
            found.problems.append(f"{label} had {old.count} elements, has {new.count}")
            return []
        if new.count > old.count and old.count:
            found.grown.append(f"{label} grew from {old.count} to {new.count} elements")
        inner = Conversion()
        inner.ops = self._value(old.element, new.element, f"{name}[]", inner)
        repeat = Repeat(old.count, old.element.size, new.element.size)
        found.pointers += [one.at(0, 0, repeat) for one in inner.pointers]
        for part in ("problems", "widened", "narrowed", "grown", "added", "vanished"):
            getattr(found, part).extend(getattr(inner, part))
        return [one.at(0, 0, repeat) for one in inner.ops] if old.count else []

    def _structs(self, old: Shape, new: Shape, name: str, found: Conversion) -> list[Op]:
        ops: list[Op] = []
        in_unions = _overlapping(old.fields.values()) | _overlapping(new.fields.values())
        done: set[str] = set()
        for key, one in old.fields.items():
            label = f"{name}.{key}" if name else key
            other = new.fields.get(key)
            if other is None:
                found.vanished.append(label)
            elif key not in in_unions:
                ops += self._field(one, other, label, found)
            elif key not in done:
                group = _group(key, old.fields)
                done |= group
                ops += self._union(old, new, group, label, found)
        found.added += [
            f"{name}.{key}" if name else key for key in new.fields if key not in old.fields
        ]
        return ops

    def _union(
        self, old: Shape, new: Shape, group: set[str], label: str, found: Conversion
    ) -> list[Op]:
        """Members that share bytes, of an anonymous union: they move together, as they are."""
        keys = sorted(group, key=lambda key: old.fields[key].bit_offset)
        first, other = old.fields[keys[0]], new.fields.get(keys[0])
        if other is None or group != _group(keys[0], new.fields):
            found.problems.append(
                f"{escape(label)} shares its bytes with other members than before"
            )
            return []
        shift = other.bit_offset - first.bit_offset
        end = 0
        for key in keys:
            a, b = old.fields[key], new.fields[key]
            differs = self.difference(a.shape, b.shape, label)
            if differs or b.bit_offset - a.bit_offset != shift or a.bits != b.bits or shift % 8:
                found.problems.append(differs or f"{escape(label)} lies elsewhere in its union")
                return []
            end = max(end, (a.bit_offset + (a.bits or a.size * 8) + 7) >> 3)
            if self._uncopied(self.old, a.shape, label, found):
                return []
        return [
            Op(
                label,
                first.offset,
                other.offset,
                end - first.offset,
                end - first.offset,
                number=False,
            )
        ]


@dataclass(frozen=True, slots=True)
class _Bits:
    """Where the bits of a number are: bytes from ``start``, of them ``bits`` (0: all) from ``bit`` on."""

    start: int
    size: int
    bit: int
    bits: int

    @property
    def width(self) -> int:
        return self.bits or self.size * 8

    @classmethod
    def of(cls, shape: Shape, one: Field | None) -> "_Bits":
        if one and one.bits:
            bit = one.bit_offset & 7
            return cls(one.offset, (bit + one.bits + 7) >> 3, bit, one.bits)
        partial = shape.bits if shape.bits != shape.size * 8 else 0
        return cls(one.offset if one else 0, shape.size, shape.shift, partial)


def _called(of: Shape, one: Field | None) -> str:
    return f"{of.c_name}:{one.bits}" if one and one.bits else of.c_name


def _ends(one: Field) -> tuple[int, int]:
    return one.bit_offset, one.bit_offset + (one.bits or one.size * 8)


def _overlapping(fields: Iterable[Field]) -> set[str]:
    """The names of members that share bytes with others."""
    found: set[str] = set()
    last: Field | None = None
    for one in sorted(fields, key=_ends):
        start, end = _ends(one)
        if last and start < _ends(last)[1] and end > start:
            found |= {last.name, one.name}
        if last is None or end > _ends(last)[1]:
            last = one
    return found


def _group(key: str, fields: dict[str, Field]) -> set[str]:
    """The members that share bytes with one, or with one that does."""
    group: set[str] = {key}
    low, high = _ends(fields[key])
    while True:
        more = {
            name
            for name, one in fields.items()
            if name not in group and _ends(one)[0] < high and _ends(one)[1] > low
        }
        if not more:
            return group
        group |= more
        low = min(_ends(fields[name])[0] for name in group)
        high = max(_ends(fields[name])[1] for name in group)
