"""Where a capture's bytes come from: a file or standard input, compressed by gzip or not."""

import gzip
import io
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Self, cast

from netbpf.errors import CaptureError
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
        self.compressed = False
        self._raw = self._open()
        try:
            self._file, self.head = self._unpacked()
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

    def _unpacked(self) -> tuple[io.RawIOBase | gzip.GzipFile, bytes]:
        """The stream, and the bytes of it that are read already."""
        head = self._exactly(self._raw, 4)
        if head.startswith(_GZIP):
            joined = cast("io.BufferedIOBase", _Joined(head, self._raw))
            unpacked = gzip.GzipFile(fileobj=joined)
            self.compressed = True
            try:
                return unpacked, self._exactly(unpacked, 4)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise CaptureError(f"{self.origin} is damaged gzip: {error}") from None
        for magic, tool in _PACKED.items():
            if head.startswith(magic):
                raise CaptureError(
                    f"{self.origin} is compressed with {tool}; netbpf unpacks gzip",
                    hint=f"{tool} -dc {escape(self.path)} | netbpf ... -",
                )
        return self._raw, head

    @staticmethod
    def _exactly(file: io.RawIOBase | gzip.GzipFile, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = file.read(count - len(data))
            if not more:
                break
            data += more
        return data

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
            return self._file.readinto(memory) or 0, ""
        except EOFError:
            return 0, "the compressed data ends early"
        except (zlib.error, gzip.BadGzipFile) as error:
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


class _Joined:
    """What was read already, and then the rest: gzip wants to see its magic itself, and pipes cannot go back."""

    def __init__(self, head: bytes, rest: io.RawIOBase) -> None:
        self._head, self._rest = head, rest

    def read(self, size: int = -1) -> bytes:
        if self._head:
            count = len(self._head) if size < 0 else size
            taken, self._head = self._head[:count], self._head[count:]
            return taken
        return self._rest.read(size) or b""

    def seekable(self) -> bool:
        return False
