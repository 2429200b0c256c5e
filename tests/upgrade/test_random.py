"""Random variables in random layouts, changed at random while they move: as a plain model says, by name."""

from typing import Any, NamedTuple

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from netbpf.bpf.btf.encode import encode
from tests.upgrade.lab import Lab, Running, program

Value = Any


class Int(NamedTuple):
    bits: int
    signed: bool


class Bits(NamedTuple):
    """A bitfield."""

    bits: int
    signed: bool


class Text(NamedTuple):
    size: int


class Array(NamedTuple):
    element: "Type"
    length: int


class Struct(NamedTuple):
    fields: "tuple[tuple[str, Type], ...]"


Type = Int | Bits | Text | Array | Struct


def declared(of: Type, name: str) -> str:
    match of:
        case Int(bits, signed):
            word = {8: "char", 16: "short", 32: "int", 64: "long"}[bits]
            return f"{'signed' if signed else 'unsigned'} {word} {name}"
        case Bits(bits, signed):
            return f"{'signed' if signed else 'unsigned'} int {name} : {bits}"
        case Text(size):
            return f"char {name}[{size}]"
        case Array(element, length):
            return declared(element, f"{name}[{length}]")
        case Struct(fields):
            return (
                "struct { "
                + " ".join(declared(one, key) + ";" for key, one in fields)
                + f" }} {name}"
            )


# --- types, and what may become of them ---

# Arrays of unsigned bytes would be shown as addresses where there are six.
ints = st.builds(Int, st.sampled_from([16, 32, 64]), st.booleans()) | st.just(Int(8, True))
texts = st.builds(Text, st.integers(1, 20))


def structs(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    bits = st.builds(Bits, st.integers(1, 31), st.booleans())
    part = st.one_of(inner, bits, bits)
    return st.lists(part, min_size=1, max_size=5).map(
        lambda parts: Struct(tuple((f"f{number}", one) for number, one in enumerate(parts)))
    )


types: st.SearchStrategy[Type] = st.recursive(
    ints | texts,
    lambda inner: structs(inner) | st.builds(Array, inner, st.integers(1, 4)),
    max_leaves=5,
)


@st.composite
def evolved(draw: st.DrawFn, of: Type) -> Type:
    """A type that takes all values of another."""
    match of:
        case Int(bits, signed) if bits < 64 and draw(st.booleans()):
            return Int(draw(st.sampled_from([32, 64])) if bits < 32 else 64, signed)
        case Bits(bits, signed):
            wider: list[Type] = [of, Bits(min(bits + 1, 32), signed), Int(64, signed)]
            return draw(st.sampled_from(wider))
        case Text(size):
            return Text(size + draw(st.integers(0, 3)))
        case Array(element, length):
            return Array(draw(evolved(element)), length + draw(st.integers(0, 2)))
        case Struct(fields):
            kept = [(key, draw(evolved(one))) for key, one in fields if draw(st.integers(0, 5))]
            fresh = [(f"n{number}", draw(ints)) for number in range(draw(st.integers(0, 2)))]
            return Struct(
                tuple(draw(st.permutations([*kept, *fresh]))) or (("n0", Int(32, False)),)
            )
    return of


def values(of: Type) -> st.SearchStrategy[Value]:
    match of:
        case Int(bits, signed) | Bits(bits, signed):
            low = -1 << (bits - 1) if signed else 0
            return st.integers(low, low + (1 << bits) - 1)
        case Text(size):
            return st.text("abc", max_size=size)
        case Array(element, length):
            return st.lists(values(element), min_size=length, max_size=length)
        case Struct(fields):
            return st.fixed_dictionaries({key: values(one) for key, one in fields})


# --- the model ---


def zero(of: Type) -> Value:
    match of:
        case Text(_):
            return ""
        case Array(element, length):
            return [zero(element)] * length
        case Struct(fields):
            return {key: zero(one) for key, one in fields}
    return 0


def moved(value: Value, old: Type, new: Type) -> Value:
    """An old value in a new type."""
    match old, new:
        case Array(a, n), Array(b, m):
            return [moved(one, a, b) for one in value] + [zero(b)] * (m - n)
        case Struct(fields), Struct(others):
            types = dict(fields)
            return {
                key: moved(value[key], types[key], one) if key in types else zero(one)
                for key, one in others
            }
    return value


def merged(before: Value, after: Value, now: Value, old: Type, new: Type) -> Value:
    """What a new value that is ``now`` becomes, where the old one went from ``before`` to ``after``."""
    match old, new:
        case Array(a, _), Array(b, _):
            return [merged(*parts, a, b) for parts in zip(before, after, now, strict=True)]
        case Struct(fields), Struct(others):
            types = dict(fields)
            return {
                key: merged(before[key], after[key], now[key], types[key], one)
                if key in types
                else now[key]
                for key, one in others
            }
        case Int(bits, _), Int(width, signed) if width >= 32 and before not in (after, now):
            gained = (after - before) % (1 << bits)
            grew = (now - before) % (1 << width)
            if gained < 1 << (bits - 1) and grew < 1 << (width - 1):
                total = (now + gained) % (1 << width)
                return total - (1 << width) if signed and total >> (width - 1) else total
            return now
    if before == after or now != before:
        return now
    return after


# --- objects ---


class Layout(NamedTuple):
    """Variables in their order, each with its section."""

    variables: tuple[tuple[str, Type, str], ...]

    def source(self) -> str:
        lines = [
            f'{declared(of, name)} __attribute__((section("{section}")));'
            for name, of, section in self.variables
        ]
        return program("; ".join(f"USE({name})" for name, _, _ in self.variables), "\n".join(lines))


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, Layout]:
    place = st.sampled_from([".bss", ".data"])
    old = [
        (f"v{number}", draw(types | structs(ints)), draw(place))
        for number in range(draw(st.integers(1, 6)))
    ]
    kept = [
        (name, draw(evolved(of)), draw(place)) for name, of, _ in old if draw(st.integers(0, 5))
    ]
    fresh = [(f"w{number}", draw(ints), draw(place)) for number in range(draw(st.integers(0, 3)))]
    new = draw(st.permutations([*kept, *fresh])) or [("w0", Int(64, False), ".bss")]
    return Layout(tuple(old)), Layout(tuple(new))


