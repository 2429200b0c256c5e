"""A live program: what the kernel says of it."""

import errno
from typing import Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf._sys.info import btf_bytes, program_info
from netbpf.bpf.btf.types import Btf
from netbpf.errors import KernelError, NotAttachedError
from netbpf.model import ProgramInfo


class Program:
    """An open program. Close it, or use it as a context manager."""

    def __init__(self, fd: Fd) -> None:
        self.fd = fd
        self.info: ProgramInfo = program_info(fd.fileno())

    @classmethod
    def by_id(cls, number: int) -> Self:
        """Open a program by its id; NotAttachedError where it is gone, PermissionDeniedError without CAP_SYS_ADMIN."""
        try:
            fd = sys_bpf.fd_by_id("PROG", number)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise NotAttachedError(f"program {number} does not exist any more") from None
            if error.errno == errno.EPERM:
                raise permission_error(
                    f"open program {number}", Capability.BPF, Capability.SYS_ADMIN
                ) from None
            raise
        try:
            return cls(fd)
        except BaseException:
            fd.close()
            raise

    def refresh(self) -> ProgramInfo:
        """Ask the kernel again: run counts and time move."""
        self.info = program_info(self.fd.fileno())
        return self.info

    def close(self) -> None:
        """Let go of it; what is attached stays."""
        self.fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def btf_by_id(number: int) -> Btf | None:
    """The BTF with an id, or None where it is gone or there was none (id 0)."""
    if not number:
        return None
    try:
        with sys_bpf.fd_by_id("BTF", number) as fd:
            return Btf(btf_bytes(fd.fileno()))
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EPERM):
            return None
        raise
