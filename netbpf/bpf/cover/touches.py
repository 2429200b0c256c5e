"""What a program asks of its maps: around each call of a helper for maps, instructions that write down the key, what
was found, and what came of it.

They use registers that the call destroys anyway, and memory of their own, so the program goes on as it would have.
"""

import struct
from enum import Enum
from typing import Final, NamedTuple

from netbpf.bpf import insn as bpf
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.cover.flow import Flow
from netbpf.bpf.cover.insert import Around
from netbpf.bpf.cover.maprefs import maps_of_calls
from netbpf.bpf.cover.ring import HEAD, LOAD, STORE, STORE64_IMM, Ring
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import ARRAY_MAPS, FD_MAPS, HASH_MAPS, MapType

_JEQ: Final = 0x15
# An entry: the site, what the helper gave back, the key, the value that was found. Bytes.
_SITE, _RESULT, _KEY, _VALUE, _ENTRY = 0, 8, 16, 144, 512
_ENTRIES: Final = 256
MAX_KEY: Final = _VALUE - _KEY
MAX_VALUE: Final = 256  # bytes that are kept of a value
_OPEN: Final = 0x7E57AB1E  # a result that no helper gives: the call did not come back
_R0, _R1, _R2, _R3, _R5 = 0, 1, 2, 3, 5
# Where a value can be looked at behind what a lookup gives.
_VALUES: Final = (HASH_MAPS | ARRAY_MAPS | {MapType.LPM_TRIE}) - FD_MAPS


class Does(Enum):
    """What a helper does with a map."""

    LOOKUP = "lookup"
    UPDATE = "update"
    DELETE = "delete"
    REDIRECT = "redirect"
    TAIL_CALL = "tail call"


_HELPERS: Final = {
    1: Does.LOOKUP, 2: Does.UPDATE, 3: Does.DELETE, 12: Does.TAIL_CALL, 51: Does.REDIRECT, 195: Does.LOOKUP,
}  # fmt: skip
# The register with the map, the one with the key, and whether the key is behind it; r0 and r5 are free at all of them.
_ARGUMENTS: Final = {Does.TAIL_CALL: (_R2, _R3, False), Does.REDIRECT: (_R1, _R2, False)}
_USUAL: Final = (_R1, _R2, True)


class Site(NamedTuple):
    """A call of a helper for maps: at an instruction of the code as it is with what was put around it.

    ``map`` is "" where the instructions do not say which; then there are no key and no value.
    """

    at: int
    does: Does
    map: str
    key_size: int
    value_size: int


class Touched(NamedTuple):
    """One call that was made, at the site ``number``. ``key`` is None where it could not be written down; ``value`` is
    what a lookup found.

    ``result`` is what the helper gave back, for lookups 0 or an address; None where control did not come back.
    """

    number: int
    site: Site
    key: bytes | None
    value: bytes | None
    result: int | None


def ring() -> Ring:
    """What the calls are written to. Raises KernelError."""
    return Ring(_ENTRY, _ENTRIES)


def touched(entry: bytes, sites: list[Site]) -> Touched:
    """What an entry says; ``sites`` are all there are, in the order of their numbers."""
    number, result = struct.unpack_from("<Qq", entry)
    site = sites[number]
    returned = None if result == _OPEN else result
    key = value = None
    if site.key_size:
        key = entry[_KEY : _KEY + site.key_size]
    if site.value_size and returned:
        value = entry[_VALUE : _VALUE + site.value_size]
    return Touched(number, site, key, value, returned)


def around(
    spec: ObjectSpec, image: Image, flow: Flow, log: Ring, first: int, *, values: bool
) -> tuple[dict[int, Around], list[Site]]:
    """What to put around which instructions, and the sites, numbered from ``first``, at their old instructions.

    ``values``: also write down what lookups find.
    """
    places: dict[int, Around] = {}
    sites: list[Site] = []
    for at, registers in sorted(maps_of_calls(image, flow).items()):
        does = _HELPERS.get(bpf.read(image.insns, at).imm)
        if does is None:
            continue
        where, key, behind = _ARGUMENTS.get(does, _USUAL)
        made = spec.maps.get(registers[where])
        key_size = value_size = 0
        if made is not None and made.key_size <= MAX_KEY:
            key_size = made.key_size
            plain = made.type in _VALUES and not _guarded(spec.btf, made.value_type_id)
            if values and does is Does.LOOKUP and plain:
                value_size = min(made.value_size, MAX_VALUE)
        site = Site(at, does, made.name if made else "", key_size, value_size)
        number = first + len(sites)
        places[at] = Around(_before(log, number, site, key, behind=behind), _behind(log, site))
        sites.append(site)
    return places, sites


def _guarded(btf: Btf | None, type_id: int) -> bool:
    """Whether a value has a part that the verifier lets no program read: a lock, a timer, a list (``struct bpf_*``), or
    perhaps a pointer."""
    if btf is None or not type_id:
        return False
    one = btf.resolve(type_id)
    if one.kind is Kind.ARRAY:
        return _guarded(btf, btf.array(one).type_id)
    if one.kind is Kind.PTR:
        return True
    if one.kind not in (Kind.STRUCT, Kind.UNION):
        return False
    return one.name.startswith("bpf_") or any(
        _guarded(btf, each.type_id) for each in btf.members(one)
    )


def _before(log: Ring, number: int, site: Site, key: int, *, behind: bool) -> list[Insn]:
    out = [
        *log.begin(_R0, _R5),
        Insn(STORE64_IMM, _R0, off=HEAD + _SITE, imm=number),
        Insn(STORE64_IMM, _R0, off=HEAD + _RESULT, imm=_OPEN),
    ]
    if not site.key_size:
        return out
    if not behind:
        return [*out, Insn(STORE[8], _R0, key, off=HEAD + _KEY)]
    # Byte by byte: on the stack and in packets the verifier wants loads to be aligned, and a key may lie anywhere.
    for at in range(site.key_size):
        out += [Insn(LOAD[1], _R5, key, off=at), Insn(STORE[1], _R0, _R5, off=HEAD + _KEY + at)]
    return out


def _behind(log: Ring, site: Site) -> list[Insn]:
    out = log.again(_R1, _R2)
    if site.does is Does.TAIL_CALL:  # it gives nothing back, and who comes here has not jumped
        return [*out, Insn(STORE64_IMM, _R1, off=HEAD + _RESULT)]
    out.append(Insn(STORE[8], _R1, _R0, off=HEAD + _RESULT))
    copied = []
    at = 0
    while at < site.value_size:
        width = next(one for one in (8, 4, 2, 1) if at + one <= site.value_size)
        copied += [
            Insn(LOAD[width], _R2, _R0, off=at),
            Insn(STORE[width], _R1, _R2, off=HEAD + _VALUE + at),
        ]
        at += width
    if copied:
        out += [Insn(_JEQ, _R0, off=len(copied)), *copied]
    return out
