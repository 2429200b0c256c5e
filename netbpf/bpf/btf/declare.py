"""Types as C declares them: ``int (*callback)(void *, u32)``."""

from collections.abc import Callable
from typing import Final

from netbpf.bpf.btf.types import MAX_DEPTH, Btf, BtfType, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

_QUALIFIERS: Final = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}
_TAGS: Final = {
    Kind.STRUCT: "struct ",
    Kind.UNION: "union ",
    Kind.ENUM: "enum ",
    Kind.ENUM64: "enum ",
}
_MAX_STEPS: Final = 128  # of pointers, arrays and functions within one another; C guarantees 12
_LONGEST: Final = (
    1 << 16
)  # characters; functions of functions of functions would otherwise fill the memory

Namer = Callable[[BtfType], str]
ParamNamer = Callable[[str], str]


def plain_name(kind: BtfType) -> str:
    """What stands before the declared name: ``struct flow``, ``u32``, ``union {...}`` for one without a name."""
    if kind.kind is Kind.VOID:
        return "void"
    if kind.kind is Kind.FWD:
        return f"{'union' if kind.kind_flag else 'struct'} {escape(kind.name)}"
    tag = _TAGS.get(kind.kind, "")
    return f"{tag}{escape(kind.name) or '{...}'}"


def declaration(
    btf: Btf,
    type_id: int,
    name: str = "",
    namer: Namer = plain_name,
    depth: int = 0,
    *,
    param: ParamNamer = escape,
    empty: str = "",
) -> str:
    """The C declaration of ``name`` with a type; without a name, the type as a cast has it.

    ``namer`` names what is neither pointer, array, function nor qualifier, ``param`` the parameters of functions;
    ``empty`` is the length of an array without one. ObjectError for types that refer to themselves.
    """
    if depth > MAX_DEPTH:
        raise ObjectError(f"BTF type {type_id} refers to itself")
    inner, qualifiers = name, ""
    for _ in range(_MAX_STEPS):
        kind = btf.type(type_id)
        match kind.kind:
            case Kind.PTR:
                inner = f"*{qualifiers and qualifiers + ' '}{inner}"
                qualifiers, type_id = "", kind.size_or_type
            case Kind.CONST | Kind.VOLATILE | Kind.RESTRICT:
                word = _QUALIFIERS[kind.kind]
                if word not in qualifiers:  # an array and its elements may have the same
                    qualifiers = f"{qualifiers} {word}" if qualifiers else word
                type_id = kind.size_or_type
            case Kind.TYPE_TAG | Kind.FUNC | Kind.VAR:
                type_id = kind.size_or_type
            case Kind.ARRAY:
                shape = btf.array(kind)
                inner = f"{_grouped(inner)}[{shape.count or empty}]"
                type_id = shape.type_id
            case Kind.FUNC_PROTO:
                params = _params(btf, kind, namer, depth, param)
                inner, type_id = f"{_grouped(inner)}({params})", kind.size_or_type
                qualifiers = ""
            case _:
                base = f"{qualifiers} {namer(kind)}" if qualifiers else namer(kind)
                gap = " " if inner and not inner.startswith("[") else ""
                return f"{base}{gap}{inner}"
    raise ObjectError(f"BTF type {type_id} refers to itself")


def _grouped(inner: str) -> str:
    return f"({inner})" if inner.startswith("*") else inner


def _params(btf: Btf, kind: BtfType, namer: Namer, depth: int, param: ParamNamer) -> str:
    found, length = [], 0
    for one in btf.params(kind):
        variadic = not one.type_id and not one.name
        inner = declaration(btf, one.type_id, param(one.name), namer, depth + 1, param=param)
        found.append("..." if variadic else inner)
        length += len(inner)
        if length > _LONGEST:
            raise ObjectError(f"the declaration of BTF type {kind.id} is longer than {_LONGEST}")
    return ", ".join(found) or "void"


def prototype(btf: Btf, type_id: int) -> str:
    """The declaration of a FUNC: ``int hello(struct xdp_md *ctx)``."""
    kind = btf.type(type_id)
    return declaration(btf, kind.size_or_type, escape(kind.name))
