"""sendmmsg(2) of packets from where they lie: a thousand per call, nothing copied in Python.

The heads of the messages never change; what changes is where each packet begins and how long it is (struct iovec).
"""

import ctypes
import struct
from array import array
from typing import Final

# Messages per call: UIO_MAXIOV (net/socket.c __sys_sendmmsg).
MOST: Final = 1024
_HEAD: Final = struct.Struct("<QIIQQQQIIII")  # struct mmsghdr: struct msghdr and msg_len
_IOVEC: Final = 16  # bytes
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_libc.sendmmsg.restype = ctypes.c_int


class Area:
    """Memory that packets lie in; it cannot be closed or resized while this object lives."""

    def __init__(self, memory: memoryview) -> None:
        self._held = (ctypes.c_char * len(memory)).from_buffer(memory)
        self.address = ctypes.addressof(self._held)

    def vectors(self, starts: list[int], lengths: list[int]) -> "array[int]":
        """``struct iovec`` of packets at these places, end to end."""
        found = array("Q", bytes(_IOVEC * len(starts)))
        found[0::2] = array("Q", map(self.address.__add__, starts))
        found[1::2] = array("Q", lengths)
        return found


class Messages:
    """The messages of one sender."""

    def __init__(self) -> None:
        self._vectors = (ctypes.c_char * (_IOVEC * MOST))()
        self._heads = (ctypes.c_char * (_HEAD.size * MOST))()
        self._view = memoryview(self._vectors).cast("B")
        first = ctypes.addressof(self._vectors)
        for number in range(MOST):
            _HEAD.pack_into(
                self._heads, _HEAD.size * number,
                0, 0, 0, first + _IOVEC * number, 1, 0, 0, 0, 0, 0, 0,
            )  # fmt: skip

    def send(self, socket_fd: int, vectors: "memoryview", first: int, count: int) -> int:
        """Send ``count`` packets, at most ``MOST``, from number ``first`` of ``vectors`` on (as bytes).

        How many the kernel took: fewer where one of them failed; minus errno where it was the first.
        """
        size = _IOVEC * count
        self._view[:size] = vectors[_IOVEC * first : _IOVEC * first + size]
        sent = int(_libc.sendmmsg(socket_fd, ctypes.addressof(self._heads), count, 0))
        return sent if sent >= 0 else -ctypes.get_errno()
