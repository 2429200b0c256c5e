"""Names in a bpffs that the user chooses."""

import errno
import os
from pathlib import Path

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf.bpf.pin import is_bpffs
from netbpf.errors import KernelError, NetbpfError, UsageError
from netbpf.text import escape


def pin(fd: int, path: Path) -> Path:
    """Pin something; its absolute path.

    UsageError for a name that no bpffs takes or a directory that is none, NetbpfError where the name is taken.
    """
    place = Path(os.path.abspath(path))  # noqa: PTH100 - a symbolic link at the end is not to be followed
    shown = escape(str(place))
    if "." in place.name:
        raise UsageError(f"cannot pin {shown}: a bpffs takes no names with a dot")
    if not place.parent.is_dir() or not is_bpffs(place.parent):
        raise UsageError(
            f"cannot pin {shown}: {escape(str(place.parent))} is no directory of a bpffs",
            hint="mount -t bpf bpf /sys/fs/bpf, and mkdir below it",
        )
    try:
        sys_bpf.obj_pin(str(place), fd)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            raise NetbpfError(f"the pin {shown} exists already") from None
        if error.errno in (errno.EPERM, errno.EACCES):
            raise permission_error(f"pin {shown}", Capability.BPF) from None
        raise
    return place
