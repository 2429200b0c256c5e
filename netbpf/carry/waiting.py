"""Waiting until the program that was swapped out runs nowhere any more."""

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.grace import grace_period
from netbpf.constants import MapType
from netbpf.errors import KernelError


def wait_for_programs() -> bool:
    """Return once every program that was running at the time of the call has ended; whether that could be had.

    Programs of XDP and TC run within the RCU read side. membarrier(MEMBARRIER_CMD_GLOBAL) is synchronize_rcu(). Where
    there is none (CPUs in nohz_full) a map in a map does: the kernel waits for an RCU grace period when user space
    replaces one (maybe_wait_bpf_programs, kernel/bpf/syscall.c, Linux 4.20), for just this purpose.
    """
    return grace_period() or replace_inner_map()


def replace_inner_map() -> bool:
    """Put a map into a map of maps, which waits for running programs."""
    try:
        with (
            sys_bpf.map_create(MapType.ARRAY, 4, 4, 1) as inner,
            sys_bpf.map_create(
                MapType.ARRAY_OF_MAPS, 4, 4, 1, inner_map_fd=inner.fileno()
            ) as outer,
        ):
            sys_bpf.map_update(outer.fileno(), bytes(4), inner.fileno().to_bytes(4, "little"))
    except KernelError:
        return False
    return True
