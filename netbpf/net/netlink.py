"""What netbpf attaches over netlink: messages written by pyroute2. The only module that imports it, and late.

pyroute2 lays out the messages (names of attributes, types, nesting, byte order); the session's blocking socket
carries them. ``IPRoute`` would start an event loop and spend about 0.2 ms per request in it, as much as the kernel
needs to attach a program (measured with pyroute2 0.9.7); with one interface after the other that doubles the time.
It would also open its own sockets and, for a namespace, a child process.

A message is written once for all the interfaces it goes to, and only the ifindex differs.

All functions raise KernelError with the kernel's extended error text.
"""

import struct
import sys
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

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

_LOADING = RLock()
_HEADER_SIZE = 16  # struct nlmsghdr, which the session writes itself


def set_xdp(
    session: Session, ifindex: int, prog_fd: int, flags: XdpFlag, expected_fd: int | None = None
) -> None:
    """Attach or replace an XDP program. ``expected_fd`` (with XdpFlag.REPLACE, Linux 5.7): only over that one."""
    body = _to(ifindex, _xdp_body(prog_fd, int(flags), expected_fd))
    session.request("RTM_SETLINK", RTM_SETLINK, 0, body)


def add_clsact(session: Session, ifindex: int) -> None:
    """Add a clsact qdisc; EEXIST where there is one, or an ingress qdisc."""
    body = _to(ifindex, _clsact_body())
    session.request("RTM_NEWQDISC", RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)


def add_filter(session: Session, ifindex: int, hook: Hook, place: TcFilter, prog_fd: int) -> None:
    """Add a bpf filter exactly at ``place``; EEXIST where one is already."""
    body = _to(ifindex, _filter_body(hook, place, prog_fd))
    session.request("RTM_NEWTFILTER", RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body)


def replace_filter(
    session: Session, ifindex: int, hook: Hook, place: TcFilter, prog_fd: int
) -> None:
    """Put another program into the filter at ``place``, in one step; ENOENT where there is none."""
    body = _to(ifindex, _filter_body(hook, place, prog_fd))
    session.request("RTM_NEWTFILTER", RTM_NEWTFILTER, NLM_F_REPLACE, body)


def _encoded(message: "nlmsg") -> bytes:
    message.encode()
    return bytes(message.data[_HEADER_SIZE:])


def _to(ifindex: int, body: bytes) -> bytes:
    """The message for one interface: in struct ifinfomsg and struct tcmsg the ifindex stands at offset 4."""
    return body[:4] + struct.pack("=i", ifindex) + body[8:]


class _LazyPackage(ModuleType):
    """A package whose ``__init__`` runs when something in it is missed that is no submodule."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if spec is None or spec.loader is None or find_spec(f"{spec.name}.{name}") is not None:
            return import_module(f"{self.__name__}.{name}")
        with _LOADING:
            if isinstance(self, _LazyPackage):
                object.__setattr__(self, "__class__", ModuleType)
                spec.loader.exec_module(self)
        return getattr(self, name)


def _lazy_package(name: str) -> None:
    """Import a package without its ``__init__``, unless it has been imported.

    pyroute2's imports all of pyroute2: 120 ms, against 20 for the messages alone (0.9.7). Who uses pyroute2 in the
    same process finds it whole.
    """
    with _LOADING:
        if name in sys.modules:
            return
        spec = find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.modules[name] = package = _LazyPackage(name)
        package.__spec__, package.__loader__, package.__file__ = spec, spec.loader, spec.origin
        package.__package__, package.__path__ = name, list(spec.submodule_search_locations or ())


@lru_cache(maxsize=16)
def _xdp_body(prog_fd: int, flags: int, expected_fd: int | None) -> bytes:
    _lazy_package("pyroute2")
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    change: list[tuple[str, int]] = [("IFLA_XDP_FD", prog_fd), ("IFLA_XDP_FLAGS", flags)]
    if expected_fd is not None:
        change.append(("IFLA_XDP_EXPECTED_FD", expected_fd))
    message = ifinfmsg()
    message["attrs"] = [("IFLA_XDP", {"attrs": change})]
    return _encoded(message)


@lru_cache(maxsize=1)
def _clsact_body() -> bytes:
    _lazy_package("pyroute2")
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    message = tcmsg()
    message["handle"] = CLSACT_HANDLE
    message["parent"] = TC_H_CLSACT
    message["attrs"] = [("TCA_KIND", "clsact")]
    return _encoded(message)


@lru_cache(maxsize=16)
def _filter_body(hook: Hook, place: TcFilter, prog_fd: int) -> bytes:
    _lazy_package("pyroute2")
    from pyroute2.netlink.rtnl.tcmsg import tcmsg

    if place.chain:  # pyroute2 knows no TCA_CHAIN, and would leave it out without a word
        raise ValueError(f"netbpf attaches to chain 0 only, not {place}")
    options = [
        ("TCA_BPF_FD", prog_fd),
        ("TCA_BPF_NAME", place.name),
        ("TCA_BPF_FLAGS", TCA_BPF_FLAG_ACT_DIRECT if place.direct_action else 0),
    ]
    message = tcmsg()
    message["handle"] = place.handle
    message["parent"] = PARENT[hook]
    message["info"] = packed_info(place.priority, place.protocol)
    message["attrs"] = [("TCA_KIND", "bpf"), ("TCA_OPTIONS", {"attrs": options})]
    return _encoded(message)
