"""What netbpf attaches over netlink: messages written by pyroute2. The only module that imports it, and late.

pyroute2 lays out the messages (names of attributes, types, nesting, byte order); the session's blocking socket
carries them. ``IPRoute`` would start an event loop and spend about 0.2 ms per request in it, as much as the kernel
needs to attach a program (measured with pyroute2 0.9.7); with one interface after the other that doubles the time.
It would also open its own sockets and, for a namespace, a child process.

All functions raise KernelError with the kernel's extended error text.
"""

from typing import TYPE_CHECKING

from netbpf.constants import Hook, XdpFlag
from netbpf.model import TcFilter
from netbpf.net.devices import RTM_SETLINK
from netbpf.net.filters import (
    CLSACT_HANDLE,
    PARENT,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    TC_H_CLSACT,
    TCA_BPF_FLAG_ACT_DIRECT,
    packed_info,
)
from netbpf.net.rtnetlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Session

if TYPE_CHECKING:
    from pyroute2.netlink import nlmsg

_HEADER_SIZE = 16  # struct nlmsghdr, which the session writes itself


def _body(message: "nlmsg") -> bytes:
    message.encode()
    return bytes(message.data[_HEADER_SIZE:])


def set_xdp(
    session: Session, ifindex: int, prog_fd: int, flags: XdpFlag, expected_fd: int | None = None
) -> None:
    """Attach or replace an XDP program. ``expected_fd`` (with XdpFlag.REPLACE, Linux 5.7): only over that one."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    change: list[tuple[str, int]] = [("IFLA_XDP_FD", prog_fd), ("IFLA_XDP_FLAGS", int(flags))]
    if expected_fd is not None:
        change.append(("IFLA_XDP_EXPECTED_FD", expected_fd))
    message = ifinfmsg()
    message["index"] = ifindex
    message["attrs"] = [("IFLA_XDP", {"attrs": change})]
    session.request("RTM_SETLINK", RTM_SETLINK, 0, _body(message))


def add_clsact(session: Session, ifindex: int) -> None:
    """Add a clsact qdisc; EEXIST where there is one, or an ingress qdisc."""
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    message = tcmsg()
    message["index"] = ifindex
    message["handle"] = CLSACT_HANDLE
    message["parent"] = TC_H_CLSACT
    message["attrs"] = [("TCA_KIND", "clsact")]
    session.request("RTM_NEWQDISC", RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, _body(message))


def add_filter(session: Session, ifindex: int, hook: Hook, place: TcFilter, prog_fd: int) -> None:
    """Add a bpf filter exactly at ``place``; EEXIST where one is already."""
    _write_filter(session, ifindex, hook, place, prog_fd, NLM_F_CREATE | NLM_F_EXCL)


def replace_filter(
    session: Session, ifindex: int, hook: Hook, place: TcFilter, prog_fd: int
) -> None:
    """Put another program into the filter at ``place``, in one step; ENOENT where there is none."""
    _write_filter(session, ifindex, hook, place, prog_fd, NLM_F_REPLACE)


def _write_filter(
    session: Session, ifindex: int, hook: Hook, place: TcFilter, prog_fd: int, flags: int
) -> None:
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    if place.chain:  # pyroute2 knows no TCA_CHAIN, and would leave it out without a word
        raise ValueError(f"netbpf attaches to chain 0 only, not {place}")
    options = [
        ("TCA_BPF_FD", prog_fd),
        ("TCA_BPF_NAME", place.name),
        ("TCA_BPF_FLAGS", TCA_BPF_FLAG_ACT_DIRECT if place.direct_action else 0),
    ]
    message = tcmsg()
    message["index"] = ifindex
    message["handle"] = place.handle
    message["parent"] = PARENT[hook]
    message["info"] = packed_info(place.priority, place.protocol)
    message["attrs"] = [("TCA_KIND", "bpf"), ("TCA_OPTIONS", {"attrs": options})]
    session.request("RTM_NEWTFILTER", RTM_NEWTFILTER, flags, _body(message))
