"""A C header of the types of a BTF: definitions in an order that compiles, laid out as the BTF says.

What is embedded is defined before; what is only pointed to is declared. Types without a name are written where they
are used.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from netbpf.bpf.btf.cnames import (
    BUILTIN,
    C23_WORDS,
    KEYWORDS,
    Names,
    identifier,
    number_name,
    only_declared,
    word,
)
from netbpf.bpf.btf.declare import declaration
from netbpf.bpf.btf.layout import Layouts
from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

_LARGEST: Final = (
    32 << 20
)  # characters; types without a name within one another would otherwise fill the memory
_DEEPEST: Final = 128  # types within one another; the kernel takes 32
_DEFINED: Final = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.TYPEDEF, Kind.FWD)
_REFERENCES: Final = frozenset(
    {Kind.CONST, Kind.VOLATILE, Kind.RESTRICT, Kind.TYPE_TAG, Kind.FUNC, Kind.VAR}
)
_ENUM_MODES: Final = {1: "QI", 2: "HI", 8: "DI"}
_KFUNC: Final = "bpf_kfunc"


def header(
    btf: Btf,
    *,
    guard: str,
    roots: Sequence[BtfType] | None = None,
    relocatable: bool = False,
    functions: bool = False,
) -> Iterator[str]:
    """The pieces of a header, to be joined; ``guard`` is the macro around it.

    ``roots`` are the types that are wanted, with what they need; None: all. ``relocatable`` records accesses for CO-RE
    (for types of the kernel), ``functions`` adds the prototypes of kernel functions that programs may call. Raises
    ObjectError for types that no C has.
    """
    yield f"#ifndef {guard}\n#define {guard}\n\n"
    if relocatable:
        yield (
            "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n"
            "#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n#endif\n\n"
        )
    writer = _Writer(btf)
    yield from writer.types(roots)
    if functions:
        yield from writer.kernel_functions()
    if relocatable:
        yield "#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n#pragma clang attribute pop\n#endif\n\n"
    yield f"#endif /* {guard} */\n"


def guard_of(name: str) -> str:
    """The macro around a header: ``__FLOWS_BPF_O__`` for flows.bpf.o."""
    return f"__{identifier(name).upper().strip('_') or 'BTF'}__"


class _Remembering(Btf):
    """The same BTF, which keeps the types that it has read: of the kernel's each is asked for three times."""

    def __init__(self, btf: Btf) -> None:
        self.__dict__.update(btf.__dict__)
        self._known: dict[int, BtfType] = {}

    def type(self, type_id: int) -> BtfType:
        found = self._known.get(type_id)
        if found is None:
            found = self._known[type_id] = super().type(type_id)
        return found


