"""The way from a root type to what a relocation is about: in the object's types, and in the kernel's.

The way is kept twice: step by step as the types have it (anonymous structs and unions included), and as C code
writes it (only names and array indexes), which is what is looked for in other types.
"""

from collections.abc import Sequence
from typing import NamedTuple

from netbpf.bpf.btf.types import Array, Btf, BtfType, Kind, Member
from netbpf.bpf.core.relocation import (
    COMPOSITES,
    ENUMS,
    MAX_DEPTH,
    CoreKind,
    access_path,
    composite,
    essential_name,
    same_kind,
    type_text,
)
from netbpf.errors import ObjectError
from netbpf.text import escape


class Step(NamedTuple):
    """One step as C writes it: member ``number`` of struct ``type_id``, by name, or element ``number`` of that type.

    For an enumerator: the one of that number in enum ``type_id``.
    """

    type_id: int
    number: int
    name: str | None = None


class Spec(NamedTuple):
    """A way within ``btf`` from type ``root``. ``bit_offset`` is where it ends, counted from the root's start."""

    btf: Btf
    root: int
    steps: tuple[Step, ...] = ()
    raw: tuple[int, ...] = ()
    bit_offset: int = 0

    def text(self) -> str:
        """As people write it, with the raw steps: ``struct task_struct.pid (0:12)``, ``enum e::VALUE``."""
        root = type_text(self.btf.type(self.root))
        if not self.steps:
            return root
        if self.btf.type(self.steps[0].type_id).kind in ENUMS and self.steps[0].name is not None:
            return f"{root}::{escape(self.steps[0].name)}"
        first = f"[{self.steps[0].number}]" if self.steps[0].number else ""
        rest = "".join(
            f"[{step.number}]" if step.name is None else f".{escape(step.name)}"
            for step in self.steps[1:]
        )
        return f"{root}{first}{rest} ({':'.join(map(str, self.raw))})"


class Parts:
    """Members of structs and enumerators of enums, decoded once: programs ask for the same few hundred times."""

    def __init__(self) -> None:
        self._members: dict[tuple[int, int], list[Member]] = {}
        self._enumerators: dict[tuple[int, int], list[tuple[str, int]]] = {}
        self._by_name: dict[tuple[int, int], dict[str, int]] = {}
        self._owners: dict[int, Btf] = {}  # kept alive, so that id() stays theirs

    def _key(self, btf: Btf, kind: BtfType) -> tuple[int, int]:
        self._owners[id(btf)] = btf
        return id(btf), kind.id

    def members(self, btf: Btf, kind: BtfType) -> list[Member]:
        """The members of a struct or union."""
        key = self._key(btf, kind)
        if key not in self._members:
            self._members[key] = btf.members(kind)
        return self._members[key]

    def enumerators(self, btf: Btf, kind: BtfType) -> list[tuple[str, int]]:
        """Names and values of an enum."""
        key = self._key(btf, kind)
        if key not in self._enumerators:
            self._enumerators[key] = btf.enumerators(kind)
        return self._enumerators[key]

    def enumerator(self, btf: Btf, kind: BtfType, essential: str) -> int | None:
        """The number of the first enumerator of an essential name, or None."""
        key = self._key(btf, kind)
        if key not in self._by_name:
            numbers = self._by_name[key] = {}
            for number, (name, _) in enumerate(self.enumerators(btf, kind)):
                numbers.setdefault(essential_name(name), number)
        return self._by_name[key].get(essential)


def local_spec(btf: Btf, type_id: int, kind: CoreKind, access: str, parts: Parts) -> Spec:
    """What a relocation of an object says; ObjectError where it does not fit the object's own types."""
    path = access_path(access)
    if not kind.about_field and not kind.about_enumerator:
        if path != (0,):
            raise ObjectError(f"a CO-RE relocation of a whole type has the access string {access}")
        return Spec(btf, type_id)
    root = btf.resolve(type_id)
    if kind.about_enumerator:
        values = parts.enumerators(btf, root) if root.kind in ENUMS else []
        if len(path) != 1 or path[0] >= len(values):
            raise ObjectError(f"{type_text(root)} has no enumerator {access}")
        return Spec(btf, type_id, (Step(root.id, path[0], values[path[0]][0]),), path)

    steps = [Step(root.id, path[0])]
    bits = path[0] * btf.size(root.id) * 8
    here = root
    for index in path[1:]:
        if here.kind in COMPOSITES:
            fields = parts.members(btf, here)
            if index >= len(fields):
                raise ObjectError(f"{type_text(here)} has no member {index}")
            bits += fields[index].bit_offset
            if fields[index].name:
                steps.append(Step(here.id, index, fields[index].name))
            here = btf.resolve(fields[index].type_id)
        elif here.kind is Kind.ARRAY:
            shape = btf.array(here)
            if not _within(btf, steps[-1], shape, index):
                raise ObjectError(f"an array of {shape.count} has no element {index}")
            here = btf.resolve(shape.type_id)
            steps.append(Step(here.id, index))
            bits += index * btf.size(here.id) * 8
        else:
            raise ObjectError(f"{type_text(here)} has no members that {access} could name")
    return Spec(btf, type_id, tuple(steps), path, bits)


