"""What maps an object defines: BTF definitions in ``.maps``, legacy ``maps`` sections, and global data.

BTF-defined maps follow Linux kernel commit abd29c931459 ("libbpf: allow specifying map definitions using BTF");
legacy ones are arrays of ``struct bpf_map_def`` (libbpf before 1.0) or iproute2's ``struct bpf_elf_map``.
"""

import re
import struct
from bisect import bisect_right
from dataclasses import dataclass, field

from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.bpf.elf import SHT_NOBITS, STT_FUNC, STT_SECTION, Elf, Section
from netbpf.constants import MapFlag, MapType
from netbpf.errors import ObjectError
from netbpf.text import escape

PIN_NONE, PIN_BY_NAME = 0, 1  # enum libbpf_pin_type
PIN_BY_OBJECT = 2  # netbpf's own number for iproute2's PIN_OBJECT_NS: by name, among the maps of this object alone
PIN_REPLACE = 16  # cilium's: by name, and what is there is not used but replaced (bit 4)
# iproute2's numbers (include/bpf_elf.h); higher ones are places that its /etc/iproute2/bpf_pinning names.
_TC_NONE, _TC_OBJECT = 0, 1
_EXTERN = 2  # BTF_VAR_GLOBAL_EXTERN
RINGS = frozenset({MapType.RINGBUF, MapType.USER_RINGBUF})


@dataclass(slots=True)
class MapSpec:
    """A map as its object defines it; sizes in bytes. Plain data: the caller may change it before loading.

    ``legacy_id`` is what iproute2 names a map by within its object; ``initial`` is the content of a global data map;
    ``slots`` names the program or map that a static initialiser puts at an index; ``pinning`` says by
    which name the object asks to be pinned, PIN_NONE for none.
    """

    name: str
    type: int
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0
    numa_node: int = 0
    map_extra: int = 0
    pinning: int = PIN_NONE
    key_type_id: int = 0
    value_type_id: int = 0
    inner: "MapSpec | None" = None
    legacy_id: int = 0
    section: int = 0
    offset: int = 0
    initial: bytearray | None = None
    slots: dict[int, str] = field(default_factory=dict)

    @property
    def is_data(self) -> bool:
        """Whether it holds global variables."""
        return self.initial is not None

    @property
    def read_only(self) -> bool:
        """Whether its variables are frozen before the program loads."""
        return self.is_data and bool(self.flags & MapFlag.RDONLY_PROG)


def data_section_kind(section: Section) -> str | None:
    """ ".bss", ".data" or ".rodata" for a section of global variables (``.data.custom`` too), else None."""
    for kind in (".rodata", ".data", ".bss"):
        if section.name == kind or section.name.startswith(kind + "."):
            return kind
    return None


def collect_maps(elf: Elf, btf: Btf | None) -> dict[str, MapSpec]:
    """Every map of an object by name, in definition order; ObjectError for a definition that makes no sense."""
    maps: dict[str, MapSpec] = {}
    types = {one.name: one.id for one in btf.of_kind(Kind.DATASEC)} if btf else {}
    for section in elf.sections:
        found: list[MapSpec] = []
        if section.name == ".maps":
            found = _btf_maps(elf, section, btf)
        elif section.name == "maps" or section.name.startswith("maps/"):
            found = _legacy_maps(elf, section)
        elif section.size and (kind := data_section_kind(section)):
            found = [_data_map(elf, section, kind, types.get(section.name, 0))]
        for spec in found:
            if spec.name in maps:
                raise elf.fail(f"defines map {escape(spec.name)} twice")
            _settle(spec)
            maps[spec.name] = spec
    return maps


def _settle(spec: MapSpec) -> None:
    """Give a map that carries events the sizes that the kernel wants, whatever types its definition names.

    Definitions may say by ``__type(value, struct event)`` what the events are (cilium/ebpf makes user-space types
    of it). For the kernel a ring buffer has neither keys nor values, and a perf event array has descriptors.
    """
    for one in (spec, spec.inner):
        if one and one.type in RINGS:
            one.key_size = one.value_size = 0
        elif one and one.type == MapType.PERF_EVENT_ARRAY:
            one.key_size = one.value_size = 4


# --- global data ---


def _data_map(elf: Elf, section: Section, kind: str, type_id: int) -> MapSpec:
    flags = MapFlag.MMAPABLE | (MapFlag.RDONLY_PROG if kind == ".rodata" else 0)
    content = (
        bytearray(section.size) if section.type == SHT_NOBITS else bytearray(elf.content(section))
    )
    return MapSpec(
        section.name, MapType.ARRAY, 4, section.size, 1, flags,
        value_type_id=type_id, section=section.number, initial=content,
    )  # fmt: skip


# --- legacy definitions ---

# What follows type, sizes, max_entries and flags in iproute2's struct bpf_elf_map, by the number of words:
# id, pinning; id, pinning, inner_id, inner_idx. Other structs go on with what netbpf need not know.
_OLD_ELF_MAP, _ELF_MAP = 7, 9
_NO_INDEX = 0xFFFFFFFF


