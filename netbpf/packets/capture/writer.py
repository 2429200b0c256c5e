"""Writing pcapng: every packet with its stamp in nanoseconds, a comment, and the verdict.

Wireshark shows the comment (``frame.comment``) and the verdict (``frame.verdict``) of each packet.
"""

import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import Self

from netbpf.constants import Hook
from netbpf.errors import NetbpfError, UsageError
from netbpf.text import escape

STDOUT = "-"
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _QUEUE, _VERDICT = 1, 6, 7  # options of a packet
_NAME, _RESOLUTION, _APPLICATION = 2, 9, 4  # options of an interface, and of a section
_TC_VERDICT, _XDP_VERDICT = 1, 2  # what an epb_verdict is of: Linux eBPF TC, Linux eBPF XDP
_FLUSH = 1 << 18  # bytes collected before they are written, in whole packets
_HEAD = struct.Struct("<IIIIIII")
_OPTION = struct.Struct("<HH")
_VERDICT_OPTION = struct.Struct("<HHBq3x")
_QUEUE_OPTION = struct.Struct("<HHI")
_LENGTH = struct.Struct("<I")
_TWO = struct.Struct("<II")


class CaptureWriter:
    """A pcapng being written. Close it, or use it as a context manager: what is collected is written then.

    What cannot be written, on a full disk, is cut off after the last packet that could: the file stays readable.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        hook: Hook,
        *,
        not_over: str | os.PathLike[str] = "",
        interface: str = "",
        snaplen: int = 0,
    ) -> None:
        """Make the file; ``-`` is standard output.

        ``interface`` is what the file calls the interface, by default its hook; ``snaplen`` says what is kept of a
        packet at most, in bytes, 0 all. UsageError where the file is the one at ``not_over``, NetbpfError where it
        cannot be written.
        """
        self.path = os.fspath(path)
        self.packets = 0
        self._kind = _XDP_VERDICT if hook is Hook.XDP else _TC_VERDICT
        self._written = 0  # packets that are in the file
        self._place = 0  # bytes of the file that are whole
        self._waiting = bytearray(_section() + _interface(interface or hook.value, snaplen))
        if not_over and _same(self.path, not_over):
            raise UsageError(
                f"{escape(self.path)} is the capture that is read", hint="write to another file"
            )
        try:
            # Nothing is truncated before it is known to be another file; pipes and /dev/stdout are fine.
            self._fd = (
                fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
                if self.path == STDOUT
                else os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            )
        except OSError as error:
            raise NetbpfError(f"cannot write {escape(self.path)}: {error.strerror}") from None
        try:
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            if self._regular and self.path != STDOUT:
                os.ftruncate(self._fd, 0)
            elif self._regular:
                self._place = os.lseek(self._fd, 0, os.SEEK_CUR)  # behind what others have written
            self.flush()
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise

    def write(
        self,
        data: bytes | memoryview,
        time_ns: int | None,
        *,
        wire_length: int = 0,
        verdict: int | None = 0,
        comment: bytes = b"",
        queue: int | None = None,
    ) -> None:
        """Add a packet. ``wire_length`` is what it had on the wire, if more than is there; ``comment`` is UTF-8.

        ``verdict`` is None for a packet that no program has judged; ``queue`` is the one it came in by.
        """
        length = len(data)
        padding = -length % 4
        options = b""
        if verdict is not None:
            options = _VERDICT_OPTION.pack(_VERDICT, 9, self._kind, verdict)
        if queue is not None:
            options += _QUEUE_OPTION.pack(_QUEUE, 4, queue)
        if comment:
            options += _OPTION.pack(_COMMENT, len(comment)) + comment + bytes(-len(comment) % 4)
        options += b"\0\0\0\0"
        total = _HEAD.size + length + padding + len(options) + 4
        stamp = (time_ns or 0) & 0xFFFFFFFFFFFFFFFF
        waiting = self._waiting
        waiting += _HEAD.pack(
            _PACKET, total, 0, stamp >> 32, stamp & 0xFFFFFFFF, length, max(wire_length, length)
        )
        waiting += data
        waiting += bytes(padding) + options + _LENGTH.pack(total)
        self.packets += 1
        if len(waiting) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what is collected. NetbpfError where that cannot be, BrokenPipeError where nobody reads any more."""
        at = 0
        try:
            with memoryview(self._waiting) as data:
                while at < len(data):
                    at += os.write(self._fd, data[at:])
        except BrokenPipeError:
            self._cut(at)
            raise
        except OSError as error:
            self._cut(at)
            raise NetbpfError(
                f"cannot write {escape(self.path)}: {error.strerror}",
                hint=f"the first {self._written} packets are in it, whole"
                if self._regular
                else None,
            ) from None
        self._place += at
        self._written = self.packets
        self._waiting.clear()

    def _cut(self, written: int) -> None:
        """Take back what is not whole of the bytes that were written; nothing more is."""
        at = 0
        while at + 8 <= written:
            kind, total = _TWO.unpack_from(self._waiting, at)
            if at + total > written:
                break
            at += total
            self._written += kind == _PACKET
        self._place += at
        self._waiting.clear()
        if self._regular:
            os.ftruncate(self._fd, self._place)

    def close(self) -> None:
        """Write what is collected, and close. NetbpfError where that cannot be; closing twice is harmless."""
        if self._fd >= 0:
            try:
                self.flush()
            finally:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _same(one: str, other: str | os.PathLike[str]) -> bool:
    if os.fspath(other) == "-":
        return False
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _options(*options: tuple[int, bytes]) -> bytes:
    packed = b"".join(
        _OPTION.pack(code, len(value)) + value + bytes(-len(value) % 4) for code, value in options
    )
    return packed + b"\0\0\0\0"


def _block(kind: int, content: bytes) -> bytes:
    total = len(content) + 12
    return struct.pack("<II", kind, total) + content + _LENGTH.pack(total)


def _section() -> bytes:
    head = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return _block(_SECTION, head + _options((_APPLICATION, b"netbpf")))


def _interface(name: str, snaplen: int) -> bytes:
    # Link type 1 is Ethernet; stamps in units of 10^-9 seconds.
    head = struct.pack("<HHI", 1, 0, snaplen)
    return _block(_INTERFACE, head + _options((_NAME, name.encode()), (_RESOLUTION, b"\x09")))
