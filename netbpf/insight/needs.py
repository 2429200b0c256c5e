"""Whether this kernel has what a program wants: asked of the kernel, never guessed from its version."""

import dataclasses
import errno

from netbpf._sys.probing import ProgramProbe
from netbpf.bpf import probes
from netbpf.bpf.helpers import helper_name
from netbpf.bpf.mapdefs import RINGS, MapSpec
from netbpf.bpf.mapload import create
from netbpf.constants import AttachType, MapType, ProgType
from netbpf.errors import KernelError, NetbpfError, PermissionDeniedError
from netbpf.insight import instruction_sets
from netbpf.insight.kallsyms import has_symbol
from netbpf.insight.model import Need

# They need BTF, or the objects they belong to, to be made at all, whatever a definition says.
_NOT_ALONE = frozenset({
    MapType.STRUCT_OPS, MapType.ARENA, MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE,
    MapType.CGRP_STORAGE, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.ARRAY_OF_MAPS,
    MapType.HASH_OF_MAPS,
})  # fmt: skip


class Prober:
    """Asks the kernel, each question once."""

    def __init__(self, license_text: str) -> None:
        """``license_text`` is the object's: some helpers are only for programs under the GPL."""
        self._probe = ProgramProbe(license_text)
        self._gpl = ProgramProbe()
        self._helpers: dict[tuple[int, int, int], Need] = {}
        self._features: dict[str, Need] = {}
        self._types: dict[tuple[int, int], Need] = {}

    def helper(self, number: int, kind: ProgType, attach: AttachType) -> Need:
        """Whether a program of some type may call a helper."""
        key = (number, kind, attach)
        if key not in self._helpers:
            self._helpers[key] = self._ask_helper(number, kind, attach)
        return self._helpers[key]

    def _ask_helper(self, number: int, kind: ProgType, attach: AttachType) -> Need:
        name = helper_name(number) or f"helper {number}"
        if kind in probes.OF_ONE_PLACE:
            return Need(name, None)
        told = probes.helper(self._probe, number, kind, attach)
        return Need(name, told.here, why=told.why)

    def feature(self, name: str) -> Need:
        """Whether this kernel takes an addition to the instruction set."""
        if name not in self._features:
            here = instruction_sets.probe(name)
            self._features[name] = Need(name, here, instruction_sets.since(name))
        return self._features[name]

    def program_type(self, kind: ProgType, attach: AttachType, shown: str) -> Need:
        """Whether this kernel has a program type, with its attach type."""
        key = (kind, attach)
        if key not in self._types:
            self._types[key] = Need(f"{shown} programs", self._ask_type(kind, attach))
        return self._types[key]

    def frags(self) -> Need:
        """Whether XDP programs may take packets in several parts."""
        here = probes.xdp_frags(self._gpl)
        return Need("xdp.frags", here, "5.18")

    def _ask_type(self, kind: ProgType, attach: AttachType) -> bool | None:
        if kind in probes.OF_ONE_PLACE:
            return None
        return probes.program_type(self._gpl, kind, attach).here


def kernel_function(name: str, *, weak: bool) -> Need:
    """Whether the kernel has a function or variable that a program names: by its types, or as a bare symbol."""
    from netbpf.bpf.btf.kernel import kernel_btf
    from netbpf.bpf.btf.types import Kind

    plain = name.partition("___")[0]
    try:
        here: bool | None = bool(kernel_btf().find(plain, Kind.FUNC, Kind.VAR)) or has_symbol(plain)
    except NetbpfError:
        here = None
    why = "" if here is not False else "the program can do without" if weak else "it will not load"
    return Need(name, here, why=why, optional=weak)


def map_here(spec: MapSpec) -> tuple[bool | None, str]:
    """Whether this kernel makes such a map, and if not why: one of the same kind is made, as small as can be."""
    if spec.type in _NOT_ALONE:
        told = probes.map_type(spec.type)
        return told.here, told.why if told.here is False else ""
    few = 4096 if spec.type in RINGS else min(spec.max_entries, 1)
    small = dataclasses.replace(spec, max_entries=few, initial=None, slots={}, numa_node=0)
    if spec.type == MapType.PERF_EVENT_ARRAY:
        small.max_entries = 1
    try:
        create(small, "", None).close()
    except PermissionDeniedError:
        return None, ""
    except KernelError as error:
        return (None, "") if error.errno == errno.ENOMEM else (False, error.message)
    except NetbpfError as error:
        return False, error.message
    return True, ""


# license_is_gpl_compatible, include/linux/license.h
_GPL = frozenset({
    "GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL",
})  # fmt: skip


def gpl_compatible(text: str) -> bool:
    """Whether the kernel counts a license as compatible with the GPL."""
    return text in _GPL
