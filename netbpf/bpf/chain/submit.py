"""Giving a linked chain to the kernel."""

import errno
from dataclasses import dataclass

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.bpf import rejection
from netbpf.bpf.btf.fixup import for_old_kernel
from netbpf.bpf.chain.link import Linked

# Bytes, of memory that is only taken as the verifier writes; the kernel's limit is UINT_MAX >> 2.
_LOG_SIZES = (1 << 24, (1 << 30) - 1)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A chain that the kernel did not take: why, and what it was."""

    linked: Linked
    errno: int
    log: str


def submit(linked: Linked, *, explain: bool = False) -> Fd | Rejected:
    """Load it, with a log of why not if it is to ``explain`` (slow); PermissionDeniedError without capabilities."""
    types = _types(linked.btf)
    try:
        request = linked.request._replace(btf_fd=types.fileno()) if types else _untyped(linked)
        result = _load(linked, request, explain=explain)
        if isinstance(result, Rejected) and types and result.errno == errno.EINVAL:
            if not explain:
                result = _load(linked, request, explain=True)
            # A kernel that does not take what is said of functions and lines may take the code.
            if isinstance(result, Rejected) and rejection.about_types(result.log):
                result = _load(linked, _untyped(linked), explain=explain)
        return result
    finally:
        if types:
            types.close()


def _untyped(linked: Linked) -> sys_bpf.ProgLoad:
    return linked.request._replace(btf_fd=0, func_info=b"", line_info=b"")


def _types(data: bytes) -> Fd | None:
    fd, number, _ = sys_bpf.btf_load(data)
    if fd is None and number == errno.EPERM:
        raise permission_error("load types (BTF)", Capability.BPF)
    if fd is None:
        fd, _, _ = sys_bpf.btf_load(for_old_kernel(data))
    return fd


def _load(linked: Linked, request: sys_bpf.ProgLoad, *, explain: bool) -> Fd | Rejected:
    fd, number, _ = sys_bpf.prog_load(request)
    log = ""
    for size in _LOG_SIZES if explain else ():
        if fd:
            return fd
        fd, number, raw = sys_bpf.prog_load(request, log_size=size)
        log = raw.decode(errors="replace")
        if number != errno.ENOSPC:
            break
    return fd or Rejected(linked, number, log)
