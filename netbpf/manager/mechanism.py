"""The ways onto a hook: XDP over netlink, clsact filters, and pinned links (XDP, TCX).

Each is put, swapped and taken the same way, so that what decides need not know which it is.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netbpf import layout
from netbpf._sys.bpf import fd_by_id
from netbpf._sys.capabilities import Capability, permission_error
from netbpf._sys.fd import Fd
from netbpf._sys.info import link_info
from netbpf.bpf import pin
from netbpf.bpf.program import Program
from netbpf.constants import Hook, Mode
from netbpf.errors import HookBusyError, KernelError, NotAttachedError, NotSupportedError
from netbpf.manager.undo import Undo
from netbpf.model import Interface, Occupant
from netbpf.net import bpflinks, tc, tcx, xdp
from netbpf.net.failures import program_label, shown
from netbpf.net.filters import qdisc
from netbpf.net.rtnetlink import Session
from netbpf.state import qdiscs

DEFAULT_PREF = 50  # as everywhere in the field: libxdp, bpfman


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program goes. ``pref`` is the clsact filter's priority."""

    interface: Interface
    hook: Hook
    mode: Mode
    link: bool = False
    pref: int = DEFAULT_PREF


def put(
    session: Session, place: Place, program: Program, undo: Undo, *, position: int | None = None
) -> None:
    """Attach where nothing of netbpf's is yet; every step's inverse goes onto ``undo``. Raises as net.xdp does.

    ``position`` is the place among the programs of a TCX hook, by default the last.
    """
    if place.link:
        _put_link(session, place, program, undo, position)
    elif place.hook is Hook.XDP:
        undo.callback(_take_xdp, session, place, program)
        xdp.attach(session, place.interface, program.fd.fileno(), place.mode)
    else:
        _put_filter(session, place, program, undo)


def put_at(session: Session, was: Occupant, program: Program, undo: Undo) -> None:
    """Attach exactly where a program was that has been taken off: mechanism, mode, filter, place in the order.

    NotSupportedError for a TCX program without a link, which netbpf never makes.
    """
    place = Place(was.interface, was.hook, was.mode, bool(was.link_id))
    if was.filter:
        ensure_clsact(session, was.interface, undo)
        undo.callback(_take_filters, session, place, program.info.id)
        tc.attach_at(session, was.interface, was.hook, was.filter, program.fd.fileno())
    elif was.mode is Mode.TCX and not was.link_id:
        raise NotSupportedError("netbpf puts no program on a TCX hook without a link")
    else:
        put(session, place, program, undo, position=was.position)


def _take_xdp(session: Session, place: Place, program: Program) -> None:
    present = xdp.query(session, place.interface)
    if any(one.prog_id == program.info.id for one in present):
        xdp.detach(session, place.interface, place.mode, expected_fd=program.fd.fileno())


def _put_filter(session: Session, place: Place, program: Program, undo: Undo) -> None:
    ensure_clsact(session, place.interface, undo)
    undo.callback(_take_filters, session, place, program.info.id)
    tc.attach(
        session,
        place.interface,
        place.hook,
        program.fd.fileno(),
        name=f"{program.info.name}:[{program.info.id}]",
        priority=place.pref,
    )


def _take_filters(session: Session, place: Place, prog_id: int) -> None:
    for one in tc.query(session, place.interface, place.hook):
        if one.prog_id == prog_id:
            tc.detach(session, place.interface, place.hook, one.place, expected_id=prog_id)


def ensure_clsact(session: Session, interface: Interface, undo: Undo) -> None:
    """A clsact qdisc on the interface, marked as netbpf's if it is made here."""
    if qdisc(session, interface.index) is None:
        undo.callback(drop_clsact, session, interface)
        qdiscs.mark(interface, session.cookie())
        if tc.ensure_clsact(session, interface):
            return
        qdiscs.forget(interface.netns, interface.index)  # somebody else was faster
    else:
        tc.ensure_clsact(session, interface)  # says what is wrong with it, if anything


