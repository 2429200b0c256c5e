"""Whether a type of the object and one of the kernel are the same thing.

Two questions: *compatible* (TYPE_EXISTS, TYPE_SIZE, TYPE_ID_TARGET) asks little, a struct of the same name will do;
*matches* (TYPE_MATCHES) wants every member that the object declares to be there, and to match in turn.
"""

from collections.abc import Callable
from functools import partial

from netbpf.bpf.btf.types import MAX_DEPTH, Btf, BtfType, Kind
from netbpf.bpf.core.relocation import ENUMS, essential_name, same_kind
from netbpf.errors import ObjectError

_Pair = tuple[str, int, int, bool]  # question, local type, target type, whether behind a pointer
_MAX_WORK = 200_000  # members looked at; no pair of types of a real kernel takes 10,000


class Comparison:
    """Types of one BTF against another's. What was compared once is remembered."""

    def __init__(self, local: Btf, target: Btf) -> None:
        self.local, self.target = local, target
        self._known: dict[_Pair, bool | None] = {}  # None: being worked on
        self._work = 0

    def compatible(self, local_id: int, target_id: int) -> bool:
        """Whether two types are of the same kind, through pointers, arrays and function parameters.

        Names are not looked at: the caller chose candidates by name. ObjectError for types nested too deep.
        """
        self._work = 0
        return self._compatible(local_id, target_id, MAX_DEPTH)

    def matches(self, local_id: int, target_id: int) -> bool:
        """Whether everything the local type declares is in the target type.

        Struct members must all be there and match; behind a pointer only name and kind of a struct count, and a
        forward declaration will do. Integers: size and sign. Arrays: count. Enums: size, and the enumerators'
        names. Functions: every parameter and the result. ObjectError for types nested too deep.
        """
        self._work = 0
        return self._matches(local_id, target_id, False, MAX_DEPTH)

    def _compatible(self, local_id: int, target_id: int, level: int) -> bool:
        for _ in range(MAX_DEPTH):
            one, other = self.local.resolve(local_id), self.target.resolve(target_id)
            if not same_kind(one.kind, other.kind):
                return False
            match one.kind:
                case Kind.VOID | Kind.STRUCT | Kind.UNION | Kind.ENUM | Kind.ENUM64 | Kind.FWD:
                    return True
                case Kind.INT:
                    # An offset marks a bitfield as compilers wrote them before Linux 5.0.
                    return not (self.local.integer(one).offset or self.target.integer(other).offset)
                case Kind.ARRAY:
                    local_id = self.local.array(one).type_id
                    target_id = self.target.array(other).type_id
                case Kind.PTR:
                    local_id, target_id = one.size_or_type, other.size_or_type
                case Kind.FUNC_PROTO:
                    compare = partial(self._compatible, level=level - 1)
                    pair = "compatible", one.id, other.id, False
                    if not self._once(pair, partial(self._params, one, other, level, compare)):
                        return False
                    local_id, target_id = one.size_or_type, other.size_or_type
                case _:
                    return False
        raise ObjectError(f"BTF type {local_id} nests too deep")

    def _params(
        self, one: BtfType, other: BtfType, level: int, compare: Callable[[int, int], bool]
    ) -> bool:
        if one.vlen != other.vlen:
            return False
        self._count(one.vlen)
        for mine, theirs in zip(self.local.params(one), self.target.params(other), strict=True):
            if level <= 0:
                raise ObjectError(f"BTF type {one.id} nests too deep")
            if not compare(mine.type_id, theirs.type_id):
                return False
        return True

    def _matches(self, local_id: int, target_id: int, behind_ptr: bool, level: int) -> bool:
        for _ in range(MAX_DEPTH if level > 0 else 0):
            one, other = self.local.resolve(local_id), self.target.resolve(target_id)
            if essential_name(one.name) != essential_name(other.name):
                return False
            if one.kind is Kind.PTR is other.kind:
                behind_ptr = True
                local_id, target_id = one.size_or_type, other.size_or_type
            elif one.kind is Kind.ARRAY is other.kind:
                mine, theirs = self.local.array(one), self.target.array(other)
                if mine.count != theirs.count:
                    return False
                local_id, target_id = mine.type_id, theirs.type_id
            elif one.kind is Kind.FUNC_PROTO is other.kind:
                compare = partial(self._matches, behind_ptr=behind_ptr, level=level - 1)
                pair = "matches", one.id, other.id, behind_ptr
                if not self._once(pair, partial(self._params, one, other, level, compare)):
                    return False
                local_id, target_id = one.size_or_type, other.size_or_type
            else:
                return self._leaf(one, other, behind_ptr, level)
        raise ObjectError(f"BTF type {local_id} nests too deep")

    def _leaf(self, one: BtfType, other: BtfType, behind_ptr: bool, level: int) -> bool:
        match one.kind:
            case Kind.VOID:
                return other.kind is Kind.VOID
            case Kind.INT if other.kind is Kind.INT:
                mine, theirs = self.local.integer(one), self.target.integer(other)
                return one.size_or_type == other.size_or_type and mine.signed == theirs.signed
            case Kind.ENUM | Kind.ENUM64 if other.kind in ENUMS:
                return self._enums_match(one, other)
            case Kind.FWD | Kind.STRUCT | Kind.UNION:
                if behind_ptr:
                    kinds = {one.kind, other.kind}
                    return _is_union(one) is _is_union(other) and kinds <= _RECORDS
                if one.kind is not other.kind:
                    return False
                if one.kind is Kind.FWD:
                    return one.kind_flag == other.kind_flag
                pair = "matches", one.id, other.id, False
                return self._once(pair, partial(self._composites_match, one, other, level))
            case _:
                return False

    def _once(self, pair: _Pair, compare: Callable[[], bool]) -> bool:
        """The answer for a pair of types, found out once: hostile types lead to the same pair a billion times."""
        if pair in self._known:
            known = self._known[pair]
            if known is None:
                raise ObjectError(f"BTF type {pair[1]} contains itself")
            return known
        self._known[pair] = None
        answer = self._known[pair] = compare()
        return answer

    def _composites_match(self, one: BtfType, other: BtfType, level: int) -> bool:
        if one.vlen > other.vlen:
            return False
        self._count(other.vlen)
        by_name: dict[str, list[int]] = {}
        for member in self.target.members(other):
            by_name.setdefault(essential_name(member.name), []).append(member.type_id)
        for member in self.local.members(one):
            for type_id in by_name.get(essential_name(member.name), ()):
                self._count(1)
                if self._matches(member.type_id, type_id, False, level - 1):
                    break
            else:
                return False
        return True

    def _enums_match(self, one: BtfType, other: BtfType) -> bool:
        if one.size_or_type != other.size_or_type or one.vlen > other.vlen:
            return False
        self._count(other.vlen)
        names = {essential_name(name) for name, _ in self.target.enumerators(other)}
        return all(essential_name(name) in names for name, _ in self.local.enumerators(one))

    def _count(self, work: int) -> None:
        self._work += work
        if self._work > _MAX_WORK:
            raise ObjectError("types to match are too entangled")


_RECORDS = frozenset({Kind.STRUCT, Kind.UNION, Kind.FWD})


def _is_union(kind: BtfType) -> bool:
    return kind.kind_flag if kind.kind is Kind.FWD else kind.kind is Kind.UNION
