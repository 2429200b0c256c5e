"""The TC hooks over netlink: a clsact qdisc and bpf filters in direct-action mode.

The kernel has no compare-and-swap for filters; what is replaced or removed is looked at directly before, under
the caller's lock. A filter is added only where none is, so nobody else's is ever overwritten.
"""

import errno
from typing import Final

from netbpf.constants import Hook
from netbpf.errors import (
    HookBusyError,
    KernelError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    UsageError,
)
from netbpf.model import Interface, TcFilter
from netbpf.net import netlink
from netbpf.net.devices import device
from netbpf.net.failures import gone, program_label, shown, translated
from netbpf.net.filters import Filter, Qdisc, filters, qdisc, remove_clsact, remove_filter
from netbpf.net.rtnetlink import Session
from netbpf.text import word

ETH_P_ALL: Final = 3
_HOOKS: Final = (Hook.TC_INGRESS, Hook.TC_EGRESS)
# How often another process may take the handle that was free a moment ago.
_HANDLE_ATTEMPTS: Final = 32


def query(session: Session, interface: Interface, hook: Hook) -> list[Filter]:
    """The filters of any kind on one hook, in running order, without the heads of priorities.

    Raises KernelError. An interface without qdisc, or that is gone, has none.
    """
    found = qdisc(session, interface.index)
    return _of(session, interface, hook, found) if found is not None else []


def _of(session: Session, interface: Interface, hook: Hook, found: Qdisc) -> list[Filter]:
    # To an ingress qdisc both parents are its one list (net/sched/sch_ingress.c ingress_tcf_block).
    if found.kind != "clsact" and hook is Hook.TC_EGRESS:
        return []
    return [one for one in filters(session, interface.index, hook) if one.place.handle]


def ensure_clsact(session: Session, interface: Interface) -> bool:
    """See to it that the interface has a clsact qdisc: True if it was made here, False if it was there.

    Raises HookBusyError for an ingress qdisc, which excludes clsact, NotSupportedError, InterfaceNotFoundError,
    PermissionDeniedError, KernelError.
    """
    name = shown(interface)
    action = f"add a clsact qdisc to {name}"
    for _ in range(2):
        found = qdisc(session, interface.index)
        if found is not None:
            _check_clsact(session, found, interface)
            return False
        try:
            netlink.add_clsact(session, interface.index)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                continue  # somebody else's, this moment
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                raise NotSupportedError(
                    f"cannot {action}: {error.detail or 'the kernel does not know it'}",
                    hint="the kernel needs CONFIG_NET_SCH_INGRESS; try --link (TCX, Linux 6.6)",
                ) from error
            raise translated(error, action, interface) from error
        return True
    raise HookBusyError(f"cannot {action}: it comes and goes", hint="try again")


def _check_clsact(session: Session, found: Qdisc, interface: Interface) -> None:
    if found.kind != "clsact":
        name = shown(interface)
        present = _of(session, interface, Hook.TC_INGRESS, found)
        on_it = ", ".join(
            program_label(one.prog_id) if one.prog_id else f"a {one.kind} filter"
            for one in present[:3]
        ) + (f" and {len(present) - 3} more" if len(present) > 3 else "")
        raise HookBusyError(
            f"{name} has an '{found.kind}' qdisc that netbpf did not make, with {on_it or 'no filters'} on it; "
            "a clsact qdisc cannot stand beside it",
            hint=f"if nobody needs it and its filters: tc qdisc del dev {word(interface.name)} {found.kind}; "
            "or attach with --link (TCX)",
        )


def attach(
    session: Session, interface: Interface, hook: Hook, prog_fd: int, *, name: str, priority: int
) -> TcFilter:
    """Add a direct-action filter for all protocols; where it sits. The clsact qdisc has to be there.

    Lower priorities run first; of equal ones the kernel runs the newest first. Raises HookBusyError (the priority
    belongs to a filter of another kind or protocol), UsageError, NotSupportedError, InterfaceNotFoundError,
    PermissionDeniedError, KernelError.
    """
    if not 1 <= priority <= 0xFFFF:
        raise UsageError(f"a TC priority is 1 to 65535, not {priority}")
    where = f"{hook} of {shown(interface)}"
    action = f"attach a program to {where}"
    found = qdisc(session, interface.index)
    if found is None:
        if device(session, interface.index) is None:
            raise gone(interface)
        raise NotAttachedError(f"cannot {action}: there is no clsact qdisc")
    _check_clsact(session, found, interface)
    for _ in range(_HANDLE_ATTEMPTS):
        neighbours = [
            one
            for one in filters(session, interface.index, hook)
            if one.place.priority == priority and not one.place.chain
        ]
        for one in neighbours:
            if one.kind != "bpf" or one.place.protocol != ETH_P_ALL:
                raise HookBusyError(
                    f"priority {priority} on {where} belongs to a {one.kind} filter "
                    f"for protocol {one.place.protocol:#06x}",
                    hint="choose another --pref",
                )
        place = TcFilter(
            _free([one.place.handle for one in neighbours]), priority, ETH_P_ALL, 0, name
        )
        try:
            netlink.add_filter(session, interface.index, hook, place, prog_fd)
        except KernelError as error:
            if error.errno == errno.EEXIST:
                continue
            raise _filter_error(error, action, interface) from error
        return place
    raise HookBusyError(f"cannot {action}: others keep taking the free handles", hint="try again")


