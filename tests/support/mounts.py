"""File systems that a test has made netbpf mount."""

import subprocess
from pathlib import Path


def unmount_bpffs(state: Path) -> None:
    """Take away netbpf's own bpffs in a state directory, with the pins in it."""
    path = state / "bpffs"
    while path.is_mount():
        subprocess.run(["umount", path], check=True)
