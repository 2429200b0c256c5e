"""The interface that packets leave by, or arrive at: whether it can, and what it counted."""

import contextlib
import errno
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from netbpf._sys.capabilities import Capability, permission_error
from netbpf.errors import (
    InterfaceNotFoundError,
    KernelError,
    NetbpfError,
    NotSupportedError,
)
from netbpf.model import Interface
from netbpf.net.devices import Device, device
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netbpf.text import escape, word

# include/uapi/linux/if.h
_IFF_UP: Final = 1
_IFF_LOWER_UP: Final = 0x10000
_HEADER: Final = 14  # bytes, ETH_HLEN
_VLANS: Final = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")


class Counted(NamedTuple):
    """What an interface has counted since it was made (/proc/net/dev)."""

    sent: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Outlet:
    """An interface in its namespace, asked over one netlink socket. Close it, or use it as a context manager.

    ``mtu`` is in bytes, without the Ethernet header.
    """

    interface: Interface
    session: Session
    mtu: int

    @classmethod
    def open(cls, name: str, namespace: Namespace) -> Self:
        """Find the interface, which has to be up and to have a link.

        Raises InterfaceNotFoundError; NetbpfError where it is down.
        """
        session = Session(namespace)
        try:
            made = cls(resolve(session, name), session, 0)
            made.mtu = made.look(0).mtu
        except BaseException:
            session.close()
            raise
        return made

    @property
    def name(self) -> str:
        """For messages."""
        return escape(self.interface.name)

    @property
    def namespace(self) -> Namespace:
        """Where it is."""
        return self.session.namespace

    def look(self, sent: int) -> Device:
        """The interface as it is now; an error where nothing can leave it any more. ``sent`` packets have left."""
        found = device(self.session, self.interface.index)
        if found is None:
            raise self.gone(sent)
        if not found.flags & _IFF_UP:
            raise self.down(sent)
        if not found.flags & _IFF_LOWER_UP:
            what = "its other end is down" if found.kind == "veth" else "no cable?"
            raise NetbpfError(
                f"{self.name} has no link ({what}): nothing it is given goes anywhere{_after(sent)}",
                hint=f"ip link show dev {word(self.interface.name)}",
            )
        return found

    def gone(self, sent: int) -> NetbpfError:
        """The error for an interface that is not there any more."""
        return InterfaceNotFoundError(f"{self.name} has gone{_after(sent)}")

    def down(self, sent: int) -> NetbpfError:
        """The error for an interface that is down."""
        return NetbpfError(
            f"{self.name} is down{_after(sent)}",
            hint=f"ip link set dev {word(self.interface.name)} up",
        )

    def longest(self, frame: bytes) -> int:
        """The bytes that such a frame may have: the kernel lets VLAN tags be on top of the MTU."""
        return self.mtu + _HEADER + (4 if frame[12:14] in _VLANS else 0)

    def failure(self, number: int, sent: int) -> NetbpfError:
        """What an errno of sending means here."""
        if number in (errno.ENXIO, errno.ENODEV):
            return self.gone(sent)
        if number == errno.ENETDOWN:
            return self._down_or_gone(sent)
        if number == errno.EMSGSIZE:
            return NetbpfError(
                f"a packet is longer than {self.name} takes: its MTU is {self.mtu} bytes, frames may have "
                f"{self.mtu + _HEADER}{_after(sent)}"
            )
        if number == errno.EPERM:
            return permission_error(f"send on {self.name}", Capability.NET_RAW)
        if number == errno.EOPNOTSUPP:
            return NotSupportedError(
                f"the driver of {self.name} takes no XDP frames", hint="send without --xdp"
            )
        return KernelError(f"cannot send on {self.name}{_after(sent)}: sendmmsg", number)

    def stuck(self, length: int, seconds: float, sent: int) -> NetbpfError:
        """A packet of ``length`` bytes was refused for so long: a full queue, or a driver that drops every one."""
        return NetbpfError(
            f"{self.name} has not taken a packet of {length:,} bytes for {seconds:g} s{_after(sent)}: its queue stays "
            "full, or its driver drops packets like it, such as a veth whose other end has a smaller MTU",
            hint=f"ip -s link show dev {self.name}; tc -s qdisc show dev {self.name}",
        )

    def _down_or_gone(self, sent: int) -> NetbpfError:
        try:
            self.look(sent)
        except NetbpfError as error:
            return error
        return self.down(sent)

    def counted(self) -> Counted:
        """Its counters now; zeros where it is gone."""
        return self.namespace.run(_counters, self.interface.name)

    def default_route(self) -> bool:
        """Whether the namespace reaches the rest of the world by it (IPv4)."""
        return self.namespace.run(_is_default, self.interface.name)

    def close(self) -> None:
        """Let go of it."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _after(sent: int) -> str:
    return f", after {sent:,} packet{'' if sent == 1 else 's'}" if sent else ""


def _counters(name: str) -> Counted:
    with open("/proc/thread-self/net/dev", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            found, _, numbers = line.strip().rpartition(":")
            if found == name:
                fields = numbers.split()
                # Columns 9 to 16 are about sending: bytes, packets, errs, drop ...
                return Counted(int(fields[9]), int(fields[11]))
    return Counted()


def _is_default(name: str) -> bool:
    with contextlib.suppress(OSError), open("/proc/thread-self/net/route") as file:
        for line in file:
            fields = line.split()
            if len(fields) > 7 and fields[0] == name and fields[1] == fields[7] == "00000000":
                return True
    return False