def attach_at(
    session: Session, interface: Interface, hook: Hook, place: TcFilter, prog_fd: int
) -> None:
    """Add a filter exactly at ``place``, where one was before. The clsact qdisc has to be there.

    Raises HookBusyError where another filter has the place, InterfaceNotFoundError, PermissionDeniedError, KernelError.
    """
    where = f"{hook} of {shown(interface)}"
    try:
        netlink.add_filter(session, interface.index, hook, place, prog_fd)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            raise HookBusyError(
                f"another filter has priority {place.priority}, handle {place.handle} on {where}"
            ) from error
        raise _filter_error(error, f"attach a program to {where}", interface) from error


def _free(handles: list[int]) -> int:
    taken = set(handles)
    return next(number for number in range(1, len(taken) + 2) if number not in taken)


def replace(
    session: Session,
    interface: Interface,
    hook: Hook,
    place: TcFilter,
    prog_fd: int,
    *,
    expected_id: int,
) -> None:
    """Put another program into the filter at ``place``, without a packet going by, if ``expected_id`` is in it.

    Raises NotAttachedError, HookBusyError, InterfaceNotFoundError, PermissionDeniedError, KernelError.
    """
    _expect(session, interface, hook, place, expected_id)
    try:
        netlink.replace_filter(session, interface.index, hook, place, prog_fd)
    except KernelError as error:
        raise _filter_error(
            error, f"replace the program on {hook} of {shown(interface)}", interface
        ) from error


def detach(
    session: Session, interface: Interface, hook: Hook, place: TcFilter, *, expected_id: int
) -> None:
    """Remove exactly the filter at ``place``, if ``expected_id`` is in it.

    Raises NotAttachedError, HookBusyError, InterfaceNotFoundError, PermissionDeniedError, KernelError.
    """
    _expect(session, interface, hook, place, expected_id)
    try:
        remove_filter(session, interface.index, hook, place)
    except KernelError as error:
        raise _filter_error(
            error, f"detach from {hook} of {shown(interface)}", interface
        ) from error


def _expect(
    session: Session, interface: Interface, hook: Hook, place: TcFilter, expected_id: int
) -> None:
    key = (place.chain, place.priority, place.protocol, place.handle)
    for one in query(session, interface, hook):
        if (one.place.chain, one.place.priority, one.place.protocol, one.place.handle) == key:
            if one.prog_id != expected_id:
                holds = program_label(one.prog_id) if one.prog_id else f"a {one.kind} filter"
                raise HookBusyError(
                    f"{hook} of {shown(interface)} changed meanwhile: {holds} is at priority "
                    f"{place.priority}, handle {place.handle:#x} now"
                )
            return
    if device(session, interface.index) is None:
        raise gone(interface)
    raise NotAttachedError(
        f"{hook} of {shown(interface)} has no filter at priority {place.priority}, handle {place.handle:#x}"
    )


def remove_unused_clsact(session: Session, interface: Interface) -> bool:
    """Delete the clsact qdisc if no filter is left on either hook; whether it was deleted.

    Only for a qdisc that netbpf made. TCX programs do not depend on it. Raises PermissionDeniedError, KernelError.
    """
    found = qdisc(session, interface.index)
    if found is None or found.kind != "clsact" or found.shared:
        return False
    if in_use(session, interface):
        return False
    try:
        remove_clsact(session, interface.index)
    except KernelError as error:
        if qdisc(session, interface.index) is None:
            return False  # somebody else was faster, or the interface is gone
        raise translated(
            error, f"remove the clsact qdisc of {shown(interface)}", interface
        ) from error
    return True


def in_use(session: Session, interface: Interface) -> bool:
    """Whether a clsact qdisc is there with filters of anybody's on it. Raises KernelError."""
    found = qdisc(session, interface.index)
    return found is not None and (
        found.shared or any(filters(session, interface.index, hook) for hook in _HOOKS)
    )


def _filter_error(error: KernelError, action: str, interface: Interface) -> NetbpfError:
    if error.errno == errno.ENOENT and "classifier" in error.detail:
        return NotSupportedError(
            f"cannot {action}: {error.detail}", hint="the kernel needs CONFIG_NET_CLS_BPF"
        )
    if "block is shared" in error.detail:  # net/sched/cls_api.c tc_new_tfilter
        return HookBusyError(
            f"cannot {action}: the filters of its qdisc are a block that other interfaces use too: {error.detail}",
            hint="attach with --link (TCX), or to the block with tc filter add block N; "
            f"tc qdisc show dev {word(interface.name)} has its number",
        )
    if "kind does not match" in error.detail:
        return HookBusyError(
            f"cannot {action}: filters of another kind have that priority: {error.detail}",
            hint="choose another --pref",
        )
    if error.errno == errno.ENOENT or "Qdisc" in error.detail:
        return NotAttachedError(f"cannot {action}: it went away meanwhile: {error.detail}")
    return translated(error, action, interface)
