"""Queueing disciplines and filters of a namespace, read and removed (RTM_GETQDISC, RTM_GETTFILTER and their DELs).

A filter is found again by (hook, chain, priority, protocol, handle); a program id may sit in several.
"""

import errno
import socket
import struct
from typing import Final, NamedTuple

from netbpf.constants import Hook
from netbpf.errors import KernelError
from netbpf.model import TcFilter
from netbpf.net.rtnetlink import Session, attribute, attributes, text, u32

# include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h
RTM_NEWQDISC: Final = 36
RTM_NEWTFILTER: Final = 44
_RTM_DELQDISC: Final = 37
_RTM_GETQDISC: Final = 38
_RTM_DELTFILTER: Final = 45
_RTM_GETTFILTER: Final = 46
TC_H_CLSACT: Final = 0xFFFFFFF1  # TC_H_INGRESS too: an interface has one or the other
CLSACT_HANDLE: Final = 0xFFFF0000
PARENT: Final = {
    Hook.TC_INGRESS: 0xFFFFFFF2,
    Hook.TC_EGRESS: 0xFFFFFFF3,
}  # TC_H_CLSACT with TC_H_MIN_*
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_CHAIN: Final = 11
_TCA_INGRESS_BLOCK: Final = 13
_TCA_EGRESS_BLOCK: Final = 14
_TCA_BPF_NAME: Final = 7
_TCA_BPF_FLAGS: Final = 8
_TCA_BPF_TAG: Final = 10
_TCA_BPF_ID: Final = 11
TCA_BPF_FLAG_ACT_DIRECT: Final = 1
_BODY: Final = struct.Struct("=BxxxiIII")  # struct tcmsg


class Qdisc(NamedTuple):
    """A qdisc at the hook of TC programs: ``kind`` is "clsact" or "ingress".

    ``shared`` says that its filters stand in a block other interfaces use too (tc(8) ``ingress_block``).
    """

    ifindex: int
    kind: str
    shared: bool


class Filter(NamedTuple):
    """A filter of any kind. ``prog_id`` is 0 and ``tag`` empty for all but eBPF programs.

    ``place.handle`` 0 is the head the kernel shows before the filters of one priority.
    """

    kind: str
    place: TcFilter
    prog_id: int
    tag: str


def qdiscs(session: Session) -> list[Qdisc]:
    """The clsact and ingress qdiscs of the whole namespace. Raises KernelError."""
    answers = session.dump("RTM_GETQDISC", _RTM_GETQDISC, _BODY.pack(0, 0, 0, 0, 0))
    return [found for answer in answers if (found := _qdisc(answer)) is not None]


def qdisc(session: Session, ifindex: int) -> Qdisc | None:
    """The clsact or ingress qdisc of one interface, None if it has none or is gone. Raises KernelError."""
    try:
        answer = session.get(
            "RTM_GETQDISC", _RTM_GETQDISC, _BODY.pack(0, ifindex, 0, TC_H_CLSACT, 0)
        )
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return None
        raise
    # Once there was one, the place is held by a dummy the kernel does not show (tc_qdisc_dump_ignore).
    return None if answer is None else _qdisc(answer)


def _qdisc(answer: bytes) -> Qdisc | None:
    _, ifindex, _, parent, _ = _BODY.unpack_from(answer)
    if parent != TC_H_CLSACT:
        return None
    found = attributes(answer, _BODY.size)
    shared = _TCA_INGRESS_BLOCK in found or _TCA_EGRESS_BLOCK in found
    return Qdisc(ifindex, text(found.get(_TCA_KIND)), shared)


def filters(session: Session, ifindex: int, hook: Hook) -> list[Filter]:
    """The filters of one TC hook in running order; empty without a qdisc or interface. Raises KernelError."""
    body = _BODY.pack(0, ifindex, 0, PARENT[hook], 0)
    try:
        answers = session.dump("RTM_GETTFILTER", _RTM_GETTFILTER, body)
    except KernelError as error:
        if error.errno in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            return []
        raise
    # The kernel goes through each chain by priority and through each priority in running order.
    return [_filter(answer) for answer in answers]


def _filter(answer: bytes) -> Filter:
    _, _, handle, _, info = _BODY.unpack_from(answer)
    found = attributes(answer, _BODY.size)
    kind = text(found.get(_TCA_KIND))
    options = attributes(found.get(_TCA_OPTIONS, b"")) if kind == "bpf" else {}
    place = TcFilter(
        handle=handle,
        priority=info >> 16,
        protocol=socket.ntohs(info & 0xFFFF),
        chain=u32(found.get(_TCA_CHAIN)),
        name=text(options.get(_TCA_BPF_NAME)),
        direct_action=bool(u32(options.get(_TCA_BPF_FLAGS)) & TCA_BPF_FLAG_ACT_DIRECT),
    )
    return Filter(kind, place, u32(options.get(_TCA_BPF_ID)), options.get(_TCA_BPF_TAG, b"").hex())


def packed_info(priority: int, protocol: int) -> int:
    """``tcm_info``: priority in the upper half, protocol in network byte order in the lower."""
    return priority << 16 | socket.htons(protocol)


def remove_filter(session: Session, ifindex: int, hook: Hook, place: TcFilter) -> None:
    """Delete exactly one bpf filter. Raises KernelError, ValueError for a place that would mean several."""
    if not place.handle or not place.priority:
        # To the kernel 0 means all handles of the priority, or all priorities.
        raise ValueError(f"a filter to remove needs a handle and a priority, not {place}")
    body = _BODY.pack(
        0, ifindex, place.handle, PARENT[hook], packed_info(place.priority, place.protocol)
    )
    body += attribute(_TCA_KIND, "bpf")
    if place.chain:
        body += attribute(_TCA_CHAIN, place.chain)
    session.request("RTM_DELTFILTER", _RTM_DELTFILTER, 0, body)


def remove_clsact(session: Session, ifindex: int) -> None:
    """Delete the clsact qdisc with everything on it. Raises KernelError."""
    body = _BODY.pack(0, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0) + attribute(_TCA_KIND, "clsact")
    session.request("RTM_DELQDISC", _RTM_DELQDISC, 0, body)
