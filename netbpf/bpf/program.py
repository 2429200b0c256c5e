"""A live program: what the kernel says of it."""

import errno
from typing import TYPE_CHECKING

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.info import btf_bytes, program_info
from netbpf.bpf.handle import Handle
from netbpf.errors import KernelError
from netbpf.model import ProgramInfo

if TYPE_CHECKING:
    from netbpf.bpf.btf.types import Btf


class Program(Handle[ProgramInfo]):
    """An open program."""

    kind, word = "PROG", "program"

    def _describe(self) -> ProgramInfo:
        return program_info(self.fd.fileno())


def btf_by_id(number: int) -> "Btf | None":
    """The BTF with an id, or None where it is gone or there was none (id 0)."""
    if not number:
        return None
    from netbpf.bpf.btf.types import Btf

    try:
        with sys_bpf.fd_by_id("BTF", number) as fd:
            return Btf(btf_bytes(fd.fileno()))
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EPERM):
            return None
        raise