def drop_clsact(session: Session, interface: Interface) -> bool:
    """Remove the clsact qdisc that netbpf made, unless others use it by now; whether it was removed."""
    if not qdiscs.made(interface, session.cookie()):
        return False
    removed = tc.remove_unused_clsact(session, interface)
    if removed or not tc.in_use(session, interface):
        qdiscs.forget(interface.netns, interface.index)
    return removed


def _put_link(
    session: Session, place: Place, program: Program, undo: Undo, position: int | None
) -> None:
    path = layout.link_pin(pin.bpffs(), place.interface.netns, place.interface.index, place.hook)
    if place.hook is Hook.XDP:
        link = xdp.attach_link(session, place.interface, program.fd.fileno(), place.mode)
    else:
        before = 0
        if position is not None:
            there = tcx.query(session.namespace, place.interface, place.hook).programs
            before = there[position].prog_id if position < len(there) else 0
        link = tcx.attach_link(
            session.namespace, place.interface, place.hook, program.fd.fileno(), before=before
        )
    # The link lives by this descriptor until the pin holds it: killed in between, nothing is left.
    with link:
        undo.callback(_drop_link, path, link_info(link.fileno()).id, place.interface)
        pin.pin(path, link.fileno())


def _drop_link(path: Path, link_id: int, interface: Interface) -> None:
    link = pin.open_pin(path)
    if link:
        with link:
            if link_info(link.fileno()).id != link_id:
                return
            bpflinks.detach(link.fileno(), interface)
        pin.unpin(path)


@contextmanager
def _link(occupant: Occupant) -> Iterator[Fd]:
    try:
        link = fd_by_id("LINK", occupant.link_id)
    except KernelError as error:
        at = f"the link on {shown(occupant.interface)} {occupant.hook}"
        if error.errno == errno.ENOENT:
            raise NotAttachedError(f"{at} went away meanwhile") from error
        if error.errno in (errno.EPERM, errno.EACCES):
            raise permission_error(f"open {at}", Capability.SYS_ADMIN) from error
        raise
    with link:
        yield link


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
        with _expected(session, occupant) as program:
            xdp.detach(session, occupant.interface, occupant.mode, expected_fd=program.fd.fileno())
    elif occupant.filter:
        tc.detach(
            session,
            occupant.interface,
            occupant.hook,
            occupant.filter,
            expected_id=occupant.prog_id,
        )
        drop_clsact(session, occupant.interface)
    else:
        tcx.detach(session.namespace, occupant.interface, occupant.hook, occupant.prog_id)


def _expected(session: Session, occupant: Occupant) -> Program:
    """The program that is on an XDP hook; it lives as long as it is there."""
    try:
        return Program.by_id(occupant.prog_id)
    except NotAttachedError as error:
        name = shown(occupant.interface)
        present = xdp.query(session, occupant.interface)
        if present:
            other = program_label(present[0].prog_id)
            raise HookBusyError(
                f"the XDP hook of {name} changed meanwhile: {other} is on it now"
            ) from error
        raise NotAttachedError(f"{name} has lost its XDP program meanwhile") from error


def forget_pins(occupant: Occupant) -> None:
    """Remove netbpf's pin of a link, wherever it is: its name tells where the interface was, not where it is."""
    for path in pins():
        link = pin.open_pin(path)
        if link is None:
            continue
        with link:
            same = link_info(link.fileno()).id == occupant.link_id
        if same:
            pin.unpin(path)


def pins() -> list[Path]:
    """Every pin of netbpf's links, in each bpffs that is visible here."""
    return [path for root in pin.existing_bpffs() for path in pin.listed(layout.link_pins(root))]


def _not_ours(occupant: Occupant) -> HookBusyError:
    return HookBusyError(
        f"{occupant.interface.name} {occupant.hook} runs program {occupant.prog_id}, attached without a link or filter",
        hint="take it off with the tool that attached it",
    )
