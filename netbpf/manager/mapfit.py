"""Whether a map that exists can serve as one that an object defines."""

from collections.abc import Iterator

from netbpf.bpf.btf.compare import difference
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.mapsizes import entries
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import btf_by_id
from netbpf.constants import MapFlag, MapType
from netbpf.errors import ObjectError
from netbpf.text import escape

_DEVMAPS = (MapType.DEVMAP, MapType.DEVMAP_HASH)


def mismatches(spec: MapSpec, live: Map) -> list[str]:
    """In what a live map differs from its definition, but for its number of entries and its types."""
    info = live.info
    return [
        f"{what} {there} instead of {wanted}"
        for what, there, wanted in (
            ("type", _type(info.type), _type(spec.type)),
            ("key size", info.key_size, spec.key_size),
            ("value size", info.value_size, spec.value_size),
            ("flags", _flags(_own_flags(info.flags, spec)), _flags(_own_flags(spec.flags, spec))),
        )
        if there != wanted
    ]


def check_fit(object_spec: ObjectSpec, spec: MapSpec, live: Map, source: str) -> list[str]:
    """ObjectError naming the difference where ``live`` cannot serve as ``spec``; else what is to be said of it.

    ``source`` is where the live map comes from, in words.
    """
    name, origin = escape(spec.name), object_spec.elf.origin
    what = f"{source} cannot be map {name} of {origin}"
    found = mismatches(spec, live)
    if found:
        raise ObjectError(f"{what}: {', '.join(found)}")
    for ours, theirs, word in _types(spec, live):
        found_type = _difference(object_spec.btf, ours, live, theirs, word)
        if found_type:
            raise ObjectError(
                f"{what}: {found_type}",
                hint="the first is what is there, the second what the object wants",
            )
    if spec.read_only:
        _check_content(object_spec.btf, spec, live, what)
    return list(_remarks(spec, live, source))


# --- types ---


def _types(spec: MapSpec, live: Map) -> Iterator[tuple[int, int, str]]:
    info = live.info
    if not info.btf_id:
        return
    if spec.key_type_id and info.btf_key_type_id:
        yield spec.key_type_id, info.btf_key_type_id, "its key"
    if spec.value_type_id and info.btf_value_type_id:
        # Variables have names of their own.
        yield spec.value_type_id, info.btf_value_type_id, "" if spec.is_data else "its value"


def _difference(btf: Btf | None, ours: int, live: Map, theirs: int, word: str) -> str | None:
    try:
        there = btf_by_id(live.info.btf_id)
        if btf is None or there is None:
            return None
        return difference(there, theirs, btf, ours, name=word)
    except ObjectError:
        return None  # types that make no sense tell nothing; the sizes are the same


# --- constants ---


def _check_content(btf: Btf | None, spec: MapSpec, live: Map, what: str) -> None:
    """The verifier takes what is in a frozen section for constants: the object's code relies on them."""
    if not live.frozen:
        raise ObjectError(f"{what}: it is not frozen, so its values are no constants")
    there = live.lookup(bytes(4)) or b""
    assert spec.initial is not None
    if there == bytes(spec.initial):
        return
    at = next(
        number for number, (a, b) in enumerate(zip(there, spec.initial, strict=True)) if a != b
    )
    variable = _variable(btf, spec, at)
    which = f"variable {escape(variable)}" if variable else f"the byte at {at}"
    raise ObjectError(
        f"{what}: {which} has another value there, and constants cannot change any more",
        hint="give it the same value with --set",
    )


def _variable(btf: Btf | None, spec: MapSpec, at: int) -> str:
    if btf is None or not spec.value_type_id:
        return ""
    for one in btf.section_vars(btf.type(spec.value_type_id)):
        if one.offset <= at < one.offset + one.size:
            return btf.type(one.type_id).name
    return ""


# --- words ---


def _remarks(spec: MapSpec, live: Map, source: str) -> Iterator[str]:
    wanted, there = entries(spec), live.info.max_entries
    if wanted != there:
        yield f"map {escape(spec.name)}: {source} has room for {there} entries, the object asks for {wanted}"
    if spec.slots:
        yield f"map {escape(spec.name)}: what the object puts into it at the start stays away: it is shared"


def _own_flags(flags: int, spec: MapSpec) -> int:
    if spec.type in _DEVMAPS:
        # The kernel adds it to what the object says (kernel/bpf/devmap.c, dev_map_init_map).
        flags &= ~MapFlag.RDONLY_PROG
    if spec.is_data:
        flags &= ~MapFlag.MMAPABLE  # a comfort, which old kernels do not have
    return flags


def _flags(flags: int) -> str:
    known = [one.name.lower() for one in MapFlag if one & flags and one.name]
    rest = flags & ~sum(one for one in MapFlag)
    words = known + ([f"{rest:#x}"] if rest else [])
    return "|".join(words) or "0"


def _type(number: int) -> str:
    try:
        return MapType(number).name.lower()
    except ValueError:
        return str(number)
