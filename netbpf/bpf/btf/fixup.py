"""Making an object's BTF what the kernel accepts, in place.

clang leaves to the loader: sizes and variable offsets of DATASECs, and extern variables and functions, which the
kernel's BTF verifier does not know (kernel/bpf/btf.c: btf_var_check_meta, btf_func_check).
"""

import struct
from collections.abc import Callable
from itertools import pairwise

from netbpf.bpf.btf.types import Btf, BtfType, Kind
from netbpf.errors import ObjectError
from netbpf.text import escape

_U32 = struct.Struct("<I")
_STATIC, _GLOBAL, _EXTERN = 0, 1, 2
_MAX_KCONFIG = 1 << 20  # bytes of all .kconfig variables of an object


def fix_sections(
    data: bytes,
    section_size: Callable[[str], int | None],
    symbol_offset: Callable[[str, str], int | None],
) -> Btf:
    """BTF with the sizes and offsets of the object's sections and symbols filled in.

    ``section_size(name)`` and ``symbol_offset(section, name)`` answer in bytes, or None where there is none.
    """
    btf = Btf(data)
    out = bytearray(data)
    for section in btf.of_kind(Kind.DATASEC):
        start = btf.offset_of(section.id)
        size = section_size(section.name)
        if size is not None:
            _U32.pack_into(out, start + 8, size)
        entries = []
        for entry in btf.section_vars(section):
            variable = btf.type(entry.type_id)
            offset = entry.offset
            if variable.kind is Kind.VAR and btf.linkage(variable) != _STATIC:
                # A static variable's offset stands already; its name may not even be unique.
                found = symbol_offset(section.name, variable.name)
                offset = offset if found is None else found
                if offset >= 1 << 32:
                    raise ObjectError(f"variable {escape(variable.name)} lies at offset {offset}")
            entries.append((offset, entry.type_id, entry.size))
        entries.sort()
        _check_apart(btf, section.name, entries)
        for index, (offset, type_id, length) in enumerate(entries):
            struct.pack_into("<III", out, start + 12 + 12 * index, type_id, offset, length)
    return Btf(bytes(out))


def _check_apart(btf: Btf, section: str, entries: list[tuple[int, int, int]]) -> None:
    """Variables that share bytes would change one another; ``entries`` are (offset, VAR, bytes), sorted.

    The kernel refuses such a section too (btf_datasec_check_meta), and the object would go without all of its types.
    """
    for (offset, one, size), (behind, other, _) in pairwise(entries):
        if section.startswith((".bss", ".data", ".rodata")) and offset + size > behind:
            first, second = (escape(btf.type(each).name) for each in (one, other))
            raise ObjectError(f"variables {first} and {second} of {escape(section)} overlap")


def for_kernel(btf: Btf, static_functions: frozenset[str]) -> bytes:
    """The same BTF with externs turned into what the kernel takes; ids and length stay.

    ``static_functions`` are global functions of hidden visibility: the verifier is to check them together with
    their callers, not on their own, which BTF says by static linkage.
    """
    out = bytearray(btf.data)
    number = next((one.id for one in btf.of_kind(Kind.INT) if one.size_or_type == 4), None)
    for one in btf.of_kind(Kind.DATASEC, Kind.VAR, Kind.FUNC):
        start = btf.offset_of(one.id)
        if one.kind is Kind.DATASEC and one.name == ".ksyms" and number is not None:
            _hollow_struct(out, one, start, number)
        elif one.kind is Kind.DATASEC and one.name == ".kconfig":
            _lay_out_kconfig(btf, out, one, start)
        elif one.kind is Kind.VAR and btf.linkage(one) == _EXTERN:
            _U32.pack_into(out, start + 12, _GLOBAL)
            if number is not None and btf.resolve(one.size_or_type).kind is Kind.VOID:
                _U32.pack_into(out, start + 8, number)
        elif one.kind is Kind.FUNC and btf.linkage(one) == _EXTERN:
            _set_vlen(out, start, _GLOBAL)
            _name_params(btf, out, one)
        elif one.kind is Kind.FUNC and one.name in static_functions:
            _set_vlen(out, start, _STATIC)
    return bytes(out)


