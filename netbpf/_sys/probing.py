"""Asking bpf(2) whether it has something, thousands of times: programs of two instructions, and calls about nothing.

A load through ``_sys.bpf.prog_load`` makes its buffers anew; here they are made once, which is what lets ``netbpf
features`` ask for every helper of every program type in half a second.
"""

import ctypes
import struct
from typing import Final, NamedTuple

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd

_ATTR_SIZE: Final = 144
_MOST_INSNS: Final = 64
_LOG_SIZE: Final = 1 << 13  # with the verifier's words about so few instructions it is never full
_NO_FD: Final = 0xFFFFFFFF

# union bpf_attr of BPF_PROG_LOAD up to attach_prog_fd, core_relo_cnt, fd_array (include/uapi/linux/bpf.h)
_LOAD: Final = struct.Struct("<IIQQIIQII16sIIIIQIIQIIIIQ")
_LINK: Final = struct.Struct("<IIIIIIQ")
_UPROBES: Final = struct.Struct("<IIIIQQQQIII")
PROG_QUERY: Final = 16
LINK_CREATE: Final = 28


class Answer(NamedTuple):
    """What the kernel says to a program: whether it took it, else the errno, and the verifier's words."""

    loaded: bool
    errno: int
    log: bytes


class ProgramProbe:
    """Loads small programs one after another and throws them away. One thread at a time."""

    def __init__(self, license_text: str = "GPL") -> None:
        self._attr = ctypes.create_string_buffer(_ATTR_SIZE)
        self._code = ctypes.create_string_buffer(_MOST_INSNS * 8)
        self._log = ctypes.create_string_buffer(_LOG_SIZE)
        self._license = ctypes.create_string_buffer(license_text.encode() + b"\0")
        self._fds = (ctypes.c_int * 2)(-1, -1)
        self._addresses = tuple(
            ctypes.addressof(one) for one in (self._code, self._log, self._license, self._fds)
        )
        self.asked = 0

    def ask(
        self,
        prog_type: int,
        code: bytes,
        attach_type: int = 0,
        *,
        flags: int = 0,
        attach_btf_id: int = 0,
        module_fd: int = -1,
    ) -> Answer:
        """BPF_PROG_LOAD of ``code``, at most 64 instructions; ``module_fd`` is the BTF of calls with offset 1."""
        fd, number, log = self._load(prog_type, code, attach_type, flags, attach_btf_id, module_fd)
        if fd is not None:
            fd.close()
        return Answer(fd is not None, number, log)

    def keep(
        self, prog_type: int, code: bytes, attach_type: int = 0, *, attach_btf_id: int = 0
    ) -> tuple[Fd | None, int]:
        """The program itself, to attach; or None and the errno."""
        fd, number, _ = self._load(prog_type, code, attach_type, 0, attach_btf_id, -1)
        return fd, number

    def _load(
        self, prog_type: int, code: bytes, attach_type: int, flags: int, btf_id: int, module_fd: int
    ) -> tuple[Fd | None, int, bytes]:
        self.asked += 1
        insns, log, license_text, fds = self._addresses
        ctypes.memmove(self._code, code, len(code))
        self._log[0] = b"\0"
        self._fds[1] = module_fd
        _LOAD.pack_into(
            self._attr, 0, prog_type, len(code) // 8, insns, license_text, 1, _LOG_SIZE, log, 0, flags, b"", 0,
            attach_type, 0, 0, 0, 0, 0, 0, 0, btf_id, 0, 0, fds if module_fd >= 0 else 0,
        )  # fmt: skip
        result = sys_bpf.load_patiently(self._attr)
        words = self._log.value
        return (Fd(result), 0, words) if result >= 0 else (None, -result, words)


def query_errno(attach_type: int) -> int:
    """The errno of BPF_PROG_QUERY about no object at all.

    EINVAL where the kernel does not know the attach type, or was built without it; EBADF, or ENODEV for interfaces,
    where it does and went on to look for the object (kernel/bpf/syscall.c bpf_prog_query).
    """
    attr = ctypes.create_string_buffer(_ATTR_SIZE)
    struct.pack_into("<II", attr, 0, _NO_FD, attach_type)
    return -sys_bpf._syscall(PROG_QUERY, attr)  # noqa: SLF001 - of the same package


def link_errno(prog_fd: int, attach_type: int) -> int:
    """The errno of BPF_LINK_CREATE on a descriptor that is none: EBADF where the kernel has such links."""
    attr = ctypes.create_string_buffer(_ATTR_SIZE)
    _LINK.pack_into(attr, 0, prog_fd, _NO_FD, attach_type, 0, 0, 0, 0)
    result = sys_bpf._syscall(LINK_CREATE, attr)  # noqa: SLF001
    return _closed(result)


def uprobes_errno(prog_fd: int, attach_type: int) -> int:
    """The errno of BPF_LINK_CREATE on functions of ``/``, which is no file: EBADF where there are such links."""
    attr = ctypes.create_string_buffer(_ATTR_SIZE)
    path, offset = ctypes.create_string_buffer(b"/\0"), ctypes.c_uint64(0)
    _UPROBES.pack_into(
        attr, 0, prog_fd, 0, attach_type, 0, ctypes.addressof(path), ctypes.addressof(offset), 0, 0, 1, 0, 0,
    )  # fmt: skip
    result = sys_bpf._syscall(LINK_CREATE, attr)  # noqa: SLF001
    return _closed(result)


def netfilter_link(prog_fd: int, attach_type: int) -> int:
    """The errno of a BPF_LINK_CREATE on the calling thread's NF_INET_LOCAL_IN, 0 where it went well (Linux 6.4)."""
    attr = ctypes.create_string_buffer(_ATTR_SIZE)
    # pf NFPROTO_IPV4, hooknum NF_INET_LOCAL_IN, a priority
    struct.pack_into("<IIIIIIiI", attr, 0, prog_fd, 0, attach_type, 0, 2, 1, -128, 0)
    result = sys_bpf._syscall(LINK_CREATE, attr)  # noqa: SLF001
    return _closed(result)


def _closed(result: int) -> int:
    if result >= 0:
        Fd(result).close()
        return 0
    return -result
