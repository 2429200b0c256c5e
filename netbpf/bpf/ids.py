"""The ids of everything BPF on the machine, whoever made it. All need CAP_SYS_ADMIN (PermissionDeniedError)."""

import errno
from collections.abc import Iterator

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf.errors import KernelError


def program_ids() -> Iterator[int]:
    """Every loaded program, ascending."""
    return _ids("PROG", "programs")


def map_ids() -> Iterator[int]:
    """Every map, ascending."""
    return _ids("MAP", "maps")


def link_ids() -> Iterator[int]:
    """Every link, ascending (Linux 5.8; none before)."""
    return _ids("LINK", "links")


def btf_ids() -> Iterator[int]:
    """Every BTF, ascending: the kernel's, its modules', and those of programs and maps (Linux 5.4; none before)."""
    return _ids("BTF", "types")


def _ids(kind: str, what: str) -> Iterator[int]:
    number: int | None = 0
    while True:
        try:
            number = sys_bpf.next_id(kind, number or 0)
        except KernelError as error:
            if error.errno == errno.EPERM:
                raise permission_error(f"list BPF {what}", Capability.SYS_ADMIN) from None
            if error.errno == errno.EINVAL:
                return  # the kernel knows no ids of this kind
            raise
        if number is None:
            return
        yield number
