"""Which captures live: each holds a flock on a file of its own for as long as its process does.

The kernel lets go of a flock with its holder, however that ended, and it counts across PID namespaces.
"""

import fcntl
import os
import uuid
from typing import Self

from netbpf import layout
from netbpf.errors import NetbpfError
from netbpf.state.files import discard, files_in, private_directory


class Life:
    """The sign that a capture lives. Close it, or use it as a context manager: then it is dead."""

    def __init__(self) -> None:
        """Raises NetbpfError where the file cannot be made."""
        self.name = uuid.uuid4().hex
        path = layout.tap_file(self.name)
        private_directory(path.parent.parent)
        private_directory(path.parent)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NetbpfError(f"cannot make {path}: {error.strerror}") from None
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self, *, left: bool = False) -> None:
        """End it; closing twice is harmless. ``left``: something of it is on the hook still, for others to sweep."""
        if self._fd >= 0:
            if not left:
                discard(layout.tap_file(self.name))
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alive(name: str) -> bool:
    """Whether the capture of a name lives."""
    path = layout.tap_file(name)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def forget(name: str) -> None:
    """Nothing of a dead capture is left."""
    discard(layout.tap_file(name))


def names() -> list[str]:
    """Of all captures that live or were killed."""
    return [path.name for path in files_in(layout.tap_file("").parent)]