def _legacy_maps(elf: Elf, section: Section) -> list[MapSpec]:
    content = elf.content(section)
    symbols = sorted(
        (
            s
            for s in elf.symbols_in(section.number)
            if s.type not in (STT_SECTION, STT_FUNC) and s.name
        ),
        key=lambda symbol: symbol.value,
    )
    if not symbols:
        raise elf.fail(f"section {escape(section.name)} holds maps without names (no symbols)")
    starts = [symbol.value for symbol in symbols] + [len(content)]
    found: list[MapSpec] = []
    outer: list[tuple[MapSpec, int]] = []
    inner: dict[int, list[tuple[MapSpec, int]]] = {}
    for symbol, start, end in zip(symbols, starts, starts[1:], strict=False):
        size = min(end - start, symbol.size or end - start)
        words = size // 4
        if words < 4 or end > len(content):
            raise elf.fail(
                f"map {escape(symbol.name)} has a definition of {size} bytes, at least 16 are needed"
            )
        values = struct.unpack_from(f"<{words}I", content, start)
        spec = MapSpec(symbol.name, *(*values, 0)[:5])
        spec.section, spec.offset = section.number, start
        if words in (_OLD_ELF_MAP, _ELF_MAP):
            spec.legacy_id, pinning = values[5:7]
            if pinning != _TC_NONE:
                spec.pinning = PIN_BY_OBJECT if pinning == _TC_OBJECT else PIN_BY_NAME
        if words == _ELF_MAP:
            inner_id, inner_index = values[7:]
            if spec.type in (MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
                outer.append((spec, inner_id))
            inner.setdefault(spec.legacy_id, []).append((spec, inner_index))
        found.append(spec)
    for spec, number in outer:
        members = inner.get(number, []) if number else []
        if members:
            spec.inner = members[0][0]
        spec.slots |= {index: one.name for one, index in members if index != _NO_INDEX}
    return found


_TAIL = re.compile(r"(0[xX][0-9a-fA-F]{1,8}|\d{1,9})/(0[xX][0-9a-fA-F]{1,8}|\d{1,9})", re.ASCII)


def fill_tails(maps: dict[str, MapSpec], programs: dict[str, str]) -> None:
    """iproute2's way to fill prog arrays: a program in section ``ID/INDEX`` goes into the map of that id.

    ``programs`` are names by section.
    """
    arrays = {m.legacy_id: m for m in maps.values() if m.legacy_id and m.type == MapType.PROG_ARRAY}
    for section, name in programs.items():
        found = _TAIL.fullmatch(section) if arrays else None
        if found:
            number, index = (
                int(text, 16 if text[1:2] in ("x", "X") else 10) for text in found.groups()
            )
            if number in arrays:
                arrays[number].slots.setdefault(index, name)


# --- BTF definitions ---


def _btf_maps(elf: Elf, section: Section, btf: Btf | None) -> list[MapSpec]:
    if btf is None:
        raise elf.fail("defines maps by BTF but has no .BTF section", hint="compile with -g")
    sections = btf.find(".maps", Kind.DATASEC)
    if not sections:
        raise elf.fail("has a .maps section that its BTF does not describe", hint="compile with -g")
    offsets = {symbol.name: symbol.value for symbol in elf.symbols_in(section.number)}
    found = []
    for entry in btf.section_vars(sections[0]):
        variable = btf.type(entry.type_id)
        if variable.kind is not Kind.VAR:
            raise elf.fail("its .maps section holds something that is no variable")
        if btf.linkage(variable) == _EXTERN:
            continue  # another object of the same program defines it
        if btf.linkage(variable) == 0:
            raise elf.fail(
                f"map {escape(variable.name)} is static",
                hint="remove 'static' from the map's definition",
            )
        if variable.name not in offsets:
            raise elf.fail(f"map {escape(variable.name)} has no symbol")
        spec = _Definition(elf, btf, variable.name).read(variable.size_or_type)
        spec.section, spec.offset = section.number, offsets[variable.name]
        found.append(spec)
    return found


_NUMBERS = frozenset("type max_entries map_flags numa_node key_size value_size map_extra".split())


class _Definition:
    """Reads the struct that defines one map."""

    def __init__(self, elf: Elf, btf: Btf, name: str) -> None:
        self.elf, self.btf, self.name = elf, btf, name

    def fail(self, why: str, *, hint: str | None = None) -> ObjectError:
        return self.elf.fail(f"map {escape(self.name)}: {why}", hint=hint)

    def read(self, type_id: int, *, inner: bool = False) -> MapSpec:
        btf = self.btf
        definition = btf.resolve(type_id)
        if definition.kind is not Kind.STRUCT:
            raise self.fail("its definition is not a struct")
        spec = MapSpec(self.name, MapType.UNSPEC)
        for member in btf.members(definition):
            match member.name:
                case name if name in _NUMBERS:
                    number = self._number(name, member.type_id)
                    if not 0 <= number < 1 << (64 if name == "map_extra" else 32):
                        raise self.fail(f"{name} {number} is out of range")
                    attribute = "flags" if name == "map_flags" else name
                    size = getattr(spec, attribute) if name in ("key_size", "value_size") else 0
                    if size not in (0, number):
                        raise self.fail(f"{name} {number} contradicts its type of {size} bytes")
                    setattr(spec, attribute, number)
                case "key":
                    spec.key_type_id, spec.key_size = self._type(
                        member.type_id, "key", spec.key_size
                    )
                case "value":
                    spec.value_type_id, spec.value_size = self._type(
                        member.type_id, "value", spec.value_size
                    )
                case "values":
                    self._values(spec, member.type_id, inner)
                case "pinning":
                    if inner:
                        raise self.fail("an inner map cannot be pinned")
                    number = self._number("pinning", member.type_id)
                    spec.pinning = (
                        (PIN_REPLACE if number & PIN_REPLACE else PIN_BY_NAME)
                        if number
                        else PIN_NONE
                    )
                case other:
                    raise self.fail(f"unknown field '{escape(other)}' in its definition")
        if spec.type == MapType.UNSPEC:
            raise self.fail("its definition names no type")
        return spec

    def _pointee(self, what: str, type_id: int) -> BtfType:
        pointer = self.btf.resolve(type_id)
        if pointer.kind is not Kind.PTR:
            raise self.fail(
                f"field {what} of its definition is not a pointer",
                hint="use the __uint and __type macros",
            )
        return self.btf.resolve(pointer.size_or_type)

    def _number(self, what: str, type_id: int) -> int:
        # __uint(name, value) is `int (*name)[value]`; __ulong(name, value) an anonymous enum's only value.
        if self.btf.resolve(type_id).kind in (Kind.ENUM, Kind.ENUM64):
            values = self.btf.enumerators(self.btf.resolve(type_id))
            if len(values) == 1:
                return values[0][1]
        target = self._pointee(what, type_id)
        if target.kind in (Kind.ENUM, Kind.ENUM64) and target.vlen == 1:
            return self.btf.enumerators(target)[0][1]
        if target.kind is not Kind.ARRAY:
            raise self.fail(
                f"field {what} of its definition is no number", hint="use the __uint macro"
            )
        return self.btf.array(target).count

    def _type(self, type_id: int, what: str, size: int) -> tuple[int, int]:
        pointer = self.btf.resolve(type_id)
        if pointer.kind is not Kind.PTR:
            raise self.fail(
                f"field {what} of its definition is not a pointer", hint="use the __type macro"
            )
        found = self.btf.size(pointer.size_or_type)
        if found >= 1 << 32:
            raise self.fail(f"its {what} type has {found} bytes")
        if size not in (0, found):
            raise self.fail(f"{what}_size {size} contradicts its {what} type of {found} bytes")
        return pointer.size_or_type, found

    def _values(self, spec: MapSpec, type_id: int, inner: bool) -> None:
        if inner:
            raise self.fail("maps nest one level deep only")
        array = self.btf.resolve(type_id)
        if array.kind is not Kind.ARRAY:
            raise self.fail(
                "field values of its definition is not an array", hint="use the __array macro"
            )
        target = self._pointee("values", self.btf.array(array).type_id)
        spec.value_size = 4
        if target.kind is Kind.STRUCT:
            reader = _Definition(self.elf, self.btf, self.name + ".inner")
            spec.inner = reader.read(target.id, inner=True)
        elif target.kind is not Kind.FUNC_PROTO:
            raise self.fail("field values of its definition is neither maps nor programs")


def fill_slots(elf: Elf, maps: dict[str, MapSpec], btf: Btf | None) -> None:
    """Read the static initialisers of prog arrays and maps of maps: relocations against the ``.maps`` section."""
    section = elf.section(".maps")
    if section is None or btf is None:
        return
    owners = sorted(
        (m for m in maps.values() if m.section == section.number), key=lambda spec: spec.offset
    )
    starts = [spec.offset for spec in owners]
    ends = {symbol.name: symbol.value + symbol.size for symbol in elf.symbols_in(section.number)}
    firsts: dict[str, int] = {}
    for relocation in elf.relocations(section):
        position = bisect_right(starts, relocation.offset) - 1
        owner = owners[position] if position >= 0 else None
        if owner is None or relocation.offset >= ends[owner.name] or not relocation.symbol.name:
            raise elf.fail("a static initialiser in .maps belongs to no map")
        if owner.name not in firsts:
            # `values` is the definition's last member: a flexible array of pointers that ends with the symbol.
            firsts[owner.name] = owner.offset + _values_offset(elf, btf, owner)
        index, rest = divmod(relocation.offset - firsts[owner.name], 8)
        if index < 0 or rest:
            raise elf.fail(
                f"a static initialiser of map {escape(owner.name)} lies beside its values"
            )
        owner.slots[index] = relocation.symbol.name


def _values_offset(elf: Elf, btf: Btf, owner: MapSpec) -> int:
    for variable in btf.find(owner.name, Kind.VAR):
        definition = btf.resolve(variable.size_or_type)
        if definition.kind is Kind.STRUCT:
            for member in btf.members(definition):
                if member.name == "values":
                    return member.bit_offset // 8
    raise elf.fail(f"map {escape(owner.name)} is initialised but takes no values")
