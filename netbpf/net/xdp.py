"""The XDP hook of an interface: query, attach, replace and detach, over netlink or as a bpf_link.

Nothing here replaces what it was not told to: a first attach insists on an empty hook, everything else on the
program it expects there (compare-and-swap in the kernel, Linux 5.7, kernel commit 92234c8f15c8).
"""

import errno
import os
from typing import Final, NamedTuple

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf.constants import AttachType, Mode, XdpFlag
from netbpf.errors import (
    HookBusyError,
    KernelError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
)
from netbpf.model import Interface
from netbpf.net import netlink
from netbpf.net.bpflinks import xdp_links
from netbpf.net.devices import XDP_MODE_FLAGS, Device, device, remove_xdp
from netbpf.net.failures import gone, program_label, shown, translated
from netbpf.net.interfaces import driver
from netbpf.net.rtnetlink import Session
from netbpf.text import escape

# What a veth keeps free in a page for XDP: headroom, struct skb_shared_info, the Ethernet header
# (drivers/net/veth.c veth_xdp_set). The limit is on the MTU of the other end, which fills our buffers.
_VETH_RESERVE: Final = 256 + 320 + 14


class XdpAttachment(NamedTuple):
    """A program on the XDP hook; ``link_id`` is 0 for one attached over netlink, or where links may not be seen."""

    mode: Mode
    prog_id: int
    link_id: int


def query(session: Session, interface: Interface) -> list[XdpAttachment]:
    """What is on the hook now: nothing, one program, or one in the driver and one in the hardware.

    Raises InterfaceNotFoundError, KernelError.
    """
    present = _device(session, interface).xdp
    links = xdp_links() if present else {}
    return [
        XdpAttachment(one.mode, one.prog_id, links.get((interface.index, one.prog_id), 0))
        for one in present
    ]


def attach(
    session: Session,
    interface: Interface,
    prog_fd: int,
    mode: Mode,
    *,
    expected_fd: int | None = None,
) -> None:
    """Attach over netlink, to an empty hook, or in place of exactly the program ``expected_fd``.

    Raises HookBusyError, NotSupportedError (driver, MTU, features), InterfaceNotFoundError, PermissionDeniedError,
    KernelError. The hook is then as it was.
    """
    flags = XDP_MODE_FLAGS[mode]
    flags |= XdpFlag.UPDATE_IF_NOEXIST if expected_fd is None else XdpFlag.REPLACE
    try:
        netlink.set_xdp(session, interface.index, prog_fd, flags, expected_fd)
    except KernelError as error:
        raise _attach_error(session, interface, mode, error) from error


def attach_link(session: Session, interface: Interface, prog_fd: int, mode: Mode) -> Fd:
    """Attach to an empty hook as a bpf_link (Linux 5.9): it is detached when the last descriptor or pin goes.

    The kernel asks for no capability here; the program's descriptor is proof enough. Raises as ``attach`` does.
    """
    try:
        return session.namespace.run(
            bpf.link_create,
            prog_fd,
            interface.index,
            AttachType.XDP,
            flags=int(XDP_MODE_FLAGS[mode]),
        )
    except KernelError as error:
        raise _attach_error(session, interface, mode, error) from error


def detach(session: Session, interface: Interface, mode: Mode, *, expected_fd: int | None) -> None:
    """Take off the program in ``mode``, with ``expected_fd`` only if it is that one.

    Raises NotAttachedError, HookBusyError (another program by now, or one held by a link),
    InterfaceNotFoundError, PermissionDeniedError, KernelError.
    """
    if mode not in [one.mode for one in _device(session, interface).xdp]:
        raise _absent(session, interface, mode)
    try:
        remove_xdp(session, interface.index, mode, expected_fd)
    except KernelError as error:
        action = f"detach the XDP program of {shown(interface)}"
        if error.errno == errno.EBUSY:
            raise HookBusyError(
                f"cannot {action}: a bpf_link holds it",
                hint="remove the link's pin, or end the process that has it open; "
                "netbpf detach --force detaches the link",
            ) from error
        if error.errno == errno.EEXIST:
            present = _device(session, interface).xdp
            if mode not in [one.mode for one in present]:
                raise _absent(session, interface, mode) from error
            raise HookBusyError(f"cannot {action}: {_listed(present)} is on it by now") from error
        raise translated(error, action, interface) from error


