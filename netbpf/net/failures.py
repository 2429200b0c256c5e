"""What an errno means at a hook, where it means the same for every hook."""

import errno

from netbpf._sys import bpf
from netbpf._sys.capabilities import Capability, missing, permission_error
from netbpf._sys.info import program_info
from netbpf.errors import InterfaceNotFoundError, KernelError, NetbpfError
from netbpf.model import Interface
from netbpf.text import escape


def shown(interface: Interface) -> str:
    """The interface's name fit for a message."""
    return escape(interface.name)


def translated(error: KernelError, action: str, interface: Interface) -> NetbpfError:
    """The error to raise for ``error`` while doing ``action`` ("attach ... to eth0"), whatever the hook.

    InterfaceNotFoundError, PermissionDeniedError, or the KernelError with the action in front.
    """
    if error.errno in (errno.ENODEV, errno.ENXIO):
        return gone(interface)
    if error.errno in (errno.EPERM, errno.EACCES):
        return permission_error(action, Capability.NET_ADMIN)
    return KernelError(f"cannot {action}: {error.call}", error.errno, error.detail)


def gone(interface: Interface) -> InterfaceNotFoundError:
    """The interface was there once: it has been deleted, or moved to another network namespace."""
    return InterfaceNotFoundError(
        f"interface {shown(interface)} (ifindex {interface.index}) is gone from its network namespace"
    )


def lacks(*capabilities: Capability) -> bool:
    """Whether the calling thread is without one of these capabilities."""
    return bool(missing(*capabilities))


def program_label(prog_id: int) -> str:
    """``program 12 'xdp_drop'``; without the name where the program is gone or may not be looked at."""
    try:
        with bpf.fd_by_id("PROG", prog_id) as fd:
            name = program_info(fd.fileno()).name
    except KernelError:
        name = ""
    return f"program {prog_id} '{escape(name)}'" if name else f"program {prog_id}"
