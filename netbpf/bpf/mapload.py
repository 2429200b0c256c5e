"""Creating the maps of an object."""

import errno
import re

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf._sys.memlock import without_memlock_limit
from netbpf.bpf.map import Map, possible_cpus
from netbpf.bpf.mapdefs import MapSpec
from netbpf.bpf.mapsizes import entries
from netbpf.constants import FD_MAPS, MapFlag, MapType
from netbpf.errors import KernelError, NetbpfError, NotSupportedError, ObjectError
from netbpf.text import escape

# The kernel takes no BTF for these (their map_check_btf is missing or refuses).
_NO_BTF = FD_MAPS | {
    MapType.STACK_TRACE, MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP, MapType.SOCKMAP,
    MapType.SOCKHASH, MapType.QUEUE, MapType.STACK, MapType.RINGBUF, MapType.USER_RINGBUF,
}  # fmt: skip

# The kernel wants max_entries 0 of these: they are as large as there are sockets, tasks ...
_WITHOUT_SIZE = frozenset({
    MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.SK_STORAGE, MapType.INODE_STORAGE,
    MapType.TASK_STORAGE, MapType.CGRP_STORAGE,
})  # fmt: skip
_OF_MAPS = frozenset({MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS})


def kernel_name(prefix: str, name: str) -> str:
    """The name the kernel gets, at most 15 characters: as libbpf names maps, ``xdp_coun.bss`` for global data."""
    # Names such as .data.custom stay as they are.
    if name.startswith(".") and name.count(".") == 1:
        name = prefix[: max(15 - max(len(name), 7), 0)] + name
    return re.sub(r"[^A-Za-z0-9_.]", "_", name)[:15]


def create(spec: MapSpec, prefix: str, btf: Fd | None) -> Map:
    """Create one map, with its initial content; NetbpfError says which map and why not."""
    if spec.type in _OF_MAPS and not spec.inner:
        kind = MapType(spec.type).name.lower()
        raise ObjectError(
            f"map {escape(spec.name)} ({kind}) needs the definition of the maps in it",
            hint="add __array(values, struct { ... }) to its definition",
        )
    inner = create(spec.inner, prefix, btf) if spec.inner else None
    try:
        fd = _create(spec, kernel_name(prefix, spec.name), btf, inner)
    finally:
        if inner:
            inner.close()
    try:
        created = Map(fd)
        if spec.initial is not None:
            created.update(bytes(4), bytes(spec.initial))
            if spec.read_only:
                # Frozen before the program loads, so that the verifier knows the values (Linux 5.2).
                sys_bpf.map_freeze(fd.fileno())
    except BaseException:
        fd.close()
        raise
    return created


def _create(spec: MapSpec, name: str, btf: Fd | None, inner: Map | None) -> Fd:
    with_btf = btf is not None and bool(spec.value_type_id) and spec.type not in _NO_BTF

    def attempt(*, typed: bool, flags: int, size: int = entries(spec)) -> Fd:
        return sys_bpf.map_create(
            spec.type, spec.key_size, spec.value_size, size, flags=flags, name=name,
            inner_map_fd=inner.fd.fileno() if inner else 0, numa_node=spec.numa_node,
            btf_fd=btf.fileno() if typed and btf else 0,
            btf_key_type_id=spec.key_type_id if typed else 0,
            btf_value_type_id=spec.value_type_id if typed else 0, map_extra=spec.map_extra,
        )  # fmt: skip

    try:
        return without_memlock_limit(lambda: attempt(typed=with_btf, flags=spec.flags))
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise permission_error(f"create map {escape(spec.name)}", Capability.BPF) from None
        first = error
    if (
        first.errno == errno.E2BIG
        and spec.type == MapType.CPUMAP
        and entries(spec) > possible_cpus()
    ):
        # More entries than the kernel is built for (NR_CPUS): those behind the last possible CPU stay empty anyway.
        return attempt(typed=False, flags=spec.flags, size=possible_cpus())
    # Types are a comfort: a kernel that does not take them may still take the map. So is mmap for variables.
    plain = spec.flags & ~MapFlag.MMAPABLE if spec.is_data else spec.flags
    if with_btf or plain != spec.flags:
        try:
            return attempt(typed=False, flags=plain)
        except KernelError as error:
            raise _explain(spec, error) from None
    raise _explain(spec, first) from None


def _explain(spec: MapSpec, error: KernelError) -> NetbpfError:
    name = escape(spec.name)
    try:
        kind = MapType(spec.type).name.lower()
    except ValueError:
        return NotSupportedError(
            f"map {name} is of type {spec.type}, which this kernel does not know"
        )
    sizes = (
        f"keys of {spec.key_size}, values of {spec.value_size} bytes, {spec.max_entries} entries"
    )
    if error.errno == errno.EINVAL and spec.max_entries == 0 and spec.type not in _WITHOUT_SIZE:
        return ObjectError(
            f"map {name} ({kind}) has max_entries 0",
            hint=f"give it a size: --map-size {name}=N, or in its definition",
        )
    if error.errno == errno.E2BIG:
        return ObjectError(
            f"map {name} ({kind}) is too large for the kernel: {sizes}",
            hint=f"make it smaller: --map-size {name}=N",
        )
    if error.errno == errno.ENOMEM:
        return NetbpfError(
            f"no memory for map {name} ({kind}): {sizes}",
            hint=f"make it smaller: --map-size {name}=N",
        )
    if error.errno == errno.EINVAL:
        return ObjectError(
            f"the kernel refuses map {name} ({kind}): {sizes}, flags {spec.flags:#x}"
        )
    if error.errno in (errno.EOPNOTSUPP, 524):
        return NotSupportedError(f"this kernel has no maps of type {kind}, which map {name} needs")
    return error
