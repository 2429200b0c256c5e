"""Reading live values: with the map's lock where its values have one."""

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.btf.shape import Form, Shape, shape
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.map import Map
from netbpf.bpf.mapdefs import MapSpec
from netbpf.carry.convert import LOCKS

BPF_F_LOCK = 4  # include/uapi/linux/bpf.h: take the value's spin lock around the copy (Linux 5.1)


def lock_offset(btf: Btf | None, spec: MapSpec) -> int | None:
    """Where in its values a map has a spin lock, in bytes; None where it has none."""
    if btf is None or not spec.value_type_id:
        return None
    return _lock_in(shape(btf, spec.value_type_id))


def _lock_in(of: Shape) -> int | None:
    if of.base in LOCKS and not of.dims:
        return 0
    if of.form is Form.STRUCT:
        for one in of.fields.values():
            inside = _lock_in(one.shape)
            if inside is not None:
                return one.offset + inside
    return None


def value_flags(btf: Btf | None, spec: MapSpec) -> int:
    """The flags with which a map's values are to be read."""
    return 0 if lock_offset(btf, spec) is None else BPF_F_LOCK


def read(live: Map, key: bytes, flags: int = 0) -> bytes | None:
    """One value, those of all CPUs for a per-CPU map; None where there is none."""
    return sys_bpf.map_lookup(live.fd.fileno(), key, live.entry_size, flags)


def read_section(live: Map, flags: int = 0) -> bytes:
    """The content of a section of variables."""
    return read(live, bytes(4), flags) or bytes(live.entry_size)
