"""RLIMIT_MEMLOCK, which limited the memory of maps and programs before Linux 5.11 counted it by cgroup."""

import errno
import resource
from collections.abc import Callable
from typing import TypeVar

from netbpf.errors import KernelError

T = TypeVar("T")


def without_memlock_limit(call: Callable[[], T]) -> T:
    """``call()``, tried again without the limit where it fails with EPERM and the limit could be why."""
    try:
        return call()
    except KernelError as error:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        if error.errno != errno.EPERM or resource.getrlimit(resource.RLIMIT_MEMLOCK) == unlimited:
            raise
        try:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
        except (ValueError, OSError):
            raise error from None
        return call()
