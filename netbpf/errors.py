"""Every error netbpf raises on purpose, with the exit code the command line ends with.

::

    NetbpfError                      1   anything without a code of its own
    |- UsageError                    2   the request itself makes no sense
    |  `- PacketTextError            2   a packet written as text is none; keeps the place
    |- ObjectError                   3   the object, or what was asked of it, is wrong
    |  `- CompileError               3   the source does not compile
    |- CaptureError                  3   a capture (pcap, pcapng) is none, or holds what cannot be replayed
    |- VerifierError                 4   the kernel's verifier rejected the program
    |- NotSupportedError             5   this kernel, driver or host cannot do it
    |  `- ToolMissingError           5   a program or package netbpf needs is not installed
    |- InterfaceNotFoundError        6   no such interface
    |- NamespaceNotFoundError        6   no such network namespace
    |- HookBusyError                 7   something else is on the hook, or changed it meanwhile
    |- NotAttachedError              8   nothing is attached where something was expected
    |- NotManagedError               9   it is there, but netbpf did not put it there
    |- PermissionDeniedError        10   a capability is missing; it is named
    |- LockTimeoutError             11   another netbpf holds the lock
    `- KernelError                   1   a system call failed; keeps call and errno

Messages name the object, say why, and leave what to do next to ``hint``.
"""

import errno as _errno
import os
from enum import IntEnum

TYPE_CHECKING = False  # as typing has it, without importing typing
if TYPE_CHECKING:
    from netbpf.explain.model import RejectedCode


class ExitCode(IntEnum):
    """What the command line ends with."""

    OK = 0
    OTHER = 1
    USAGE = 2
    BAD_OBJECT = 3
    REJECTED = 4
    NOT_SUPPORTED = 5
    NO_INTERFACE = 6
    HOOK_BUSY = 7
    NOT_ATTACHED = 8
    NOT_MANAGED = 9
    PERMISSION = 10
    LOCK_TIMEOUT = 11


class NetbpfError(Exception):
    """Root of all errors netbpf raises on purpose.

    ``message`` is one line: what happened, to which object, and why. ``hint`` is what to do next, or None.
    ``member`` is the member of a chain that it is about, or None.
    """

    exit_code = ExitCode.OTHER
    member: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(NetbpfError):
    """The request contradicts itself or names a value that cannot be."""

    exit_code = ExitCode.USAGE


class PacketTextError(UsageError):
    """A packet written as an expression or in hex is none; ``at`` and ``length`` are the place in ``text``."""

    def __init__(
        self, message: str, text: str, at: int, length: int = 1, *, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.text = text
        self.at = at
        self.length = length


class ObjectError(NetbpfError):
    """The object file is malformed, or does not hold what was asked for."""

    exit_code = ExitCode.BAD_OBJECT


class CompileError(ObjectError):
    """A source does not compile; ``output`` is the compiler's own text, unchanged."""

    def __init__(self, message: str, *, output: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.output = output


class CaptureError(NetbpfError):
    """A file is no capture, is damaged from its start, or holds packets of a link type that programs do not run on."""

    exit_code = ExitCode.BAD_OBJECT


class VerifierError(NetbpfError):
    """The kernel's verifier rejected a program; ``log`` is its whole log, ``errno`` what BPF_PROG_LOAD gave.

    ``code`` says what the instructions of the log come from; ``netbpf.explain.explain`` makes an explanation of it.
    """

    exit_code = ExitCode.REJECTED

    def __init__(
        self,
        message: str,
        *,
        log: str = "",
        hint: str | None = None,
        errno: int = 0,
        code: "RejectedCode | None" = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.log = log
        self.errno = errno
        self.code = code


class NotSupportedError(NetbpfError):
    """This kernel, driver or host lacks what the request needs."""

    exit_code = ExitCode.NOT_SUPPORTED


class ToolMissingError(NotSupportedError):
    """A program or file that netbpf needs is not installed; the hint names the package."""


class InterfaceNotFoundError(NetbpfError):
    """No interface of that name or index in the namespace."""

    exit_code = ExitCode.NO_INTERFACE


class NamespaceNotFoundError(NetbpfError):
    """The name or path is not a network namespace."""

    exit_code = ExitCode.NO_INTERFACE


class HookBusyError(NetbpfError):
    """Another program is on the hook, or the hook changed between looking and acting."""

    exit_code = ExitCode.HOOK_BUSY


class NotAttachedError(NetbpfError):
    """Nothing is attached where the request expects something."""

    exit_code = ExitCode.NOT_ATTACHED


class NotManagedError(NetbpfError):
    """The program on the hook was not attached by netbpf."""

    exit_code = ExitCode.NOT_MANAGED


class PermissionDeniedError(NetbpfError):
    """A capability is missing."""

    exit_code = ExitCode.PERMISSION


class LockTimeoutError(NetbpfError):
    """Another netbpf held the lock for the whole waiting time."""

    exit_code = ExitCode.LOCK_TIMEOUT


class KernelError(NetbpfError):
    """A system call or netlink request failed in a way nothing above could name better.

    ``call`` is what was tried (``BPF_MAP_CREATE``), ``errno`` the positive error number, ``detail`` the
    kernel's own words (netlink extack) where it gave any.
    """

    def __init__(self, call: str, errno: int, detail: str = "", *, hint: str | None = None) -> None:
        name = _errno.errorcode.get(errno, str(errno))
        text = f"{call}: {os.strerror(errno)} ({name})"
        super().__init__(f"{text}: {detail}" if detail else text, hint=hint)
        self.call = call
        self.errno = errno
        self.detail = detail
