"""Waiting until no packet is in a program any more that was taken off its hook."""

import ctypes
import errno
import os
from typing import Final

from netbpf.errors import KernelError

# arch/x86/entry/syscalls/syscall_64.tbl; the others share include/uapi/asm-generic/unistd.h but for theirs of old.
_NR_MEMBARRIER: Final = {
    "x86_64": 324,
    "aarch64": 283,
    "riscv64": 283,
    "ppc64le": 365,
    "s390x": 356,
    "loongarch64": 283,
}
_GLOBAL: Final = (
    1  # MEMBARRIER_CMD_GLOBAL: synchronize_rcu() (kernel/sched/membarrier.c), since Linux 4.3
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def grace_period() -> bool:
    """Wait for an RCU grace period (some milliseconds): programs that run now have ended then. Whether that worked.

    It does not on kernels without membarrier(2) and on those with CPUs in nohz_full.
    """
    number = _NR_MEMBARRIER.get(os.uname().machine)
    if number is None:
        return False
    if int(_libc.syscall(number, _GLOBAL, 0, 0)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
        return False
    raise KernelError("membarrier", code)
