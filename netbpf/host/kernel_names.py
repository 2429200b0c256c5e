"""What the running kernel calls its program types, map types, helpers and attach types: its own enums, from BTF.

So a kernel newer than netbpf is asked for what netbpf has never heard of. Where there is no BTF, netbpf's own lists
serve, of Linux 6.18.
"""

import functools
from enum import IntEnum
from typing import Final

from netbpf.bpf.helpers import helper_name
from netbpf.constants import AttachType, MapType, ProgType
from netbpf.errors import NetbpfError

_MOST: Final = 4096  # numbers: of an enum of the kernel; only a damaged one has more
# What the enums hold besides: a name for 0, the end, and old names of what got another.
_OTHERS: Final = ("UNSPEC", "_DEPRECATED")


def program_types() -> dict[int, str]:
    """Numbers and names (``xdp``) of ``enum bpf_prog_type``, without UNSPEC."""
    return _named("bpf_prog_type", "BPF_PROG_TYPE_", ProgType)


def map_types() -> dict[int, str]:
    """Numbers and names (``lru_hash``) of ``enum bpf_map_type``, without UNSPEC."""
    return _named("bpf_map_type", "BPF_MAP_TYPE_", MapType)


def attach_types() -> dict[int, str]:
    """Numbers and names (``cgroup_inet_ingress``) of ``enum bpf_attach_type``."""
    found = _named("bpf_attach_type", "BPF_", AttachType)
    return {0: "cgroup_inet_ingress", **found}


@functools.cache
def helpers() -> dict[int, str]:
    """Numbers and names (``bpf_redirect_map``) of ``enum bpf_func_id``."""
    found = {
        number: f"bpf_{name}"
        for number, name in _of_kernel("bpf_func_id", "BPF_FUNC_").items()
        if number
    }
    number = 1
    while name := helper_name(number):
        found[number] = name
        number += 1
    return dict(sorted(found.items()))


def _named(enum: str, prefix: str, own: type[IntEnum]) -> dict[int, str]:
    found = _of_kernel(enum, prefix)
    found |= {one.value: one.name.lower() for one in own}
    found.pop(0, None)
    return dict(sorted(found.items()))


@functools.cache
def _kernel_enum(enum: str) -> tuple[tuple[str, int], ...]:
    from netbpf.bpf.btf.kernel import kernel_btf
    from netbpf.bpf.btf.types import Kind

    try:
        return tuple(
            pair
            for kind in kernel_btf().find(enum, Kind.ENUM)
            for pair in kernel_btf().enumerators(kind)
        )
    except NetbpfError:
        return ()


def _of_kernel(enum: str, prefix: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for name, number in _kernel_enum(enum):
        if name.startswith(prefix) and 0 <= number < _MOST and not name.endswith(_OTHERS):
            found.setdefault(number, name.removeprefix(prefix).lower())
    return found
