"""bpf_links of XDP and TCX: find, update and detach them. Creating one is the hook's own matter."""

import errno

from netbpf._sys import bpf
from netbpf._sys.capabilities import Capability
from netbpf._sys.info import link_info
from netbpf.constants import LinkType
from netbpf.errors import HookBusyError, InterfaceNotFoundError, KernelError
from netbpf.model import Interface
from netbpf.net.failures import lacks, shown, translated


def xdp_links() -> dict[tuple[int, int], int]:
    """Every XDP link of the machine: (ifindex, program id) -> link id; empty without CAP_SYS_ADMIN.

    Netlink shows the program of an XDP hook but not its link, and the link tells its ifindex but not the
    namespace: of two links with one program on equal ifindexes in two namespaces, one is shown for both.
    """
    found: dict[tuple[int, int], int] = {}
    number = 0
    try:
        while (following := bpf.next_id("LINK", number)) is not None:
            number = following
            try:
                with bpf.fd_by_id("LINK", number) as fd:
                    link = link_info(fd.fileno())
            except KernelError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN):
                    continue  # closed meanwhile, or not quite there (kernel/bpf/syscall.c bpf_link_by_id)
                raise
            if link.type == LinkType.XDP and link.ifindex:
                found[link.ifindex, link.prog_id] = link.id
    except KernelError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):  # EINVAL: no link ids before Linux 5.8
            raise
    return found


def link_words(link_id: int) -> str:
    """``bpf_link 5 holds it, kept by process 12 (ip) and the pin /sys/fs/bpf/x``; searched for, so for errors only."""
    from netbpf.bpf.holders import link_holders

    holders = str(link_holders(link_id))
    return f"bpf_link {link_id} holds it" + (f", kept by {holders}" if holders else "")


def update(link_fd: int, interface: Interface, prog_fd: int, *, old_prog_fd: int) -> None:
    """Put another program into a link, in one step, if ``old_prog_fd`` is still the one in it.

    Raises HookBusyError if it is not, InterfaceNotFoundError if the link outlived its interface or was detached,
    PermissionDeniedError, KernelError.
    """
    action = f"replace the program of a link on {shown(interface)}"
    try:
        bpf.link_update(link_fd, prog_fd, old_prog_fd=old_prog_fd)
    except KernelError as error:
        if error.errno == errno.ENOLINK:
            raise InterfaceNotFoundError(
                f"cannot {action}: the link is on no interface any more"
            ) from error
        # EPERM is also what the kernel says to a wrong old program (net/core/dev.c bpf_xdp_link_update).
        if error.errno == errno.EPERM and not lacks(Capability.BPF, Capability.NET_ADMIN):
            raise HookBusyError(f"cannot {action}: it holds another program by now") from error
        raise translated(error, action, interface) from error


def detach(link_fd: int, interface: Interface) -> None:
    """Take a link off its interface, though others may hold the link; harmless if the interface is gone."""
    try:
        bpf.link_detach(link_fd)
    except KernelError as error:
        if error.errno == errno.ENOLINK:
            return
        raise translated(error, f"detach a link from {shown(interface)}", interface) from error
