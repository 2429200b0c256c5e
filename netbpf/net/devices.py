"""What the kernel says about the interfaces of a namespace: name, MTU, addresses, XDP programs (RTM_GETLINK)."""

import errno
import struct
from collections.abc import Container
from typing import Final, NamedTuple

from netbpf.constants import Mode, XdpFlag
from netbpf.errors import KernelError
from netbpf.net.rtnetlink import Session, attribute, attributes, text, u32

# include/uapi/linux/rtnetlink.h and if_link.h
RTM_SETLINK: Final = 19
_RTM_GETLINK: Final = 18
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_MASTER: Final = 10
_IFLA_OPERSTATE: Final = 16
_IFLA_LINKINFO: Final = 18
_IFLA_EXT_MASK: Final = 29
_IFLA_LINK_NETNSID: Final = 37
_IFLA_XDP: Final = 43
_IFLA_ALT_IFNAME: Final = 53
_IFLA_INFO_KIND: Final = 1
_IFLA_XDP_FD: Final = 1
_IFLA_XDP_ATTACHED: Final = 2
_IFLA_XDP_FLAGS: Final = 3
_IFLA_XDP_EXPECTED_FD: Final = 8
_NLA_F_NESTED: Final = 0x8000
_RTEXT_FILTER_SKIP_STATS: Final = 1 << 3  # a third of each message
_IFNAMSIZ: Final = 16

# struct ifinfomsg
_BODY: Final = struct.Struct("=BxHiII")
_OPERSTATES: Final = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
# IFLA_XDP_DRV_PROG_ID, _SKB_ and _HW_: in every answer since Linux 4.19 (kernel commit a25717d2b604).
_XDP_IDS: Final = {5: Mode.NATIVE, 6: Mode.SKB, 7: Mode.HW}
XDP_MODE_FLAGS: Final = {
    Mode.NATIVE: XdpFlag.DRV_MODE,
    Mode.SKB: XdpFlag.SKB_MODE,
    Mode.HW: XdpFlag.HW_MODE,
}


class XdpProgram(NamedTuple):
    """A program on the XDP hook. There can be one native or skb, and one hw beside it."""

    mode: Mode
    prog_id: int


class Device(NamedTuple):
    """An interface as RTM_GETLINK shows it.

    ``mtu`` in bytes, ``flags`` IFF_*, ``operstate`` in the words of ip-link(8), ``address`` the link-layer address,
    ``kind`` the driver's IFLA_INFO_KIND ("veth"; "" for hardware), ``peer`` the ifindex behind it (IFLA_LINK; of a
    veth the other end, perhaps in another namespace), 0 if none;
    ``master`` the ifindex of the bridge or bond that it is a port of, 0 if none. ``peer_elsewhere``: what is behind it
    lies in another network namespace, and ``peer`` is an index there.
    """

    name: str
    ifindex: int
    mtu: int
    flags: int
    operstate: str
    address: bytes
    kind: str
    peer: int
    xdp: tuple[XdpProgram, ...]
    master: int = 0
    peer_elsewhere: bool = False


def devices(session: Session, only: Container[int] | None = None) -> list[Device]:
    """All interfaces of the session's namespace, or those with an ifindex in ``only``. Raises KernelError."""
    # A dump gets a bare header first: with strict checking off, attributes may follow.
    body = _BODY.pack(0, 0, 0, 0, 0) + attribute(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    answers = session.dump("RTM_GETLINK", _RTM_GETLINK, body)
    # Taking an answer apart costs more than the kernel's part of it, so those that nobody wants stay whole.
    found = [
        _device(answer)
        for answer in answers
        if only is None or _BODY.unpack_from(answer)[2] in only
    ]
    return sorted(found, key=lambda device: device.ifindex)


def device(session: Session, ifindex: int) -> Device | None:
    """The interface with that index, or None. Raises KernelError."""
    return _get(session, _BODY.pack(0, 0, ifindex, 0, 0))


def device_by_name(session: Session, name: str) -> Device | None:
    """The interface of that name, or alternative name (ip-link(8) ``property``, Linux 5.5), or None."""
    raw = name.encode(errors="surrogateescape")
    kind = _IFLA_IFNAME if len(raw) < _IFNAMSIZ else _IFLA_ALT_IFNAME
    return _get(session, _BODY.pack(0, 0, 0, 0, 0) + attribute(kind, name))


def other_end(session: Session, of: Device) -> Device | None:
    """The other end of a veth, if it is in the session's namespace."""
    if of.kind != "veth" or of.peer_elsewhere:
        return None
    return device(session, of.peer)


def _get(session: Session, body: bytes) -> Device | None:
    body += attribute(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    try:
        answer = session.get("RTM_GETLINK", _RTM_GETLINK, body)
    except KernelError as error:
        # EINVAL: kernels before 5.5 know no alternative names; ERANGE: longer than any name can be.
        if error.errno in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
            return None
        raise
    return None if answer is None else _device(answer)


def _device(answer: bytes) -> Device:
    _, _, ifindex, flags, _ = _BODY.unpack_from(answer)
    found = attributes(answer, _BODY.size)
    kind = found.get(_IFLA_LINKINFO)
    state = found.get(_IFLA_OPERSTATE, b"\0")[0]
    return Device(
        name=text(found.get(_IFLA_IFNAME)),
        ifindex=ifindex,
        mtu=u32(found.get(_IFLA_MTU)),
        flags=flags,
        operstate=_OPERSTATES[state] if state < len(_OPERSTATES) else str(state),
        address=found.get(_IFLA_ADDRESS, b""),
        kind=text(attributes(kind).get(_IFLA_INFO_KIND)) if kind else "",
        peer=u32(found.get(_IFLA_LINK)),
        xdp=_xdp(found.get(_IFLA_XDP, b"")),
        master=u32(found.get(_IFLA_MASTER)),
        peer_elsewhere=_IFLA_LINK_NETNSID in found,
    )


def _xdp(nested: bytes) -> tuple[XdpProgram, ...]:
    found = attributes(nested)
    if not found.get(_IFLA_XDP_ATTACHED, b"\0")[0]:
        return ()
    return tuple(
        XdpProgram(mode, u32(found[number])) for number, mode in _XDP_IDS.items() if number in found
    )


def remove_xdp(session: Session, ifindex: int, mode: Mode, expected_fd: int | None) -> None:
    """Take the program off in one mode; with ``expected_fd`` only if it is that program (Linux 5.7).

    The kernel calls it success when nothing was there, unless a program was expected. Raises KernelError.
    """
    flags = XDP_MODE_FLAGS[mode]
    change = attribute(_IFLA_XDP_FD, -1)
    if expected_fd is not None:
        flags |= XdpFlag.REPLACE
        change += attribute(_IFLA_XDP_EXPECTED_FD, expected_fd)
    change += attribute(_IFLA_XDP_FLAGS, int(flags))
    body = _BODY.pack(0, 0, ifindex, 0, 0) + attribute(_NLA_F_NESTED | _IFLA_XDP, change)
    session.request("RTM_SETLINK", RTM_SETLINK, 0, body)
