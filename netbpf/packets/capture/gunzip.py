"""Unpacking gzip as it comes. Python's own reader drops what it has unpacked when the data ends early."""

import io
import zlib

_GZIP = 31  # zlib's window bits for data with gzip's head and checksum
_READ = 1 << 16  # bytes read at a time


class Gunzip:
    """A stream of one or more gzip members, of which ``head`` was read already."""

    def __init__(self, head: bytes, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._packed = head
        self._member = zlib.decompressobj(_GZIP)
        self._step = _READ  # bytes unpacked at a time

    def read(self, limit: int) -> bytes:
        """Up to ``limit`` bytes, none at the end. EOFError where it ends within a member, zlib.error for damage."""
        while True:
            if self._member.eof:
                # Some tools fill up with zeros behind the last member.
                self._packed = (self._packed or self._member.unused_data).lstrip(b"\0")
                if not self._packed and not self._more():
                    return b""
                if not self._packed.strip(b"\0"):
                    self._packed = b""
                    continue
                self._member = zlib.decompressobj(_GZIP)
            if not self._packed and not self._more():
                raise EOFError
            before = self._member.copy()  # 5 us for each 64 KiB
            try:
                data = self._member.decompress(self._packed[: self._step], limit)
            except zlib.error:
                if self._step == 1:
                    raise
                # zlib keeps back what it unpacked in the same call: go up to the damage byte by byte.
                self._member, self._step = before, 1
                continue
            self._packed = self._member.unconsumed_tail + self._packed[self._step :]
            if data:
                return data

    def _more(self) -> bool:
        self._packed = self._raw.read(_READ) or b""
        return bool(self._packed)
