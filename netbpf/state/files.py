"""Private directories and files that are whole or not there at all."""

import os
import stat
from pathlib import Path

from netbpf.errors import NetbpfError, PermissionDeniedError


def private_directory(path: Path) -> Path:
    """Make sure of a directory that only we can write to (0700); NetbpfError for a link or a foreign owner."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except PermissionError:
        raise PermissionDeniedError(
            f"no permission to create {path}",
            hint="run as root, or set NETBPF_STATE_DIR to a directory of yours",
        ) from None
    except OSError as error:
        raise NetbpfError(f"cannot create {path}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise NetbpfError(f"{path} is not a directory", hint="remove it")
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise NetbpfError(
            f"{path} belongs to user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}: "
            "others could write there",
            hint=f"check what is in it, then: chown {os.geteuid()} {path} && chmod 0700 {path}",
        )
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by rename: a reader, or a crash, sees the old content or the new one. NetbpfError when full."""
    private_directory(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(
            os.open(
                temporary,
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            ),
            "wb",
        ) as file:
            file.write(content)
        temporary.rename(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise NetbpfError(
            f"cannot write {path}: {error.strerror}", hint="is its file system full?"
        ) from None