def write(running: Running, layout: Layout, content: dict[str, Value]) -> None:
    for section in {section for _, _, section in layout.variables}:
        opened = running.open(section)
        assert opened.section
        assert opened.btf
        inside = {name: content[name] for name, _, where in layout.variables if where == section}
        raw = encode(opened.btf, opened.section.id, inside, base=running.raw(section))
        running.write(section, raw)


# Each example takes two runs of clang: the first one that fails has to do, without looking for the smallest.
@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(layouts(), st.data())
def test_variables_move_by_name(pair: tuple[Layout, Layout], data: st.DataObject) -> None:
    before, after = pair
    old_types = {name: of for name, of, _ in before.variables}
    new_types = {name: of for name, of, _ in after.variables}

    def draw(types: dict[str, Type]) -> dict[str, Value]:
        return {name: data.draw(values(of)) for name, of in types.items()}

    with Lab() as lab:
        old = lab.old(before.source())
        first = draw(old_types)
        write(old, before, first)
        done = lab.upgraded(old, after.source())
        expected = {
            name: moved(first[name], old_types[name], of) if name in first else zero(of)
            for name, of in new_types.items()
        }
        if any(one.name in done.carrier.maps for one in done.plan.steps):
            assert done.new.variables() == expected
        if set(done.plan.carried):
            return  # the same map: both programs write to one and the same
        # Now some of what both programs have changes, and the old one ends.
        last = {
            name: data.draw(st.just(value) | values(old_types[name]))
            for name, value in first.items()
        }
        now = {
            name: data.draw(st.just(value) | values(new_types[name]))
            for name, value in expected.items()
        }
        write(old, before, last)
        write(done.new, after, now)
        done.finish()
        for name, of in new_types.items():
            if name in first:
                was, left = (moved(one[name], old_types[name], of) for one in (first, last))
                expected[name] = merged(was, left, now[name], grown(old_types[name], of), of)
            else:
                expected[name] = now[name]
        assert done.new.variables() == expected


def grown(old: Type, new: Type) -> Type:
    """The old type in the shape of the new one, as the values that have moved are."""
    match old, new:
        case Array(a, _), Array(b, m):
            return Array(grown(a, b), m)
        case Struct(fields), Struct(others):
            types = dict(fields)
            return Struct(
                tuple((key, grown(types[key], one) if key in types else one) for key, one in others)
            )
    return old