def _within(btf: Btf, before: Step, shape: Array, index: int) -> bool:
    """Whether an array has an element. A flexible array has any: none declared, and the last member of a struct."""
    if index < shape.count:
        return True
    flexible = shape.count == 0 and before.name is not None
    return flexible and before.number == btf.type(before.type_id).vlen - 1


def match_field(local: Spec, btf: Btf, type_id: int, parts: Parts) -> Spec | None:
    """The same way from another root: by member names, through whatever anonymous structs there are; or None."""
    here, bits = btf.resolve(type_id), 0
    steps: list[Step] = []
    raw: list[int] = []
    for number, step in enumerate(local.steps):
        if step.name is not None:
            owner = local.btf.type(step.type_id)
            wanted = parts.members(local.btf, owner)[step.number]
            found = _find_member(btf, here, step.name, parts)
            if found is None:
                return None
            path, holder, member, offset = found
            if not fields_are_compat(local.btf, wanted.type_id, btf, member.type_id):
                return None
            steps.append(Step(holder.id, path[-1], step.name))
            raw += path
            bits += offset
            here = btf.resolve(member.type_id)
        else:
            if number > 0:
                if here.kind is not Kind.ARRAY:
                    return None
                shape = btf.array(here)
                if not _within(btf, steps[-1], shape, step.number):
                    return None
                here = btf.resolve(shape.type_id)
            steps.append(Step(here.id, step.number))
            raw.append(step.number)
            bits += step.number * btf.size(here.id) * 8
        if len(raw) > MAX_DEPTH:
            raise ObjectError(f"{type_text(btf.type(type_id))} nests too deep")
    return Spec(btf, type_id, tuple(steps), tuple(raw), bits)


_Found = tuple[list[int], BtfType, Member, int]


def _find_member(btf: Btf, kind: BtfType, name: str, parts: Parts) -> _Found | None:
    """Indexes down to a named member, who holds it, the member, its bit offset from ``kind``; or None."""
    # A type that was searched in vain need not be searched again; hostile types may even hold themselves.
    searched: set[int] = set()

    def search(inside: BtfType, depth: int) -> _Found | None:
        if inside.kind not in COMPOSITES or inside.id in searched:
            return None
        if depth > MAX_DEPTH:
            raise ObjectError(f"{type_text(kind)} nests too deep")
        searched.add(inside.id)
        for index, member in enumerate(parts.members(btf, inside)):
            if member.name == name:
                return [index], inside, member, member.bit_offset
            if not member.name and (within := composite(btf, member.type_id)):
                found = search(within, depth + 1)
                if found:
                    path, holder, inner, offset = found
                    return [index, *path], holder, inner, member.bit_offset + offset
        return None

    return search(kind, 1)


def match_enumerator(local: Spec, btf: Btf, type_id: int, parts: Parts) -> Spec | None:
    """The enumerator of the same essential name in another enum, or None."""
    kind = btf.resolve(type_id)
    if kind.kind not in ENUMS:
        return None
    number = parts.enumerator(btf, kind, essential_name(local.steps[0].name or ""))
    if number is None:
        return None
    name = parts.enumerators(btf, kind)[number][0]
    return Spec(btf, type_id, (Step(kind.id, number, name),), (number,))


def fields_are_compat(local: Btf, local_id: int, target: Btf, target_id: int) -> bool:
    """Whether a field of one type can be read as the other.

    Any two structs, any two pointers, any two integers can (size and sign are adjusted or checked later); enums
    and forward declarations need the same essential name, or none; arrays compatible elements.
    """
    for _ in range(MAX_DEPTH):
        one, other = local.resolve(local_id), target.resolve(target_id)
        if one.kind in COMPOSITES and other.kind in COMPOSITES:
            return True
        if not same_kind(one.kind, other.kind):
            return False
        match one.kind:
            case Kind.PTR | Kind.FLOAT:
                return True
            case Kind.FWD | Kind.ENUM | Kind.ENUM64:
                names: Sequence[str] = essential_name(one.name), essential_name(other.name)
                return not all(names) or names[0] == names[1]
            case Kind.INT:
                # An offset marks a bitfield as compilers wrote them before Linux 5.0.
                return not local.integer(one).offset and not target.integer(other).offset
            case Kind.ARRAY:
                local_id, target_id = local.array(one).type_id, target.array(other).type_id
            case _:
                return False
    raise ObjectError(f"BTF type {local_id} refers to itself")
