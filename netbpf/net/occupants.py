"""Everything that runs on the hooks of a namespace, as the kernel shows it this moment."""

from collections.abc import Container, Iterable
from dataclasses import replace

from netbpf.constants import Hook, Mode
from netbpf.errors import InterfaceNotFoundError, NotSupportedError
from netbpf.model import Interface, Occupant
from netbpf.net import tcx
from netbpf.net.bpflinks import xdp_links
from netbpf.net.devices import Device, device, devices
from netbpf.net.filters import Qdisc, filters, qdisc, qdiscs
from netbpf.net.rtnetlink import Session

_TC_HOOKS = (Hook.TC_INGRESS, Hook.TC_EGRESS)


def occupants(
    session: Session,
    only: int | frozenset[int] | None = None,
    *,
    hooks: Container[Hook] = tuple(Hook),
) -> list[Occupant]:
    """The eBPF programs on XDP, TCX and clsact of interfaces in the session's namespace.

    ``only`` is one ifindex or several, None for all interfaces. Only ``hooks`` are looked at. (The kernel lists TCX
    programs for one hook of one interface at a time.)

    Ordered by ifindex, hook (xdp, tc/ingress, tc/egress) and running order: TCX programs run before those of a
    qdisc. Programs on an ``ingress`` qdisc are shown as clsact, which is the same place in the kernel. An
    interface that vanishes meanwhile is left out, like one that was never there.

    Raises PermissionDeniedError without CAP_NET_ADMIN (for TCX), KernelError.
    """
    present = _present(session, only)
    found: list[Occupant] = []
    if Hook.XDP in hooks and any(one.xdp for one, _ in present):
        found += _on_xdp(present)
    tc_hooks = [hook for hook in _TC_HOOKS if hook in hooks]
    if not tc_hooks:
        return _ordered(found)
    found += session.namespace.run(_on_tcx, [interface for _, interface in present], tc_hooks)
    queues = [qdisc(session, only)] if isinstance(only, int) else qdiscs(session)
    interfaces = {interface.index: interface for _, interface in present}
    for queue in queues:
        if queue is not None and queue.ifindex in interfaces:
            found += _on_qdisc(session, interfaces[queue.ifindex], queue, tc_hooks)
    return _ordered(found)


def _present(session: Session, only: int | frozenset[int] | None) -> list[tuple[Device, Interface]]:
    if isinstance(only, int):
        one = device(session, only)
        present = [] if one is None else [one]
    else:
        present = devices(session, only)
    inode = session.namespace.inode
    return [(one, Interface(one.name, one.ifindex, inode)) for one in present]


def _on_xdp(present: list[tuple[Device, Interface]]) -> list[Occupant]:
    links = xdp_links()
    return [
        Occupant(
            interface,
            Hook.XDP,
            program.mode,
            program.prog_id,
            links.get((interface.index, program.prog_id), 0),
        )
        for one, interface in present
        for program in one.xdp
    ]


def _on_tcx(interfaces: Iterable[Interface], hooks: list[Hook]) -> list[Occupant]:
    """TCX programs of interfaces in the calling thread's namespace; none on a kernel without TCX."""
    found: list[Occupant] = []
    for interface in interfaces:
        try:
            for hook in hooks:
                found += [
                    Occupant(interface, hook, Mode.TCX, program.prog_id, program.link_id)
                    for program in tcx.query_here(interface, hook).programs
                ]
        except InterfaceNotFoundError:
            continue
        except NotSupportedError:
            break
    return found


def _on_qdisc(
    session: Session, interface: Interface, queue: Qdisc, hooks: list[Hook]
) -> list[Occupant]:
    # To an ingress qdisc both parents are its one list (net/sched/sch_ingress.c ingress_tcf_block).
    there = _TC_HOOKS if queue.kind == "clsact" else (Hook.TC_INGRESS,)
    return [
        Occupant(interface, hook, Mode.CLSACT, one.prog_id, filter=one.place)
        for hook in there
        if hook in hooks
        for one in filters(session, interface.index, hook)
        if one.prog_id
    ]


def _ordered(found: list[Occupant]) -> list[Occupant]:
    """By interface and hook, each hook's programs as they came (which is as they run), numbered from 0."""
    order = {hook: number for number, hook in enumerate((Hook.XDP, *_TC_HOOKS))}
    numbered: list[Occupant] = []
    counts: dict[tuple[int, Hook], int] = {}
    for one in sorted(found, key=lambda one: (one.interface.index, order[one.hook])):
        place = (one.interface.index, one.hook)
        position = counts.get(place, 0)
        counts[place] = position + 1
        numbered.append(replace(one, position=position) if position else one)
    return numbered
