"""Where a capture's bytes come from: a file or standard input, compressed by gzip or not."""

import io
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Self

from netbpf.errors import CaptureError
from netbpf.packets.capture.gunzip import Gunzip
from netbpf.text import escape

STDIN = "-"
_GZIP = b"\x1f\x8b"
_PACKED = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zX": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
}


class Source:
    """A stream of bytes with a name. Close it, or use it as a context manager."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it; CaptureError where that cannot be, or where it is compressed by something else than gzip."""
        self.path = os.fspath(path)
        self.origin = "standard input" if self.path == STDIN else escape(Path(self.path).name)
        self.size = 0  # bytes, 0 where it is not known
        self._packed: Gunzip | None = None
        self._raw = self._open()
        try:
            self.head = self._begin()
        except BaseException:
            self.close()
            raise

    def _open(self) -> io.RawIOBase:
        try:
            if self.path == STDIN:
                return io.FileIO(sys.stdin.fileno(), closefd=False)
            status = Path(self.path).stat()
            if stat.S_ISDIR(status.st_mode):
                raise CaptureError(f"{escape(self.path)} is a directory")
            self.size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            return io.FileIO(self.path)
        except OSError as error:
            raise CaptureError(
                f"cannot read {escape(self.path)}: {error.strerror or error}",
                hint="check the path" if isinstance(error, FileNotFoundError) else None,
            ) from None

    def _begin(self) -> bytes:
        """The first bytes, unpacked where they are packed."""
        head = b""
        while len(head) < 4 and (more := self._raw.read(4 - len(head))):
            head += more
        for magic, tool in _PACKED.items():
            if head.startswith(magic):
                raise CaptureError(
                    f"{self.origin} is compressed with {tool}; netbpf unpacks gzip",
                    hint=f"{tool} -dc {escape(self.path)} | netbpf ... -",
                )
        if head.startswith(_GZIP):
            self._packed = Gunzip(head, self._raw)
            try:
                return self._packed.read(4)
            except EOFError:
                raise CaptureError(f"{self.origin} ends before anything was packed in it") from None
            except zlib.error as error:
                raise CaptureError(f"{self.origin} is damaged gzip: {error}") from None
        return head

    @property
    def compressed(self) -> bool:
        """Whether the file's size says nothing of what is in it."""
        return self._packed is not None

    @property
    def position(self) -> int:
        """How many of the file's ``size`` bytes are read; compressed ones where it is compressed."""
        return self._raw.tell() if self.size else 0

    def read_into(self, memory: memoryview) -> tuple[int, str]:
        """Fill some of ``memory``: (bytes, ""), or (0, why the stream broke off); (0, "") at its end."""
        if self.head:
            count = min(len(self.head), len(memory))
            memory[:count], self.head = self.head[:count], self.head[count:]
            return count, ""
        try:
            if self._packed is None:
                return self._raw.readinto(memory) or 0, ""
            data = self._packed.read(len(memory))
            memory[: len(data)] = data
            return len(data), ""
        except EOFError:
            return 0, "the compressed data ends early"
        except zlib.error as error:
            return 0, f"the compressed data is damaged ({error})"
        except OSError as error:
            return 0, f"it cannot be read on: {error.strerror}"

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
