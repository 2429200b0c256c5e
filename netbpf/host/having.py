"""Whether this kernel has one thing that somebody names: a helper, a kernel function, a type, a way to attach."""

from contextlib import suppress
from typing import Final, NamedTuple

from netbpf.bpf.probes import Told
from netbpf.errors import NetbpfError
from netbpf.host import kernel_names
from netbpf.host.features import LOUD, Features
from netbpf.text import did_you_mean

HELPER: Final = "helper"
KFUNC: Final = "kernel function"
PROGRAM: Final = "program type"
MAP: Final = "map type"
ATTACH: Final = "attach kind"
MISC: Final = "feature"
_PREFIXES: Final = {
    "bpf_prog_type_": PROGRAM, "bpf_map_type_": MAP, "bpf_func_": HELPER, "program:": PROGRAM, "prog:": PROGRAM,
    "map:": MAP, "attach:": ATTACH, "helper:": HELPER, "kfunc:": KFUNC, "feature:": MISC,
}  # fmt: skip
_ENDINGS: Final = {"_prog_type": PROGRAM, "_map_type": MAP}


class Has(NamedTuple):
    """The answer about ``name``: ``kind`` is what it is, "" for what this kernel does not name at all.

    ``types`` are the program types that may call a helper or kernel function.
    """

    name: str
    kind: str
    here: bool | None
    why: str = ""
    types: tuple[str, ...] = ()


def has(features: Features, name: str, program_type: str | None = None) -> list[Has]:
    """What of this name there is, each; ``sk_lookup`` is a program type and a way to attach.

    ``program_type``: only what its programs may call. Never empty.
    """
    plain, only = _plain(name)
    found = []
    if program_type is not None:
        program_type = features.type_name(program_type)
    function = plain if plain.startswith("bpf_") or only is KFUNC else f"bpf_{plain}"
    if only in (None, HELPER) and function in kernel_names.helpers().values():
        found.append(_helper(features, function, program_type))
    if program_type is None:
        for kind in (PROGRAM, MAP, ATTACH, MISC):
            if only in (None, kind) and plain in (part := _part(features, kind)):
                told = part[plain]
                found.append(Has(plain, kind, told.here, told.why))
    if only in (None, KFUNC) and not found:
        found += _kfunc(features, plain, program_type)
    return found or [Has(name, "", False, _unknown(features, plain))]


def _plain(name: str) -> tuple[str, str | None]:
    """A name as netbpf has it, and what it is if it says so: ``BPF_MAP_TYPE_RINGBUF``, ``have_xdp_prog_type``."""
    plain = name.lower() if name.startswith(("BPF_", "have_")) else name
    for prefix, kind in _PREFIXES.items():
        if plain.startswith(prefix):
            return plain.removeprefix(prefix), kind
    if plain.startswith("have_"):
        plain = plain.removeprefix("have_")
        for ending, kind in _ENDINGS.items():
            if plain.endswith(ending):
                return plain.removesuffix(ending), kind
    return plain, None


def _part(features: Features, kind: str) -> dict[str, Told]:
    if kind is PROGRAM:
        return features.program_types
    if kind is MAP:
        return features.map_types
    return features.attach_kinds if kind is ATTACH else features.misc


def _helper(features: Features, name: str, program_type: str | None) -> Has:
    types = [program_type] if program_type else list(features.program_types)
    told = {one: features.helper(name, one) for one in types}
    return _callable(name, HELPER, told, program_type)


def _kfunc(features: Features, name: str, program_type: str | None) -> list[Has]:
    try:
        found = features.kfuncs.get(name)
    except NetbpfError as error:
        return [Has(name, KFUNC, None, error.message)]
    if found is None:
        return []
    told = {one: answer for one, answer in found.types.items() if program_type in (None, one)}
    return [_callable(name, KFUNC, told, program_type)]


def _callable(name: str, kind: str, told: dict[str, Told], only: str | None) -> Has:
    types = tuple(one for one, answer in told.items() if answer.here)
    here = True if types else False if any(one.here is False for one in told.values()) else None
    first = next(iter(told.values()), Told(None))
    if here:
        why = first.why if only else ""
    else:
        why = first.why if only else "no program may call it"
    return Has(name, kind, here, why, types)


def _unknown(features: Features, name: str) -> str:
    known = {*kernel_names.helpers().values(), *features.program_types, *features.map_types, *features.attach_kinds,
             *features.misc}  # fmt: skip
    with suppress(NetbpfError):  # without BTF there are no names of kernel functions
        known |= set(features.kfuncs)
    near = did_you_mean(name, known - LOUD, "")
    words = "this kernel has nothing of that name"
    return f"{words}; {near}" if near and near.startswith("did") else words