def _device(session: Session, interface: Interface) -> Device:
    found = device(session, interface.index)
    if found is None:
        raise gone(interface)
    return found


def _listed(present: tuple[tuple[Mode, int], ...]) -> str:
    return " and ".join(f"{program_label(number)} ({mode})" for mode, number in present)


def _absent(session: Session, interface: Interface, mode: Mode) -> NotAttachedError:
    present = _device(session, interface).xdp
    if present:
        return NotAttachedError(
            f"{shown(interface)} has no XDP program in mode {mode}, only {_listed(present)}"
        )
    return NotAttachedError(f"{shown(interface)} has no XDP program")


def _attach_error(
    session: Session, interface: Interface, mode: Mode, error: KernelError
) -> NetbpfError:
    """What the kernel meant by refusing a program in ``mode``."""
    name = shown(interface)
    action = f"attach an XDP program to {name} in mode {mode}"
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENODEV):
        return translated(error, action, interface)
    found = _device(session, interface)
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return _busy(interface, mode, found, error)
    words = f": {error.detail}" if error.detail else ""
    if mode is Mode.HW and error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        return NotSupportedError(
            f"cannot {action}: {_driver(session, interface)} cannot offload it to hardware{words}",
            hint="use --mode native or --mode skb",
        )
    if error.errno == errno.ERANGE or "MTU" in error.detail:
        return _too_large(session, action, found, words)
    if error.errno == errno.EOPNOTSUPP:
        return NotSupportedError(
            f"cannot {action}: {_driver(session, interface)} refuses it{words}",
            hint="--mode skb works with every driver, at more cost per packet"
            if mode is Mode.NATIVE
            else None,
        )
    return translated(error, action, interface)


def _busy(interface: Interface, mode: Mode, found: Device, error: KernelError) -> HookBusyError:
    name = shown(interface)
    hint = f"to take it off: netbpf detach xdp {name} --force"
    others = [one for one in found.xdp if one.mode is not mode]
    if others and mode is not Mode.HW and others[0].mode is not Mode.HW:
        return HookBusyError(
            f"cannot attach to {name} in mode {mode}: {_listed(found.xdp)} is there, and the kernel "
            "allows one mode at a time",
            hint=hint,
        )
    if error.errno == errno.EEXIST:
        now = f"{_listed(found.xdp)} is on it" if found.xdp else "it is empty"
        return HookBusyError(f"the XDP hook of {name} changed meanwhile: {now} now")
    if found.xdp:
        return HookBusyError(
            f"the XDP hook of {name} is taken: {_listed(found.xdp)} is on it", hint=hint
        )
    return HookBusyError(
        f"the XDP hook of {name} was taken a moment ago, and is empty now", hint="try again"
    )


def _driver(session: Session, interface: Interface) -> str:
    found = driver(session, interface.name)
    return f"the driver {found}" if found else "its driver"


def _too_large(session: Session, action: str, found: Device, words: str) -> NotSupportedError:
    mtu, subject = found.mtu, "its MTU"
    limit = ""
    if found.kind == "veth":
        other = device(session, found.peer)
        # The index may belong to somebody else when the other end lies in another namespace.
        if other is not None and other.kind == "veth" and other.peer == found.ifindex:
            mtu, subject = other.mtu, f"the MTU of its other end {escape(other.name)}"
        else:
            mtu, subject = 0, "the MTU of its other end"
        limit = f" to at most {os.sysconf('SC_PAGE_SIZE') - _VETH_RESERVE}"
    size = f" ({mtu} bytes)" if mtu else ""
    return NotSupportedError(
        f"cannot {action}: {subject}{size} is too large for a program without fragments{words}",
        hint='build it with SEC("xdp.frags") (Linux 5.18), or use --mode skb, '
        f"or lower {subject}{limit}",
    )
