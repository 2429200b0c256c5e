"""The XDP hook of an interface: query, attach, replace and detach, over netlink or as a bpf_link.

Nothing here replaces what it was not told to: a first attach insists on an empty hook, everything else on the
program it expects there (compare-and-swap in the kernel, Linux 5.7, kernel commit 92234c8f15c8).
"""

import errno
from typing import TYPE_CHECKING, NamedTuple

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
from netbpf.net.bpflinks import link_words, xdp_links
from netbpf.net.devices import XDP_MODE_FLAGS, Device, XdpProgram, device, remove_xdp
from netbpf.net.failures import gone, program_label, shown, translated
from netbpf.net.rtnetlink import Session
from netbpf.text import word

if TYPE_CHECKING:
    from netbpf.net.remedies import Scene


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
        raise _attach_error(session, interface, mode, error, link=True) from error


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
            held = _link_words(interface, _device(session, interface).xdp)
            raise HookBusyError(
                f"cannot {action}: {held or 'a bpf_link holds it'}",
                hint="remove the link's pin, or end the process that has it open; "
                f"netbpf detach xdp {word(interface.name)} --force detaches the link",
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


def _listed(present: tuple[XdpProgram, ...]) -> str:
    return " and ".join(f"{program_label(number)} ({mode})" for mode, number in present)


def _absent(session: Session, interface: Interface, mode: Mode) -> NotAttachedError:
    present = _device(session, interface).xdp
    if present:
        return NotAttachedError(
            f"{shown(interface)} has no XDP program in mode {mode}, only {_listed(present)}"
        )
    return NotAttachedError(f"{shown(interface)} has no XDP program")


def _attach_error(
    session: Session, interface: Interface, mode: Mode, error: KernelError, *, link: bool = False
) -> NetbpfError:
    """What the kernel meant by refusing a program in ``mode``."""
    from netbpf.net import refusals  # only an error needs the catalogue
    from netbpf.net.remedies import Scene, driver_words

    name = shown(interface)
    action = f"attach an XDP program to {name} in mode {mode}"
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENODEV):
        return translated(error, action, interface)
    scene = Scene(session, interface, _device(session, interface), mode, action, error, link)
    if mode is Mode.HW and error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
        driver = driver_words(session, interface.name)
        return NotSupportedError(
            f"cannot {action}: {driver} cannot offload it to hardware{_words(error)}",
            hint="use --mode native or --mode skb",
        )
    if (known := refusals.known(scene)) is not None:
        return known
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return _busy(scene)
    facts, hint = refusals.silent(scene)
    if error.errno == errno.EOPNOTSUPP:
        why = f" ({facts})" if facts else ""
        driver = driver_words(session, interface.name)
        return NotSupportedError(
            f"cannot {action}: {driver} refuses it{why}{_words(error)}", hint=hint
        )
    if error.errno == errno.ENETDOWN:
        return NotSupportedError(
            f"cannot {action}: the interface is down", hint=f"ip link set dev {scene.name} up"
        )
    detail = error.detail or facts
    return KernelError(f"cannot {action}: {error.call}", error.errno, detail, hint=hint)


def _words(error: KernelError) -> str:
    return f": {error.detail}" if error.detail else ""


def _busy(scene: "Scene") -> HookBusyError:
    name, mode, found = shown(scene.interface), scene.mode, scene.device
    hint = f"to take it off: netbpf detach xdp {scene.name} --force"
    others = [one for one in found.xdp if one.mode is not mode]
    if others and mode is not Mode.HW and others[0].mode is not Mode.HW:
        return HookBusyError(
            f"cannot attach to {name} in mode {mode}: {_listed(found.xdp)} is there, and the kernel "
            "allows one mode at a time",
            hint=hint,
        )
    if scene.error.errno == errno.EEXIST:
        now = f"{_listed(found.xdp)} is on it" if found.xdp else "it is empty"
        return HookBusyError(f"the XDP hook of {name} changed meanwhile: {now} now")
    if found.xdp:
        held = _link_words(scene.interface, found.xdp)
        return HookBusyError(
            f"the XDP hook of {name} is taken: {_listed(found.xdp)} is on it{held and f', {held}'}",
            hint=hint,
        )
    return HookBusyError(
        f"the XDP hook of {name} was taken a moment ago, and is empty now", hint="try again"
    )


def _link_words(interface: Interface, present: tuple[XdpProgram, ...]) -> str:
    """What holds a program there, in words; "" where no link does or none may be seen."""
    links = xdp_links()
    for one in present:
        number = links.get((interface.index, one.prog_id))
        if number:
            return link_words(number)
    return ""
