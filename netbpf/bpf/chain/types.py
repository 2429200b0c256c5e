"""The chain's BTF: a type for every function, and the strings of the members' lines of source.

Only what the verifier looks at is copied. It checks functions of global linkage against their types, each once, as
what they say, however many call them; so members are entered through one, which makes the cost of verifying a chain
the sum of its members'. Structs behind their pointers matter by name and size alone.
"""

import struct
import sys
from array import array

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.build import GLOBAL, STATIC, Builder
from netbpf.bpf.btf.copy import Copier
from netbpf.bpf.btf.types import MAX_DEPTH, MODIFIERS, Btf, BtfType, Kind, Param
from netbpf.bpf.chain.part import Part
from netbpf.constants import Hook
from netbpf.errors import ObjectError

_CONTEXT = {Hook.XDP: "xdp_md", Hook.TC_INGRESS: "__sk_buff", Hook.TC_EGRESS: "__sk_buff"}
# Bytes of all members' strings; a kernel takes 16 MB of BTF (BTF_MAX_SIZE). Members beyond have no lines of source.
_MAX_STRINGS = 8 << 20
_VOID_POINTER_KINDS = frozenset({Kind.FUNC_PROTO, Kind.FUNC})


class Types:
    """The types and lines of one chain. ``said`` is a string that others find in it, see ``description``."""

    def __init__(self, hook: Hook, said: str = "") -> None:
        self.builder = Builder()
        if said:
            self.builder.string(said)
        number = self.builder.integer("int", 4, signed=True)
        context = self.builder.ptr(self.builder.struct(_CONTEXT[hook], 0, []))
        self._entry = self.builder.func_proto(number, [Param("ctx", context)])
        # Nothing is known of the arguments of static functions: the verifier follows each call of them.
        self._static = self.builder.func_proto(number, [])
        self._own = self.builder.string("netbpf")
        self._text = self.builder.string("dispatcher")
        self._strings: dict[bytes, int] = {}
        self._room = _MAX_STRINGS

    def dispatcher(self, name: str) -> int:
        """The FUNC of the dispatcher."""
        return self.builder.func(name, self._entry, STATIC)

    def entry(self, name: str) -> int:
        """The FUNC of a member's own function, which is called."""
        return self.builder.func(_identifier(name), self._entry, GLOBAL)

    def static(self, name: str) -> int:
        """The FUNC of a function that is verified together with its callers."""
        return self.builder.func(_identifier(name), self._static, STATIC)

    def own_line(self, at: int) -> tuple[int, int, int, int]:
        """The line record of code that no member has."""
        return at, self._own, self._text, 0

    def lines(self, part: Part, base: int, first: int, last: int) -> "array[int]":
        """The line records of a member's instructions ``first`` to ``last`` (excluded), laid at ``base``."""
        found = array("I")
        btf = part.spec.btf
        if btf is None:
            return found
        if btf.strings not in self._strings:
            if self._room < len(btf.strings):
                return found
            self._room -= len(btf.strings)
            self._strings[btf.strings] = self.builder.append_strings(btf.strings)
        start, size, before = self._strings[btf.strings], len(btf.strings), -1
        code = part.image.insns
        for at, file_off, text_off, line_col in sorted(part.image.lines):
            if not first <= at < last or at == before or not code[at * bpf.SIZE]:
                continue
            # The kernel refuses a program for one line that is within an instruction, or whose strings do not exist.
            if 0 < file_off < size and 0 < text_off < size:
                found.extend((at - first + base, start + file_off, start + text_off, line_col))
                before = at
        return found

    def to_bytes(self) -> bytes:
        """The BTF as the kernel takes it."""
        return self.builder.to_bytes()


class MemberTypes:
    """What is copied of one member's types."""

    def __init__(self, types: Types, btf: Btf) -> None:
        self.types, self.btf = types, btf
        self._copied: dict[int, int] = {0: 0}
        self._copier: Copier | None = None

    def function(self, type_id: int) -> int:
        """A FUNC of global linkage, with what its tags say of its arguments (``__arg_nonnull`` ...)."""
        found = self.btf.type(type_id)
        if found.kind is not Kind.FUNC:
            raise ObjectError(f"BTF type {type_id} is no function")
        builder = self.types.builder
        made = builder.func(_identifier(found.name), self._proto(found.size_or_type), GLOBAL)
        for tag in self.btf.of_kind(Kind.DECL_TAG):
            if tag.size_or_type == type_id:
                builder.decl_tag(tag.name, made, self.btf.tag_component(tag))
        return made

    def local(self, type_id: int) -> int:
        """A whole type, to which an instruction refers by its id."""
        if self._copier is None:
            self._copier = Copier(self.types.builder, self.btf)
        return self._copier.copy(type_id)

    def _proto(self, type_id: int) -> int:
        proto = self.btf.type(type_id)
        params = [Param(one.name, self._shallow(one.type_id, 0)) for one in self.btf.params(proto)]
        return self.types.builder.func_proto(self._shallow(proto.size_or_type, 0), params)

    def _shallow(self, type_id: int, depth: int) -> int:
        if type_id in self._copied:
            return self._copied[type_id]
        if depth > MAX_DEPTH:
            raise ObjectError(f"BTF type {type_id} refers to itself")
        found = self.btf.type(type_id)
        self._copied[type_id] = made = self._made(found, depth + 1)
        return made

    def _made(self, found: BtfType, depth: int) -> int:
        builder = self.types.builder
        kind, name, size = found.kind, found.name, found.size_or_type
        if kind is Kind.PTR or kind in MODIFIERS:
            if kind is Kind.PTR and self.btf.type(size).kind in _VOID_POINTER_KINDS:
                return builder.ptr(0)
            return builder.add(kind, name, self._shallow(size, depth))
        if kind is Kind.ARRAY:
            shape = self.btf.array(found)
            rest = (
                self._shallow(shape.type_id, depth),
                self._shallow(shape.index_type_id, depth),
                shape.count,
            )
            return builder.add(kind, rest=struct.pack("<III", *rest))
        if kind is Kind.INT:
            start = self.btf.offset_of(found.id) + 12
            return builder.add(kind, name, size, rest=self.btf.data[start : start + 4])
        # Structs, unions and enums without their parts; forward declarations have none.
        return builder.add(kind, name, size, flag=found.kind_flag and kind is Kind.FWD)


def _identifier(name: str) -> str:
    """BTF takes C identifiers only, of at most 127 characters (KSYM_NAME_LEN was 128 until Linux 6.1)."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)[:127]
    return kept if kept and not kept[0].isdigit() else f"_{kept[:126]}"


def records(words: "array[int]") -> bytes:
    """32-bit words as the kernel takes them on the machine netbpf runs on."""
    assert words.itemsize == 4
    if sys.byteorder == "big":
        words = array("I", words)
        words.byteswap()
    return words.tobytes()
