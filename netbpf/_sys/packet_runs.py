"""BPF_PROG_TEST_RUN of one packet after the other, with as little in between as Python can.

``netbpf._sys.bpf.prog_test_run`` makes its buffers anew for each call, which costs more than the kernel's part. Here
the attributes are packed once, and the packets are taken from where they lie.
"""

import ctypes
import os
import struct

from netbpf._sys.bpf import _NR_BPF
from netbpf.errors import KernelError, NotSupportedError

_PROG_TEST_RUN = 10
_ATTR_SIZE = 144
_libc = ctypes.CDLL(None, use_errno=True)
# Converted by hand once, and not by ctypes in each call.
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)
_libc.syscall.restype = ctypes.c_long
_LENGTHS = struct.Struct("<IIQ")  # data_size_in, data_size_out, data_in
_CONTEXT_SIZE = struct.Struct("<I")
_LENGTHS_AT, _CONTEXT_OUT_SIZE_AT = 8, 44  # bytes within the attributes
_U32 = struct.Struct("<I")
XDP_CONTEXT_SIZE = 24  # bytes of struct xdp_md


class PacketRuns:
    """Runs of one program on packets that lie in ``memory``; ``memory`` cannot be closed or resized meanwhile.

    ``out_size`` bytes are kept of each packet afterwards, 0: none. With ``metadata`` the run also says where the packet
    begins behind metadata that an XDP program may have put before it.
    """

    def __init__(
        self, prog_fd: int, memory: memoryview, *, out_size: int = 0, metadata: bool = False
    ) -> None:
        machine = os.uname().machine
        if machine not in _NR_BPF:
            raise NotSupportedError(f"netbpf does not know bpf(2) on {machine}")
        self._number = ctypes.c_long(_NR_BPF[machine])
        self._memory = (ctypes.c_char * len(memory)).from_buffer(memory)
        self._base = ctypes.addressof(self._memory)
        self._out_size = out_size
        self._out = ctypes.create_string_buffer(max(out_size, 1))
        self._context_in = (ctypes.c_char * XDP_CONTEXT_SIZE)()
        self._context_out = (ctypes.c_char * XDP_CONTEXT_SIZE)()
        self._metadata = metadata
        size = XDP_CONTEXT_SIZE if metadata else 0
        self._attr = ctypes.create_string_buffer(_ATTR_SIZE)
        struct.pack_into(
            "<IIIIQQIIIIQQIII", self._attr, 0,
            prog_fd, 0, 0, 0, 0, ctypes.addressof(self._out) if out_size else 0, 1, 0, size, size,
            ctypes.addressof(self._context_in) if metadata else 0,
            ctypes.addressof(self._context_out) if metadata else 0, 0, 0, 0,
        )  # fmt: skip
        self._call = _libc.syscall
        self._command = ctypes.c_long(_PROG_TEST_RUN)
        self._pointer = ctypes.c_void_p(ctypes.addressof(self._attr))
        self._size = ctypes.c_long(_ATTR_SIZE)

    def run(self, start: int, length: int) -> int:
        """Run the program on the packet at ``start``; what it returned, as an unsigned number. Raises KernelError."""
        attr = self._attr
        _LENGTHS.pack_into(attr, _LENGTHS_AT, length, self._out_size, self._base + start)
        if self._metadata:
            _U32.pack_into(self._context_in, 4, length)  # data_end
            _CONTEXT_SIZE.pack_into(attr, _CONTEXT_OUT_SIZE_AT, XDP_CONTEXT_SIZE)
        if self._call(self._number, self._command, self._pointer, self._size) < 0:
            raise KernelError("BPF_PROG_TEST_RUN", ctypes.get_errno())
        return _U32.unpack_from(attr, 4)[0]  # type: ignore[no-any-return]

    def output(self) -> bytes:
        """The last packet afterwards, without metadata."""
        length = _U32.unpack_from(self._attr, 12)[0]
        begin = _U32.unpack_from(self._context_out)[0] if self._metadata else 0
        return ctypes.string_at(ctypes.addressof(self._out) + begin, length - begin)
