"""What a process has open."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def open_descriptors() -> dict[int, str]:
    """Every descriptor of this process and what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = str(Path("/proc/self/fd", name).readlink())
        except FileNotFoundError:
            continue  # the directory itself
    return found


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """No descriptor of a BPF object, file or directory stays: what has no descriptor and no pin, the kernel frees."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before
