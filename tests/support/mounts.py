"""File systems that a test has made netbpf mount."""

import os
import subprocess
from pathlib import Path


def unmount_bpffs(state: Path) -> None:
    """Take away netbpf's own bpffs in a state directory, with the pins in it.

    The pins first, and then lazily: whoever lists programs meanwhile, in another test, looks into every bpffs there is.
    """
    path = state / "bpffs"
    while path.is_mount():
        for directory, _, names in os.walk(path, topdown=False):
            # The kernel's own iterators (progs.debug) have a dot, and cannot be removed; pins have none.
            for name in (name for name in names if "." not in name):
                Path(directory, name).unlink()
        subprocess.run(["umount", "--lazy", path], check=True)
