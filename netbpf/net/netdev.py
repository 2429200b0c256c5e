"""What a driver can do for XDP: the kernel's generic netlink family ``netdev`` (Linux 6.3).

The features are the driver's own word, for this interface as it is set up now: a veth whose other end sends on more
queues than it receives on has none.
"""

import errno
import struct
from enum import IntFlag
from typing import Final, NamedTuple

from netbpf.errors import KernelError
from netbpf.net.rtnetlink import Session, attribute, attributes, text

# include/uapi/linux/genetlink.h and netdev.h
_GENL_ID_CTRL: Final = 16
_CTRL_CMD_GETFAMILY: Final = 3
_CTRL_ATTR_FAMILY_ID: Final = 1
_CTRL_ATTR_FAMILY_NAME: Final = 2
_NETDEV_CMD_DEV_GET: Final = 1
_NETDEV_A_DEV_IFINDEX: Final = 1
_NETDEV_A_DEV_XDP_FEATURES: Final = 3
_NETDEV_A_DEV_XDP_ZC_MAX_SEGS: Final = 4
_NETDEV_A_DEV_XDP_RX_METADATA: Final = 5
_GENL: Final = struct.Struct("=BBH")  # struct genlmsghdr


class XdpFeature(IntFlag):
    """``enum netdev_xdp_act``."""

    BASIC = 1 << 0  # ABORTED, DROP, PASS, TX
    REDIRECT = 1 << 1
    NDO_XMIT = 1 << 2  # others may redirect to it
    XSK_ZEROCOPY = 1 << 3
    HW_OFFLOAD = 1 << 4
    RX_SG = 1 << 5  # packets in several parts, for programs in xdp.frags
    NDO_XMIT_SG = 1 << 6  # others may redirect such packets to it


class RxMetadata(IntFlag):
    """``enum netdev_xdp_rx_metadata``: what programs can ask about a packet."""

    TIMESTAMP = 1 << 0
    HASH = 1 << 1
    VLAN_TAG = 1 << 2


class XdpSupport(NamedTuple):
    """What an interface says; ``zero_copy_parts`` is how many parts a packet may have for AF_XDP without copying."""

    features: XdpFeature
    metadata: RxMetadata
    zero_copy_parts: int


class _Generic(Session):
    protocol = 16  # NETLINK_GENERIC, include/uapi/linux/netlink.h


def xdp_support(session: Session, ifindex: int) -> XdpSupport | None:
    """What the driver of an interface can do for XDP; None where the kernel has no such family, or no such interface.

    Raises KernelError.
    """
    with _Generic(session.namespace) as generic:
        family = _family(generic)
        if family is None:
            return None
        body = _GENL.pack(_NETDEV_CMD_DEV_GET, 1, 0) + attribute(_NETDEV_A_DEV_IFINDEX, ifindex)
        try:
            answer = generic.get("NETDEV_CMD_DEV_GET", family, body)
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
    found = attributes(answer or b"", _GENL.size)
    return XdpSupport(
        XdpFeature(_number(found.get(_NETDEV_A_DEV_XDP_FEATURES))),
        RxMetadata(_number(found.get(_NETDEV_A_DEV_XDP_RX_METADATA))),
        _number(found.get(_NETDEV_A_DEV_XDP_ZC_MAX_SEGS)),
    )


def _family(generic: Session) -> int | None:
    body = _GENL.pack(_CTRL_CMD_GETFAMILY, 1, 0) + attribute(_CTRL_ATTR_FAMILY_NAME, "netdev")
    try:
        answer = generic.get("CTRL_CMD_GETFAMILY", _GENL_ID_CTRL, body)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
            return None
        raise
    found = attributes(answer or b"", _GENL.size)
    if text(found.get(_CTRL_ATTR_FAMILY_NAME)) != "netdev":
        return None
    return _number(found.get(_CTRL_ATTR_FAMILY_ID))


def _number(data: bytes | None) -> int:
    """A number of 16, 32 or 64 bits; 0 for one that is absent."""
    return int.from_bytes(data or b"", "little" if struct.pack("=H", 1)[0] else "big")
