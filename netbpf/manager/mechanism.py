"""The ways onto a hook: XDP over netlink, clsact filters, and pinned links (XDP, TCX).

Each is put, swapped and taken the same way, so that what decides need not know which it is.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from netbpf import layout
from netbpf._sys.bpf import fd_by_id
from netbpf._sys.fd import Fd
from netbpf._sys.info import link_info
from netbpf.bpf import pin
from netbpf.bpf.program import Program
from netbpf.constants import Hook, Mode
from netbpf.errors import HookBusyError, KernelError, NotAttachedError
from netbpf.model import Interface, Occupant
from netbpf.net import bpflinks, tc, tcx, xdp
from netbpf.net.rtnetlink import Session
from netbpf.state import qdiscs

DEFAULT_PRIORITY = 50  # as everywhere in the field: libxdp, bpfman


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program goes. ``priority`` is the clsact filter's."""

    interface: Interface
    hook: Hook
    mode: Mode
    link: bool = False
    priority: int = DEFAULT_PRIORITY


def put(session: Session, place: Place, program: Program, undo: ExitStack) -> None:
    """Attach where nothing of netbpf's is yet; every step's inverse goes onto ``undo``. Raises as net.xdp does."""
    if place.link:
        _put_link(session, place, program, undo)
    elif place.hook is Hook.XDP:
        xdp.attach(session, place.interface, program.fd.fileno(), place.mode)
        undo.callback(
            xdp.detach, session, place.interface, place.mode, expected_fd=program.fd.fileno()
        )
    else:
        _put_filter(session, place, program, undo)


def _put_filter(session: Session, place: Place, program: Program, undo: ExitStack) -> None:
    ensure_clsact(session, place.interface, undo)
    name = f"{program.info.name}:[{program.info.id}]"
    where = tc.attach(
        session,
        place.interface,
        place.hook,
        program.fd.fileno(),
        name=name,
        priority=place.priority,
    )
    undo.callback(
        tc.detach, session, place.interface, place.hook, where, expected_id=program.info.id
    )


def ensure_clsact(session: Session, interface: Interface, undo: ExitStack) -> None:
    """A clsact qdisc on the interface, marked as netbpf's if it was made here."""
    if qdiscs.created(interface):
        tc.ensure_clsact(session, interface)  # it may have been deleted behind our back
        return
    qdiscs.mark_creating(interface)
    undo.callback(qdiscs.forget, interface)
    if tc.ensure_clsact(session, interface):
        undo.callback(tc.remove_unused_clsact, session, interface)
        qdiscs.mark_created(interface)
    else:
        qdiscs.forget(interface)


def _put_link(session: Session, place: Place, program: Program, undo: ExitStack) -> None:
    path = layout.link_pin(pin.bpffs(), place.interface.netns, place.interface.index, place.hook)
    _sweep_pin(path)
    if place.hook is Hook.XDP:
        link = xdp.attach_link(session, place.interface, program.fd.fileno(), place.mode)
    else:
        link = tcx.attach_link(session.namespace, place.interface, place.hook, program.fd.fileno())
    # The link lives by this descriptor until the pin holds it: killed in between, nothing is left.
    with link:
        pin.pin(path, link.fileno())
    undo.callback(_drop_link, path, place.interface)


def _drop_link(path: Path, interface: Interface) -> None:
    link = pin.open_pin(path)
    if link:
        with link:
            bpflinks.detach(link.fileno(), interface)
        pin.unpin(path)


def _sweep_pin(path: Path) -> None:
    """Remove the pin of a link that is on nothing any more: its interface is gone, or a crash came in between."""
    link = pin.open_pin(path)
    if link is None:
        return
    with link:
        if link_info(link.fileno()).ifindex == 0:
            pin.unpin(path)


@contextmanager
def _link(occupant: Occupant) -> Iterator[Fd]:
    try:
        with fd_by_id("LINK", occupant.link_id) as link:
            yield link
    except KernelError as error:
        raise NotAttachedError(
            f"the link on {occupant.interface.name} {occupant.hook} went away meanwhile"
        ) from error


def swap(session: Session, occupant: Occupant, new: Program) -> None:
    """Put ``new`` in place of exactly the program that ``occupant`` shows, without a gap.

    HookBusyError where another one is there by now.
    """
    with Program.by_id(occupant.prog_id) as old:
        if occupant.link_id:
            with _link(occupant) as link:
                bpflinks.update(
                    link.fileno(), occupant.interface, new.fd.fileno(), old_prog_fd=old.fd.fileno()
                )
        elif occupant.hook is Hook.XDP:
            xdp.attach(
                session,
                occupant.interface,
                new.fd.fileno(),
                occupant.mode,
                expected_fd=old.fd.fileno(),
            )
        elif occupant.filter:
            tc.replace(
                session, occupant.interface, occupant.hook, occupant.filter, new.fd.fileno(),
                expected_id=occupant.prog_id,
            )  # fmt: skip
        else:
            raise _not_ours(occupant)


def take(session: Session, occupant: Occupant) -> None:
    """Remove exactly what ``occupant`` shows, and the qdisc and pin that netbpf made for it."""
    if occupant.link_id:
        with _link(occupant) as link:
            bpflinks.detach(link.fileno(), occupant.interface)
        forget_pins(occupant)
    elif occupant.hook is Hook.XDP:
        with Program.by_id(occupant.prog_id) as program:
            xdp.detach(session, occupant.interface, occupant.mode, expected_fd=program.fd.fileno())
    elif occupant.filter:
        tc.detach(
            session,
            occupant.interface,
            occupant.hook,
            occupant.filter,
            expected_id=occupant.prog_id,
        )
        if qdiscs.created(occupant.interface) and tc.remove_unused_clsact(
            session, occupant.interface
        ):
            qdiscs.forget(occupant.interface)
    else:
        tcx.detach(session.namespace, occupant.interface, occupant.hook, occupant.prog_id)


def forget_pins(occupant: Occupant) -> None:
    """Remove netbpf's pin of a hook, wherever it is."""
    interface = occupant.interface
    for root in pin.existing_bpffs():
        pin.unpin(layout.link_pin(root, interface.netns, interface.index, occupant.hook))


def _not_ours(occupant: Occupant) -> HookBusyError:
    return HookBusyError(
        f"{occupant.interface.name} {occupant.hook} runs program {occupant.prog_id}, attached without a link or filter",
        hint="take it off with the tool that attached it",
    )
