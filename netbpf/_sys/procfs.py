"""What /proc says of many descriptors of a process: its directories are opened once, names in them are short."""

import os
from collections.abc import Iterator
from typing import Self

_ROOM = 4096  # bytes of fdinfo that are read: BPF's needs some 200


class Descriptors:
    """The descriptors of a process, or of this one. A context manager. OSError where it has ended or is not ours."""

    def __init__(self, process: str = "self") -> None:
        self._process = process
        self._links = os.open(f"/proc/{process}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._infos = -1

    def targets(self) -> Iterator[tuple[str, str]]:
        """Numbers of descriptors, and what they lead to (proc(5)); those that are closed meanwhile are left out."""
        links, readlink = self._links, os.readlink
        for fd in os.listdir(links):
            try:
                target = readlink(fd, dir_fd=links)
            except OSError:
                continue
            yield fd, target

    def number(self, fd: int | str, word: str) -> int:
        """The number behind ``word:`` in a descriptor's fdinfo. OSError where it is closed, ValueError for none."""
        if self._infos < 0:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._infos = os.open(f"/proc/{self._process}/fdinfo", flags)
        file = os.open(f"{fd}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._infos)
        try:
            text = os.read(file, _ROOM)
        finally:
            os.close(file)
        _, _, behind = text.partition(f"\n{word}:".encode())
        return int(behind.partition(b"\n")[0])

    def close(self) -> None:
        """Close the directories."""
        os.close(self._links)
        if self._infos >= 0:
            os.close(self._infos)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
