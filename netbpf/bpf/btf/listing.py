"""Types one by one, as ``bpftool btf dump`` shows them: values with its field names, and lines with its words."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

Fields = dict[str, Any]
ANONYMOUS: Final = "(anon)"
_LINKAGES: Final = {0: "static", 1: "global", 2: "extern"}
_REFERENCES: Final = frozenset(
    {Kind.PTR, Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPEDEF, Kind.TYPE_TAG}
)
# What has parts, and what they are called.
PARTS: Final = {
    Kind.STRUCT: "members",
    Kind.UNION: "members",
    Kind.ENUM: "values",
    Kind.ENUM64: "values",
    Kind.FUNC_PROTO: "params",
    Kind.DATASEC: "vars",
}


def described(btf: Btf, kinds: Iterable[BtfType]) -> Iterator[Fields]:
    """Each type as the fields that ``bpftool -j btf dump`` has for it. ObjectError for what is malformed."""
    for one in kinds:
        yield _fields(btf, one)


def _fields(btf: Btf, one: BtfType) -> Fields:
    kind = one.kind
    found: Fields = {"id": one.id, "kind": kind.name, "name": one.name or ANONYMOUS}
    if kind in _REFERENCES:
        found["type_id"] = one.size_or_type
    elif kind is Kind.FUNC:
        found["type_id"] = one.size_or_type
        found["linkage"] = _linkage(btf.linkage(one))
    elif kind is Kind.FUNC_PROTO:
        params = [{"name": each.name or ANONYMOUS, "type_id": each.type_id} for each in btf.params(one)]  # fmt: skip
        found |= {"ret_type_id": one.size_or_type, "vlen": one.vlen, "params": params}
    elif kind in (Kind.STRUCT, Kind.UNION):
        found |= {"size": one.size_or_type, "vlen": one.vlen, "members": _members(btf, one)}
    elif kind in (Kind.ENUM, Kind.ENUM64):
        found["encoding"] = "SIGNED" if one.kind_flag else "UNSIGNED"
        found |= {"size": one.size_or_type, "vlen": one.vlen}
        found["values"] = [{"name": name, "val": value} for name, value in btf.enumerators(one)]
    elif kind is Kind.INT:
        shape = btf.integer(one)
        found |= {"size": one.size_or_type, "bits_offset": shape.offset, "nr_bits": shape.bits}
        found["encoding"] = _encoding(shape.signed, shape.char, shape.boolean)
    elif kind is Kind.ARRAY:
        array = btf.array(one)
        found |= {"type_id": array.type_id, "index_type_id": array.index_type_id}
        found["nr_elems"] = array.count
    elif kind is Kind.FWD:
        found["fwd_kind"] = "union" if one.kind_flag else "struct"
    elif kind is Kind.VAR:
        found |= {"type_id": one.size_or_type, "linkage": _linkage(btf.linkage(one))}
    elif kind is Kind.DATASEC:
        found |= {"size": one.size_or_type, "vlen": one.vlen}
        found["vars"] = [_section_var(btf, *each) for each in btf.section_vars(one)]
    elif kind is Kind.FLOAT:
        found["size"] = one.size_or_type
    elif kind is Kind.DECL_TAG:
        found |= {"type_id": one.size_or_type, "component_idx": btf.tag_component(one)}
    return found


def _members(btf: Btf, one: BtfType) -> list[Fields]:
    members: list[Fields] = []
    for name, type_id, offset, bits in btf.members(one):
        found = {"name": name or ANONYMOUS, "type_id": type_id, "bits_offset": offset}
        if bits:
            found["bitfield_size"] = bits
        members.append(found)
    return members


def _section_var(btf: Btf, type_id: int, offset: int, size: int) -> Fields:
    found: Fields = {"type_id": type_id, "offset": offset, "size": size}
    variable = btf.type(type_id)
    if variable.kind in (Kind.VAR, Kind.FUNC):
        found |= {"kind": variable.kind.name, "name": variable.name}
    return found


def _linkage(number: int) -> str:
    return _LINKAGES.get(number, "(unknown)")


def _encoding(signed: bool, char: bool, boolean: bool) -> str:
    names = [
        name for name, is_it in (("SIGNED", signed), ("CHAR", char), ("BOOL", boolean)) if is_it
    ]
    return " ".join(names) or "(none)"


def lines(found: Fields) -> Iterator[str]:
    """The lines of ``bpftool btf dump`` for one type; names are escaped."""
    kind = Kind[found["kind"]]
    parts = PARTS.get(kind)
    shown = [
        f"{name}={value}"
        for name, value in found.items()
        if name not in ("id", "kind", "name", parts)
    ]
    # The one kind for which bpftool writes a comma.
    gap = ", " if kind is Kind.VAR else " "
    head = f"[{found['id']}] {kind.name} '{escape(found['name'])}'"
    yield f"{head} {gap.join(shown)}" if shown else head
    if parts is None:
        return
    for part in found[parts]:
        yield "\t" + _part(kind, found, part)


def _part(kind: Kind, found: Fields, part: Fields) -> str:
    if kind is Kind.DATASEC:
        text = f"type_id={part['type_id']} offset={part['offset']} size={part['size']}"
        return f"{text} ({part['kind']} '{escape(part['name'])}')" if "name" in part else text
    if kind is Kind.ENUM64:
        suffix = "LL" if found["encoding"] == "SIGNED" else "ULL"
        return f"'{escape(part['name'])}' val={part['val']}{suffix}"
    rest = " ".join(f"{name}={value}" for name, value in part.items() if name != "name")
    return f"'{escape(part['name'])}' {rest}"


def reachable(btf: Btf, roots: Iterable[int]) -> list[BtfType]:
    """Some types with everything they refer to, by id. ObjectError for ids that are not there."""
    waiting, seen = list(roots), set[int]()
    while waiting:
        number = waiting.pop()
        if number in seen or number == 0:
            continue
        seen.add(number)
        waiting += _references(btf, btf.type(number))
    return [btf.type(number) for number in sorted(seen)]


def _references(btf: Btf, one: BtfType) -> list[int]:
    kind = one.kind
    if kind in (Kind.STRUCT, Kind.UNION):
        return [each.type_id for each in btf.members(one)]
    if kind is Kind.ARRAY:
        shape = btf.array(one)
        return [shape.type_id, shape.index_type_id]
    if kind is Kind.FUNC_PROTO:
        return [one.size_or_type, *(each.type_id for each in btf.params(one))]
    if kind is Kind.DATASEC:
        return [each.type_id for each in btf.section_vars(one)]
    if kind in _REFERENCES or kind in (Kind.FUNC, Kind.VAR, Kind.DECL_TAG):
        return [one.size_or_type]
    return []


def named(btf: Btf, name: str) -> list[BtfType]:
    """All types of a name: ``flow``, or ``struct flow`` and the like for one kind. ObjectError where there is none."""
    word, _, rest = name.partition(" ")
    kinds = {
        "struct": (Kind.STRUCT, Kind.FWD),
        "union": (Kind.UNION, Kind.FWD),
        "enum": (Kind.ENUM, Kind.ENUM64),
        "typedef": (Kind.TYPEDEF,),
    }.get(word, ()) if rest else ()  # fmt: skip
    wanted = rest.strip() if kinds else name
    bases = [btf.base] if btf.base else []
    found = [one for each in [*bases, btf] for one in each.find(wanted, *kinds)]
    if not found:
        raise ObjectError(f"there is no type {escape(name)}", hint=_near(btf, wanted))
    return found


def _near(btf: Btf, name: str) -> str | None:
    from netbpf.text import did_you_mean

    low = name.lower()
    # Of a hundred thousand names, comparing all takes seconds.
    known = {one.name for one in btf.types() if one.name and one.name[0].lower() == low[:1]}
    close = [one for one in known if abs(len(one) - len(name)) <= 3]
    return did_you_mean(name, close[:5000], "its types are") if close else None