class _Writer:
    def __init__(self, btf: Btf) -> None:
        btf = _Remembering(btf)
        self._btf: Btf = btf
        every = (btf.base.of_kind(*_DEFINED) if btf.base else []) + btf.of_kind(*_DEFINED)
        self._every = every
        self._names = Names(btf, every)
        self._layouts = Layouts(btf)
        self._seen: set[tuple[int, bool]] = set()
        self._declared: set[str] = set()  # "struct flow", whether defined or not
        self._open: set[int] = set()
        self._enums: set[int] = set()  # without a name, and written
        self._out: list[str] = []
        self._length = 0
        self._level = 0

    def types(self, roots: Sequence[BtfType] | None) -> Iterator[str]:
        """The definitions of ``roots`` and of what they need."""
        for one in self._every if roots is None else roots:
            if one.name or roots is not None:
                self._need(one.id, True, 0)
                yield from self._taken()
        if roots is None:
            for one in self._every:
                # Nothing that was written uses them, so only their constants are left.
                if (
                    one.kind in (Kind.ENUM, Kind.ENUM64)
                    and not one.name
                    and one.id not in self._enums
                ):
                    self._define(one)
                    yield from self._taken()

    def kernel_functions(self) -> Iterator[str]:
        """Prototypes of what programs may call, which the kernel marks with a tag."""
        tags = [one for one in self._btf.of_kind(Kind.DECL_TAG) if one.name == _KFUNC]
        found = []
        for function in (self._btf.type(one.size_or_type) for one in tags):
            name = identifier(function.name)
            if function.kind is not Kind.FUNC or not name or self._names.taken(name):
                continue
            self._need(function.size_or_type, False, 0)
            yield from self._taken()
            proto = declaration(
                self._btf, function.size_or_type, name, self._name, param=self._param
            )
            found.append(f"extern {proto} __weak __ksym;\n")
        if not found:
            return
        yield "#ifndef BPF_NO_KFUNC_PROTOTYPES\n"
        yield '#ifndef __ksym\n#define __ksym __attribute__((section(".ksyms")))\n#endif\n'
        yield "#ifndef __weak\n#define __weak __attribute__((weak))\n#endif\n\n"
        yield from dict.fromkeys(found)
        yield "#endif\n\n"

    def _taken(self) -> list[str]:
        found, self._out = self._out, []
        return found

    def _write(self, text: str) -> None:
        self._out.append(text + "\n\n")

    # --- order ---

    def _need(self, type_id: int, whole: bool, depth: int) -> None:
        """Write what has to stand before a use of a type: its definition if it is needed as a ``whole``."""
        if type_id == 0 or (type_id, whole) in self._seen:
            return
        if depth > _DEEPEST:
            raise ObjectError(f"BTF type {type_id} contains itself, or too much")
        one = self._btf.type(type_id)
        kind = one.kind
        if kind in (Kind.STRUCT, Kind.UNION) and one.id in self._open:
            if whole:
                raise ObjectError(f"BTF type {type_id} ({escape(one.name)}) contains itself")
            self._declare(one)
            return
        self._seen.add((type_id, whole))
        if kind is Kind.PTR:
            self._need(one.size_or_type, False, depth + 1)
        elif kind in _REFERENCES:
            self._need(one.size_or_type, whole, depth + 1)
        elif kind is Kind.ARRAY:
            # C wants to know the size of elements even where it is only pointed to.
            self._need(self._btf.array(one).type_id, True, depth + 1)
        elif kind is Kind.FUNC_PROTO:
            for number in (one.size_or_type, *(each.type_id for each in self._btf.params(one))):
                self._need(number, False, depth + 1)
        elif kind is Kind.TYPEDEF:
            self._need_typedef(one, whole, depth)
        elif kind in (Kind.STRUCT, Kind.UNION):
            self._need_struct(one, whole, depth)
        elif kind in (Kind.ENUM, Kind.ENUM64):
            # Even behind a pointer: enums cannot be declared without being defined.
            if one.name and (type_id, not whole) not in self._seen:
                self._declare(one) if only_declared(one) else self._define(one)
        elif kind is Kind.FWD:
            self._declare(one)

    def _need_typedef(self, one: BtfType, whole: bool, depth: int) -> None:
        if (one.id, not whole) not in self._seen:
            if not one.name:
                raise ObjectError(f"BTF typedef {one.id} has no name")
            self._need(one.size_or_type, False, depth + 1)
            name = self._names.typedef(one)
            if name != BUILTIN:
                text = f"typedef {self._declaration(one.size_or_type, name)};"
                self._write(_before_c23(text) if name in C23_WORDS else text)
        if whole:
            self._need(one.size_or_type, True, depth + 1)

    def _need_struct(self, one: BtfType, whole: bool, depth: int) -> None:
        name = self._names.tag(one)
        if name and not whole:
            self._declare(one)
            return
        if not name and (one.id, not whole) in self._seen:
            return
        self._need_members(one, depth)
        if name:
            self._define(one)

    def _need_members(self, one: BtfType, depth: int) -> None:
        self._open.add(one.id)
        for member in self._btf.members(one):
            inner = self._embedded(member.type_id)
            if not member.name and inner.kind in (Kind.STRUCT, Kind.UNION) and inner.name:
                # A struct with a tag and without a name (-fms-extensions): written as one without either.
                if inner.id in self._open or depth > _DEEPEST:
                    raise ObjectError(f"BTF type {one.id} contains itself")
                self._need_members(inner, depth + 1)
            else:
                self._need(member.type_id, True, depth + 1)
        self._open.discard(one.id)

    def _embedded(self, type_id: int) -> BtfType:
        """A type behind its qualifiers."""
        one = self._btf.type(type_id)
        for _ in range(_DEEPEST):
            if one.kind not in (Kind.CONST, Kind.VOLATILE):
                break
            one = self._btf.type(one.size_or_type)
        return one

    def _declare(self, one: BtfType) -> None:
        name = f"{word(one)} {self._names.tag(one)}"
        if name not in self._declared and self._names.tag(one):
            self._declared.add(name)
            self._write(f"{name};")

    def _define(self, one: BtfType) -> None:
        self._declared.add(f"{word(one)} {self._names.tag(one)}")
        text = f"{self._body(one)};"
        self._write(_before_c23(text) if "\ttrue = " in text or "\tfalse = " in text else text)

    # --- text ---

    def _declaration(self, type_id: int, name: str) -> str:
        return declaration(self._btf, type_id, name, self._name, param=lambda _: "", empty="0")

    def _param(self, name: str) -> str:
        name = identifier(name)
        return "" if self._names.taken(name) or name in KEYWORDS else name

    def _name(self, one: BtfType) -> str:
        kind = one.kind
        if kind is Kind.TYPEDEF:
            return self._names.typedef(one)
        if kind in (Kind.STRUCT, Kind.UNION, Kind.FWD):
            name = self._names.tag(one)
            return f"{word(one)} {name}" if name else self._body(one)
        if kind in (Kind.INT, Kind.FLOAT):
            return number_name(self._btf, one)
        if kind in (Kind.ENUM, Kind.ENUM64):
            name = self._names.tag(one)
            if name:
                return f"enum {name}"
            # Its constants must not be defined twice.
            return self._number(one) if one.id in self._enums or not one.vlen else self._body(one)
        if kind is Kind.VOID:
            return "void"
        raise ObjectError(f"BTF type {one.id} ({kind.name}) is used as the type of something")

    @staticmethod
    def _number(one: BtfType) -> str:
        names = {1: "char", 2: "short", 4: "int", 8: "long long"}
        sign = "signed" if one.kind_flag else "unsigned"
        return f"{sign} {names.get(one.size_or_type, 'int')}"

    def _body(self, one: BtfType, *, tag: bool = True) -> str:
        name = self._names.tag(one) if tag else ""
        head = f"{word(one)} {name} {{" if name else f"{word(one)} {{"
        self._level += 1
        if self._level > _DEEPEST:
            raise ObjectError(f"BTF type {one.id} contains itself, or too much")
        if one.kind in (Kind.ENUM, Kind.ENUM64):
            lines, attributes = self._constants(one)
        else:
            lines, attributes = self._members(one)
        self._level -= 1
        indent = "\t" * (self._level + 1)
        text = "".join(
            [f"{head}\n", *(f"{indent}{line}\n" for line in lines), indent[1:], "}", attributes]
        )
        self._length += len(text)
        if self._length > _LARGEST:
            raise ObjectError(f"the types are more than {_LARGEST >> 20} MiB of C")
        return text

    def _constants(self, one: BtfType) -> tuple[Iterable[str], str]:
        if not one.name:
            self._enums.add(one.id)
        values = self._btf.enumerators(one)
        size = one.size_or_type
        lines = [f"{self._names.constant(name)} = {_constant(value)}," for name, value in values]
        low, high = min((v for _, v in values), default=0), max((v for _, v in values), default=0)
        natural = 4 if low >= -(1 << 31) and high < (1 << (31 if low < 0 else 32)) else 8
        mode = "" if size == natural else _ENUM_MODES.get(size, "SI")
        return lines, f" __attribute__((mode({mode})))" if mode else ""

    def _members(self, one: BtfType) -> tuple[Iterable[str], str]:
        plan = self._layouts.plan(one)
        if plan.fields is None:
            # Members that share bytes in ways C has no words for; what uses it finds its size.
            return [f"unsigned char opaque[{one.size_or_type}];"], ""
        lines = []
        for member, gap in plan.fields:
            lines += [f"long: {width};" for width in gap]
            lines.append(self._member(member.type_id, member.name, member.bitfield_size))
        lines += [f"long: {width};" for width in plan.tail]
        words = ["packed"] if plan.packed else []
        words += [f"aligned({plan.aligned})"] if plan.aligned else []
        return lines, f" __attribute__(({', '.join(words)}))" if words else ""

    def _member(self, type_id: int, name: str, width: int) -> str:
        if not name:
            inner = self._embedded(type_id)
            if inner.name and inner.kind in (Kind.STRUCT, Kind.UNION):
                return f"{self._body(inner, tag=False)};"
            # Without a name may be a bitfield or such a struct; any other keeps its place under a made-up name.
            if not width and inner.kind not in (Kind.STRUCT, Kind.UNION):
                name = f"unnamed_{type_id}"
        text = self._declaration(type_id, identifier(name))
        return f"{text}: {width};" if width else f"{text};"


def _constant(value: int) -> str:
    if -(1 << 31) <= value < 1 << 32:
        return str(value)
    if value < 0:
        # C has no negative constants, only constants that are negated.
        return f"{value}LL" if value > -(1 << 63) else f"{value + 1}LL - 1"
    return f"{value}ULL" if value >= 1 << 63 else f"{value}LL"


def _before_c23(text: str) -> str:
    """``bool``, ``true`` and ``false`` are keywords since C23."""
    return f"#if !defined(__STDC_VERSION__) || __STDC_VERSION__ < 202311L\n{text}\n#endif"
