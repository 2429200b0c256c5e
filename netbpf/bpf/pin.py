"""Pins: names in a bpffs that keep a link alive without a process.

bpf_obj_get follows symbolic links and a bpffs may be writable for everybody (both measured on Linux 6.18), so
directories are checked before anything is opened in them.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf._sys.namespaces import file_system_type, mount
from netbpf.errors import KernelError, NetbpfError, NotSupportedError

_BPF_FS_MAGIC: Final = 0xCAFE4A11


def is_bpffs(path: Path) -> bool:
    """Whether a path lies in a bpffs."""
    try:
        return file_system_type(str(path)) == _BPF_FS_MAGIC
    except KernelError:
        return False


def existing_bpffs() -> list[Path]:
    """The bpffs that netbpf may have pins in, without mounting any."""
    return [path for path in (layout.BPFFS, layout.own_bpffs()) if is_bpffs(path)]


def visible(most: int) -> Iterator[Path]:
    """What is pinned in any bpffs that is mounted here, whoever did it: at most so many names are looked at."""
    seen: set[int] = set()
    left = most
    for mounted in _mounts("thread-self"):
        if mounted.kind != "bpf":
            continue
        # Blanks in paths are written \\040 (proc(5)).
        root = mounted.path.encode("latin-1", "surrogateescape").decode("unicode_escape")
        try:
            device = Path(root).stat().st_dev
        except OSError:
            continue
        if device in seen:
            continue
        seen.add(device)
        for directory, _, names in os.walk(root):
            for name in sorted(names):
                left -= 1
                if left < 0:
                    return
                path = Path(directory, name)
                if not path.is_symlink():
                    yield path


def bpffs() -> Path:
    """A bpffs for new pins: the host's, else one of netbpf's own, which is mounted if need be.

    NotSupportedError in a mount namespace other than the host's without one of the host's (``ip netns exec`` hides
    /sys/fs/bpf): what is mounted there goes away with the shell, and every pin with it.
    """
    passing = _passing_mounts()
    for path in existing_bpffs():
        if not passing or _on_host(path):
            return path
    path = layout.own_bpffs()
    if passing:
        raise NotSupportedError(
            "there is no bpffs here that outlives this mount namespace, so a pinned link would not either",
            hint="run netbpf outside of `ip netns exec`, with --netns NAME, or without --link",
        )
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mount("bpf", str(path), "bpf", data="mode=0700")
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise permission_error("mount a bpffs", Capability.SYS_ADMIN) from None
        raise
    except OSError as error:
        raise NetbpfError(f"cannot create {path}: {error.strerror}") from None
    return path


def lasting(path: Path) -> bool:
    """Whether the bpffs at a path outlives this mount namespace; see ``bpffs``."""
    return not _passing_mounts() or _on_host(path)


def _passing_mounts() -> bool:
    """Whether mounts made here end with this mount namespace: it is not the one of process 1.

    Then they have no mount id in common. Where that may not be seen: ip-netns(8) mounts a sysfs named after the
    namespace over /sys, and makes every mount a slave.
    """
    try:
        first = {mounted.number for mounted in _mounts("1")}
    except OSError:
        first = set()
    if first:
        return not any(mounted.number in first for mounted in _mounts("thread-self"))
    for mounted in _mounts("thread-self"):
        if mounted.path == "/sys" and mounted.kind == "sysfs":
            if (Path("/run/netns") / mounted.source).exists():
                return True
        elif mounted.path == "/" and mounted.slave:
            return True
    return False


def _on_host(path: Path) -> bool:
    """Whether the bpffs at ``path`` is mounted in the mount namespace of process 1 too: each has its own device."""
    try:
        device = path.stat().st_dev
        return any(
            mounted.kind == "bpf" and mounted.device == f"{os.major(device)}:{os.minor(device)}"
            for mounted in _mounts("1")
        )
    except OSError:
        return False


class _Mount(NamedTuple):
    number: str
    device: str
    path: str
    slave: bool
    kind: str
    source: str


def _mounts(process: str) -> Iterator[_Mount]:
    with open(f"/proc/{process}/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            # proc(5): id, parent, device, root, mount point, options, optional fields, "-", type, source ...
            fields, _, rest = line.partition(" - ")
            words, (kind, source, *_) = fields.split(" "), rest.split(" ")
            slave = any(word.startswith("master:") for word in words[6:])
            yield _Mount(words[0], words[2], words[4], slave, kind, source)


def listed(directory: Path) -> list[Path]:
    """What is pinned in a directory of netbpf's; nothing where there is none. NetbpfError if others can write there."""
    try:
        names = sorted(os.listdir(directory))
        _check_private(directory)
    except OSError:
        return []
    return [directory / name for name in names]


def pin(path: Path, fd: int) -> None:
    """Pin an object, in directories of ours that nobody else can write to; NetbpfError where the name is taken."""
    root = next(
        parent for parent in path.parents if parent.parent == parent or is_mount_point(parent)
    )
    directory = root
    for part in path.parent.relative_to(root).parts:
        directory /= part
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise NetbpfError(f"cannot create {directory}: {error.strerror}") from None
    _check_private(path.parent)
    try:
        sys_bpf.obj_pin(str(path), fd)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            raise NetbpfError(f"the pin {path} exists already") from None
        if error.errno == errno.EPERM:
            raise permission_error(f"pin {path}", Capability.BPF) from None
        raise


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at a path."""
    return os.path.ismount(path)


def _check_private(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise NetbpfError(
            f"{directory} is not a directory that only user {os.geteuid()} can write to"
        )


def open_pin(path: Path) -> Fd | None:
    """The pinned object, or None where there is none; NetbpfError for a link or a foreign directory."""
    try:
        status = path.lstat()
        _check_private(path.parent)
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        raise NetbpfError(
            f"the pin {path} is a symbolic link",
            hint="netbpf made none: look who did, and remove it",
        )
    try:
        return sys_bpf.obj_get(str(path))
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def unpin(path: Path) -> None:
    """Remove a pin of netbpf's; harmless where it is gone. ValueError for a path that cannot be one."""
    if path.parent.parent.name != layout.PIN_ROOT:
        raise ValueError(f"{path} is not in a directory of {layout.PIN_ROOT}")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise NetbpfError(f"cannot remove the pin {path}: {error.strerror}") from None
    if path.parent.name in layout.of_this_state():
        with suppress(OSError):  # it holds more pins, or is gone
            path.parent.rmdir()
