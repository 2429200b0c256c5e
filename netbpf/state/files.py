"""Private directories, and files that are whole or not there at all."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from netbpf.errors import NetbpfError, PermissionDeniedError


def private_directory(path: Path) -> Path:
    """Make sure of a directory that only we can write to (0700); NetbpfError for a link or a foreign owner."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        pass  # whatever it is, the check will name it
    except PermissionError:
        raise PermissionDeniedError(
            f"no permission to create {path}",
            hint="run as root, or set NETBPF_STATE_DIR to a directory of yours",
        ) from None
    except OSError as error:
        raise NetbpfError(f"cannot create {path}: {error.strerror}") from None
    if not trusted_directory(path, (os.geteuid(),)):
        raise NetbpfError(f"cannot create {path}: it goes away again")
    return path


def trusted_directory(path: Path, owners: tuple[int, ...] = ()) -> bool:
    """Whether a directory is there; NetbpfError for one in which others than its owner could write.

    ``owners`` are the users it may belong to: by default root and ourselves.
    """
    try:
        status = path.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a directory"
        raise NetbpfError(f"{path} is {kind}", hint="remove it: netbpf makes its own directory")
    if status.st_uid not in (owners or (0, os.geteuid())) or status.st_mode & 0o022:
        raise NetbpfError(
            f"{path} belongs to user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}: "
            "others could write there",
            hint=f"check what is in it, then: chown {os.geteuid()} {path} && chmod 0700 {path}",
        )
    return True


def files_in(directory: Path) -> list[Path]:
    """What is in a directory of the state; nothing where there is none, or where only its owner may look.

    NetbpfError where others could have put something there.
    """
    if not trusted_directory(directory.parent) or not trusted_directory(directory):
        return []
    try:
        return [directory / name for name in sorted(os.listdir(directory))]
    except PermissionError:
        return []
    except OSError as error:
        raise NetbpfError(f"cannot read {directory}: {error.strerror}") from None


def read_small(path: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most ``limit`` bytes, or None for anything else.

    NetbpfError where the system cannot read it at the moment: that says nothing of the file.
    """
    try:
        # Without O_NONBLOCK a FIFO would make us wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
            raise NetbpfError(f"cannot read {path}: {error.strerror}") from None
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        return os.read(fd, status.st_size)
    except OSError as error:
        raise NetbpfError(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def discard(path: Path) -> None:
    """Remove a file, or an empty directory in its place; harmless where it is gone or cannot be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            path.rmdir()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by rename: a reader, or a crash, sees the old content or the new one. NetbpfError when full."""
    if not trusted_directory(path.parent, (os.geteuid(),)):
        private_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        # Unbuffered: one write is all there is.
        with open(fd, "wb", buffering=0) as file:
            written = file.write(content)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        temporary.rename(path)
    except OSError as error:
        discard(temporary)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise NetbpfError(
            f"cannot write {path}: {error.strerror}",
            hint="make room on its file system, or set NETBPF_STATE_DIR" if full else None,
        ) from None
    except BaseException:
        discard(temporary)
        raise