def for_old_kernel(data: bytes) -> bytes:
    """BTF without the kinds that came after Linux 5.2, each replaced by an older one of the same length.

    Declaration tags (5.16), type tags (5.17), floats (5.13), ENUM64 (6.0) and the linkage of functions (5.6); ids
    stay, so that everything else still refers to the right types.
    """
    btf = Btf(data)
    out = bytearray(data)
    number = next((one.id for one in btf.types() if one.kind is Kind.INT), 0)
    for one in btf.types():
        start = btf.offset_of(one.id)
        match one.kind:
            case Kind.DECL_TAG:
                struct.pack_into("<III", out, start + 4, Kind.INT << 24, 1, 8)
            case Kind.TYPE_TAG:
                struct.pack_into("<II", out, start, 0, Kind.CONST << 24)
            case Kind.FLOAT:
                struct.pack_into("<II", out, start, 0, Kind.STRUCT << 24)
            case Kind.ENUM64:
                struct.pack_into("<II", out, start, 0, Kind.UNION << 24 | one.vlen)
                for index in range(one.vlen):
                    struct.pack_into("<III", out, start + 12 + 12 * index, 0, number, 0)
            case Kind.FUNC:
                _set_vlen(out, start, _STATIC)
            case _:
                pass
    return bytes(out)


def kconfig_layout(btf: Btf) -> tuple[int, dict[str, tuple[int, int]]]:
    """How netbpf lays out the map behind ``.kconfig``: its size, and each variable's (offset, VAR id). Bytes."""
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for section in btf.find(".kconfig", Kind.DATASEC):
        for entry in btf.section_vars(section):
            variable = btf.type(entry.type_id)
            start = (end + 7) & ~7
            end = start + btf.size(variable.size_or_type)
            if end > _MAX_KCONFIG:
                raise ObjectError(
                    f".kconfig variable {escape(variable.name)} has {end - start} bytes"
                )
            places[variable.name] = (start, variable.id)
    return end, places


def _lay_out_kconfig(btf: Btf, out: bytearray, section: BtfType, start: int) -> None:
    size, places = kconfig_layout(btf)
    _U32.pack_into(out, start + 8, size)
    for index, (offset, type_id) in enumerate(sorted(places.values())[: section.vlen]):
        entry = (type_id, offset, btf.size(type_id))
        struct.pack_into("<III", out, start + 12 + 12 * index, *entry)


def _set_vlen(out: bytearray, start: int, vlen: int) -> None:
    info = _U32.unpack_from(out, start + 4)[0]
    _U32.pack_into(out, start + 4, (info & ~0xFFFF) | vlen)


def _hollow_struct(out: bytearray, section: BtfType, start: int, number: int) -> None:
    """A DATASEC may hold no functions, so `.ksyms` becomes a nameless struct: its records have the same 12 bytes."""
    struct.pack_into("<III", out, start, 0, Kind.STRUCT << 24 | section.vlen, 4)
    for index in range(section.vlen):
        struct.pack_into("<III", out, start + 12 + 12 * index, 0, number, 0)


def _name_params(btf: Btf, out: bytearray, function: BtfType) -> None:
    """Parameters of a FUNC need names (btf_func_check); declarations often have none, so they borrow the function's."""
    name = _U32.unpack_from(out, btf.offset_of(function.id))[0]
    prototype = btf.type(function.size_or_type)
    if prototype.kind is not Kind.FUNC_PROTO:
        raise ObjectError(f"BTF function {escape(function.name)} has a type that is no prototype")
    start = btf.offset_of(prototype.id) + 12
    for index, param in enumerate(btf.params(prototype)):
        if param.type_id and not param.name:
            _U32.pack_into(out, start + 8 * index, name)
