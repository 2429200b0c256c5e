"""What moved while a case ran, by name, and where that is not what was expected. Strict: what is not named stays."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from netbpf.bpf.btf.encode import encode_text
from netbpf.bpf.btf.path import Index, Path
from netbpf.bpf.btf.values import Value, format_value
from netbpf.constants import MapType
from netbpf.live.reader import OpenMap
from netbpf.live.tables import PROTOCOLS_MAP, VERDICTS_MAP
from netbpf.packets.cases_model import Expected
from netbpf.packets.changes import Changes, parts
from netbpf.packets.testrun import Bench
from netbpf.text import did_you_mean

# netbpf's own tables by the names that ``netbpf stats`` gives them.
_TABLES = {VERDICTS_MAP: "verdicts", PROTOCOLS_MAP: "protocols"}
_ROOT = re.compile(r"[^.\[]+")


Moved: TypeAlias = dict[str, tuple[Value, Value]]


def moved(changes: Changes) -> Moved:
    """(before, after) by path: ``dropped``, ``cfg.port``, ``rules[10.0.0.0/8].hits``, ``verdicts[drop].packets``."""
    found: Moved = {}
    for variable in changes.variables:
        found.update(_parts(variable.name, variable.before, variable.after))
    for entry in changes.entries:
        name = f"{_TABLES.get(entry.map, entry.map)}[{entry.label}]"
        found.update(_parts(name, entry.before, entry.after))
    return found


def add(total: Moved, happened: Moved) -> None:
    """Add what moved later. Of numbers the differences are added up: between, somebody else may have written them."""
    for name, (before, after) in happened.items():
        first, last = total.get(name, (before, before))
        if _number(last) and _number(before) and _number(after):
            after = last + after - before  # type: ignore[operator]
        total[name] = (first, after)


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(name: str, before: Value, after: Value) -> Iterator[tuple[str, tuple[Value, Value]]]:
    # An entry that comes or goes is counted by its members, which were or will be nothing.
    if before is None or after is None:
        there = after if before is None else before
        for path, value in _leaves(name, there):
            nothing = 0 if isinstance(value, int | float) else None
            yield path, (nothing, value) if before is None else (value, nothing)
        return
    for path, old, new in parts(before, after):
        yield name + ("" if not path or path.startswith("[") else ".") + path, (old, new)


def _leaves(name: str, value: Value) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(f"{name}.{key}", one)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _leaves(f"{name}[{index}]", one)
    else:
        yield name, value


class Row(NamedTuple):
    """One counter that did otherwise: what was expected, what happened, and both in words."""

    name: str
    expected: Any
    got: Any
    words: str


def wrong(happened: Moved, expected: Mapping[str, Expected]) -> list[Row]:
    """The counters that did not do as expected, those named first."""
    rows = []
    for name in dict.fromkeys([*expected, *happened]):
        before, after = happened.get(name, (None, None))
        wanted = expected.get(name, 0)
        row = _row(name, before, after, wanted, there=name in happened)
        if row:
            rows.append(row)
    return rows


def _row(name: str, before: Value, after: Value, wanted: Expected, *, there: bool) -> Row | None:
    if isinstance(wanted, str):
        text = wanted.removeprefix("=").strip()
        if there and (format_value(after) == text or after == text):
            return None
        got = format_value(after) if there else "it did not change"
        return Row(name, wanted, None if not there else after, f"expected {text}, got {got}")
    if isinstance(wanted, bool) and there and after is wanted:
        return None
    if not there:
        return Row(name, wanted, 0, f"did not move, expected {_signed(wanted)}") if wanted else None
    if isinstance(before, int | float) and isinstance(after, int | float) and _number(after):
        delta = after - before
        if delta == wanted and not isinstance(wanted, bool):
            return None
        return Row(
            name, wanted, delta, f"{before} -> {after} ({delta:+}), expected {_signed(wanted)}"
        )
    shown = f"{format_value(before)} -> {format_value(after)}"
    return Row(name, wanted, after, f"{shown}, expected {_signed(wanted)}")


def _signed(wanted: float) -> str:
    if isinstance(wanted, bool):
        return str(wanted).lower()
    return f"{wanted:+}" if wanted else "no change"


def unknown_names(bench: Bench, names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Names of which the program has neither a variable nor a map, each with near ones."""
    known: list[str] = []
    for name, one in bench.maps().items():
        known += one.variable_names() if one.holds_variables else [_TABLES.get(name, name)]
    for path in names:
        root = _ROOT.match(path)
        if root is None or root[0] not in known:
            yield path, did_you_mean(root[0] if root else path, known, "there are")


def canonical(maps: Mapping[str, OpenMap], name: str) -> str:
    """A counter's name as ``moved`` has it: a key may be typed in other ways, ``rules[10.0.0.1]`` for a ``__be32``.

    UsageError or ObjectError for keys that the map cannot have.
    """
    steps = Path.parse(name).steps
    one = maps.get(str(steps[0])) if steps else None
    if one is None or one.holds_variables or len(steps) < 2 or not isinstance(steps[1], Index):
        return name
    if one.btf is None or not one.info.btf_key_type_id:
        return name
    lpm = one.info.type == MapType.LPM_TRIE
    key = encode_text(one.btf, one.info.btf_key_type_id, steps[1].text, name=one.info.name, lpm=lpm)
    rest = "".join(f"[{s.text}]" if isinstance(s, Index) else f".{s}" for s in steps[2:])
    return f"{steps[0]}[{format_value(one.key(key))}]{rest}"
