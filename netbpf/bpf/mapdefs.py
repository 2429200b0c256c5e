"""What maps an object defines: BTF definitions in ``.maps``, legacy ``maps`` sections, and global data.

BTF-defined maps follow Linux kernel commit abd29c931459 ("libbpf: allow specifying map definitions using BTF");
legacy ones are arrays of ``struct bpf_map_def`` (libbpf before 1.0) or iproute2's ``struct bpf_elf_map``.
"""

import struct
from dataclasses import dataclass, field

from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.bpf.elf import SHT_NOBITS, STT_FUNC, STT_SECTION, Elf, Section
from netbpf.constants import MapFlag, MapType
from netbpf.errors import ObjectError
from netbpf.text import escape

PIN_NONE, PIN_BY_NAME = 0, 1  # enum libbpf_pin_type


@dataclass(slots=True)
class MapSpec:
    """A map as its object defines it; sizes in bytes. Plain data: the caller may change it before loading.

    ``initial`` is the content of a global data map; ``slots`` names the program or map that a static initialiser
    puts at an index; ``pinning`` is 1 where the object asks to be pinned by name (iproute2's values as they stand).
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
    for section in elf.sections:
        found: list[MapSpec] = []
        if section.name == ".maps":
            found = _btf_maps(elf, section, btf)
        elif section.name == "maps" or section.name.startswith("maps/"):
            found = _legacy_maps(elf, section)
        elif section.size and (kind := data_section_kind(section)):
            found = [_data_map(elf, section, kind, btf)]
        for spec in found:
            if spec.name in maps:
                raise elf.fail(f"defines map {escape(spec.name)} twice")
            maps[spec.name] = spec
    return maps


# --- global data ---


def _data_map(elf: Elf, section: Section, kind: str, btf: Btf | None) -> MapSpec:
    flags = MapFlag.MMAPABLE | (MapFlag.RDONLY_PROG if kind == ".rodata" else 0)
    content = (
        bytearray(section.size) if section.type == SHT_NOBITS else bytearray(elf.content(section))
    )
    types = btf.find(section.name, Kind.DATASEC) if btf else []
    return MapSpec(
        section.name, MapType.ARRAY, 4, section.size, 1, flags,
        value_type_id=types[0].id if types else 0, section=section.number, initial=content,
    )  # fmt: skip


# --- legacy definitions ---

_DEF_FIELDS = ("type", "key_size", "value_size", "max_entries", "flags")


def _legacy_maps(elf: Elf, section: Section) -> list[MapSpec]:
    content = elf.content(section)
    symbols = sorted(
        (
            s
            for s in elf.symbols
            if s.section == section.number and s.type not in (STT_SECTION, STT_FUNC) and s.name
        ),
        key=lambda symbol: symbol.value,
    )
    if not symbols:
        raise elf.fail(f"section {escape(section.name)} holds maps without names (no symbols)")
    starts = [symbol.value for symbol in symbols] + [len(content)]
    found = []
    for symbol, start, end in zip(symbols, starts, starts[1:], strict=False):
        words = (end - start) // 4
        if words < len(_DEF_FIELDS) or end > len(content):
            raise elf.fail(
                f"map {escape(symbol.name)} has a definition of {end - start} bytes, at least 20 are needed"
            )
        values = struct.unpack_from(f"<{words}I", content, start)
        kind, key_size, value_size, max_entries, flags = values[:5]
        spec = MapSpec(
            symbol.name, kind, key_size, value_size, max_entries, flags, section=section.number, offset=start
        )  # fmt: skip
        # struct bpf_elf_map goes on with id, pinning, inner_id, inner_idx; bpf_map_def variants with zeros.
        if words >= 7:
            spec.pinning = values[6]
        found.append(spec)
    return found


# --- BTF definitions ---


def _btf_maps(elf: Elf, section: Section, btf: Btf | None) -> list[MapSpec]:
    if btf is None:
        raise elf.fail("defines maps by BTF but has no .BTF section", hint="compile with -g")
    sections = btf.find(".maps", Kind.DATASEC)
    if not sections:
        raise elf.fail("has a .maps section that its BTF does not describe", hint="compile with -g")
    offsets = {
        symbol.name: symbol.value for symbol in elf.symbols if symbol.section == section.number
    }
    found = []
    for entry in btf.section_vars(sections[0]):
        variable = btf.type(entry.type_id)
        if variable.kind is not Kind.VAR:
            raise elf.fail("its .maps section holds something that is no variable")
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
                case (
                    "type"
                    | "max_entries"
                    | "map_flags"
                    | "numa_node"
                    | "key_size"
                    | "value_size"
                    | "map_extra"
                ):
                    number = self._number(member.name, member.type_id)
                    attribute = "flags" if member.name == "map_flags" else member.name
                    if attribute in ("key_size", "value_size") and getattr(spec, attribute) not in (
                        0,
                        number,
                    ):
                        raise self.fail(f"{attribute} {number} contradicts the size of its type")
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
                    spec.pinning = self._number("pinning", member.type_id)
                case other:
                    raise self.fail(f"unknown field {escape(other)!r} in its definition")
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
    for relocation in elf.relocations(section):
        owner = next((m for m in reversed(owners) if m.offset <= relocation.offset), None)
        size = next(
            (
                s.size
                for s in elf.symbols
                if owner and s.section == section.number and s.name == owner.name
            ),
            0,
        )
        if owner is None or relocation.offset >= owner.offset + size or not relocation.symbol.name:
            raise elf.fail("a static initialiser in .maps belongs to no map")
        # `values` is the definition's last member: a flexible array of pointers that ends with the symbol.
        first = owner.offset + _values_offset(elf, btf, owner)
        owner.slots[(relocation.offset - first) // 8] = relocation.symbol.name


def _values_offset(elf: Elf, btf: Btf, owner: MapSpec) -> int:
    for variable in btf.find(owner.name, Kind.VAR):
        definition = btf.resolve(variable.size_or_type)
        if definition.kind is Kind.STRUCT:
            for member in btf.members(definition):
                if member.name == "values":
                    return member.bit_offset // 8
    raise elf.fail(f"map {escape(owner.name)} is initialised but takes no values")
