"""Waiting for what the kernel does later: freeing programs, maps and links, deleting namespaces."""

import os
import time
from collections.abc import Callable

from netbpf._sys import bpf
from netbpf._sys.grace import grace_period

DEADLINE = 30.0  # seconds, on a busy machine


def eventually(condition: Callable[[], object], what: str) -> None:
    """Ask again and again until it is so: whenever the kernel, which puts off freeing, has had a grace period."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        if not grace_period():
            os.sched_yield()


def exists(kind: str, number: int) -> bool:
    """Whether the kernel has a PROG, MAP or LINK of that id. Asked without opening it, which would keep it alive:
    closing a prog array that nobody else has open lets the kernel empty it, and hold it until that is done.
    """
    return bpf.next_id(kind, number - 1) == number
