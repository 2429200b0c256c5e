"""What live programs and maps have in common: a descriptor, an id to open them by, and what the kernel says."""

import errno
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Self, TypeVar

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf.errors import KernelError, NotAttachedError

Info = TypeVar("Info")


class Handle(ABC, Generic[Info]):
    """An open kernel object; owns its descriptor. Close it, or use it as a context manager.

    ``info`` is what the kernel said when it was opened, or last ``refresh``-ed.
    """

    kind: ClassVar[str]  # as bpf(2) commands name it: PROG, MAP
    word: ClassVar[str]  # as people name it

    def __init__(self, fd: Fd) -> None:
        """Take over ``fd``; it is closed if the kernel does not describe it."""
        self.fd = fd
        try:
            self.info: Info = self._describe()
        except BaseException:
            fd.close()
            raise

    @abstractmethod
    def _describe(self) -> Info:
        """Ask the kernel."""

    @classmethod
    def by_id(cls, number: int) -> Self:
        """Open one by its id; NotAttachedError where it is gone, PermissionDeniedError without CAP_SYS_ADMIN."""
        try:
            return cls(sys_bpf.fd_by_id(cls.kind, number))
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise NotAttachedError(f"{cls.word} {number} does not exist any more") from None
            if error.errno == errno.EPERM:
                raise permission_error(f"open {cls.word} {number}", Capability.SYS_ADMIN) from None
            raise

    def refresh(self) -> Info:
        """Ask the kernel again: run counts and times move."""
        self.info = self._describe()
        return self.info

    def close(self) -> None:
        """Let go of it; what is attached or pinned stays."""
        self.fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
