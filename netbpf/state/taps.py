"""Which captures live: each holds a flock on a file of its own for as long as its process does.

The kernel lets go of a flock with its holder, however that ended, and it counts across PID namespaces.
"""

import fcntl
import os
from collections.abc import Iterable
from typing import Final, Self

from netbpf import layout
from netbpf.errors import NetbpfError
from netbpf.state.files import discard, files_in, private_directory, read_small

_MOST: Final = 1 << 20  # bytes


class Life:
    """The sign that a capture lives. Close it, or use it as a context manager: then it is dead."""

    def __init__(self) -> None:
        """Raises NetbpfError where the file cannot be made."""
        self.name = os.urandom(16).hex()
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


def remember(name: str, members: Iterable[tuple[int, str]]) -> None:
    """Write down the members of which a living capture may hear, by their numbers. NetbpfError where that cannot be.

    Packets may be read when the member that decided about them is long gone.
    """
    known = remembered(name)
    new = [f"{number} {member}\0" for number, member in members if known.get(number) != member]
    if not new:
        return
    try:
        fd = os.open(layout.tap_file(name), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it has ended meanwhile
    except OSError as error:
        raise NetbpfError(f"cannot write {layout.tap_file(name)}: {error.strerror}") from None
    try:
        os.write(fd, "".join(new).encode())
    except OSError as error:
        raise NetbpfError(f"cannot write {layout.tap_file(name)}: {error.strerror}") from None
    finally:
        os.close(fd)


def remembered(name: str) -> dict[int, str]:
    """The members of which a capture may hear, by their numbers."""
    data = read_small(layout.tap_file(name), _MOST) or b""
    words = (one.partition(" ") for one in data.decode(errors="replace").split("\0") if one)
    return {int(number): member for number, _, member in words if number.isdecimal()}


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
    return [path.name for path in files_in(layout.tap_file("x").parent)]
