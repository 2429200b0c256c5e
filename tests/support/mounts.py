"""What netbpf keeps in a BPF file system for the state directory of a test."""

import os
import subprocess
from pathlib import Path

import pytest

from netbpf import layout


def forget_pins(state: Path) -> None:
    """Remove the pins of a state directory, and netbpf's own bpffs in it.

    A namespace that a test ends with netbpf's links in it leaves their pins to the next command, which never comes.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NETBPF_STATE_DIR", str(state))
        places = layout.link_pins(layout.BPFFS), layout.map_pins(layout.BPFFS)
    for found in places:
        if found.is_dir():
            for path in found.iterdir():
                path.unlink()
            found.rmdir()
    _unmount(state / "bpffs")


def _unmount(path: Path) -> None:
    """The pins first, and then lazily: whoever lists programs meanwhile, in another test, looks into every bpffs."""
    while path.is_mount():
        for directory, _, names in os.walk(path, topdown=False):
            # The kernel's own iterators (progs.debug) have a dot, and cannot be removed; pins have none.
            for name in (name for name in names if "." not in name):
                Path(directory, name).unlink()
        subprocess.run(["umount", "--lazy", path], check=True)
