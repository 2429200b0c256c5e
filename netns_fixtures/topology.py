"""Namespaces and wires for one test.

Nothing here has a name outside the process: namespaces are held by descriptors, links live in them, and the kernel
takes all of it away when the descriptors are closed, by the test or by SIGKILL.
"""

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from netbpf.errors import KernelError
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
from netns_fixtures import ethtool, netlink
from netns_fixtures.capture import BUFFER, Capture, Point
from netns_fixtures.errors import TopologyError
from netns_fixtures.evidence import Evidence
from netns_fixtures.frames import Packets, to_frames
from netns_fixtures.sockets import Closable, close_all
from netns_fixtures.traffic import Sender

P = ParamSpec("P")
T = TypeVar("T")

_PATIENCE = 5.0  # seconds for what the kernel does in its own time
_PAUSE = 0.001  # between two looks


class End:
    """One end of a wire: an interface in a namespace.

    ``other`` is the end that what is sent here comes in on, ``sent`` counts the frames sent through this object.
    """

    def __init__(self, topology: "Topology", namespace: Namespace, ifname: str, mac: str) -> None:
        self._topology = topology
        self.namespace = namespace
        self.ifname = ifname
        self.ifindex = namespace.run(socket.if_nametoindex, ifname)
        self.mac = mac
        self.other: End = self
        self.sent = 0
        self._control = namespace.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        topology.hold(self._control)
        self._sender: Sender | None = None
        self._bypass: Sender | None = None

    def __repr__(self) -> str:
        return f"<End {self.ifname} ifindex={self.ifindex} mac={self.mac}>"

    @property
    def evidence(self) -> Evidence:
        """What the test has sent and seen."""
        return self._topology.evidence

    # --- traffic ---

    def send(self, *packets: Packets, may_drop: bool = False) -> list[bytes]:
        """Send scapy packets, bytes or lists of them, and return the frames as they were sent.

        MACs that are not given are those of the wire; a packet without an Ethernet header gets one. ``may_drop``: a
        TC egress program on this end may drop them. Raises TrafficError if a frame does not fit or cannot arrive,
        for example because the other end is down.
        """
        frames = to_frames(packets, self.mac, self.other.mac)
        if self._sender is None:
            self._sender = self._make_sender(bypass=False)
        self.evidence.sent(frames, self.ifname)
        self.sent += self._sender.send(frames, may_drop=may_drop)
        return frames

    def send_past_tc(self, frame: bytes) -> None:
        """Send one frame straight into the driver, past the qdisc and TC egress programs of this end."""
        if self._bypass is None:
            self._bypass = self._make_sender(bypass=True)
        self.sent += self._bypass.send([frame])

    def _make_sender(self, *, bypass: bool) -> Sender:
        sender = Sender(self.namespace, self.ifname, self.ifindex, bypass=bypass)
        self._topology.hold(*sender.sockets())
        return sender

    def capture(
        self,
        point: Point = "wire",
        *,
        protocols: tuple[int, ...] = (),
        strict: bool = True,
        buffer: int = BUFFER,
    ) -> Capture:
        """Capture what comes in from now on: on the ``"wire"``, or on the ``"stack"`` behind TC ingress."""
        return Capture(self, point, protocols=protocols, strict=strict, buffer=buffer)

    def adopt(self, made: Iterable[Closable]) -> None:
        """Close these together with the topology's others."""
        self._topology.hold(*made)

    # --- state ---

    def up(self) -> None:
        """Switch it on."""
        self._set(True)

    def down(self) -> None:
        """Switch it off; the other end loses its carrier."""
        self._set(False)

    def _set(self, up: bool) -> None:
        with Session(self.namespace) as session:
            netlink.set_up(session, self.ifindex, up)

    @property
    def carrier(self) -> bool:
        """Whether both ends are up."""
        return ethtool.carrier(self._control, self.ifname)

    @property
    def mtu(self) -> int:
        """In bytes, without the Ethernet header."""
        return ethtool.mtu(self._control, self.ifname)

    def statistics(self) -> dict[str, int]:
        """The driver's counters, as ``ethtool -S`` shows them."""
        return ethtool.statistics(self._control, self.ifname)

    def offloads(self) -> dict[str, bool]:
        """The offloads, as ``ethtool -k`` shows them."""
        return ethtool.features(self._control, self.ifname)

    def offloads_off(self) -> None:
        """Let every packet be its bytes on the wire: no checksums left open, no GSO, no VLAN tag beside the packet."""
        ethtool.offloads_off(self._control, self.ifname)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``function`` in this end's namespace: ``end.run(subprocess.run, ["ip", "link"])``."""
        return self.namespace.run(function, *args, **kwargs)


class Wire:
    """A veth pair between two namespaces, up and silent: ``dut``, where the program under test is, and ``peer``."""

    def __init__(self, dut: End, peer: End) -> None:
        self.dut = dut
        self.peer = peer

    def __repr__(self) -> str:
        return f"<Wire {self.dut.ifname} - {self.peer.ifname}>"

    def addresses(self, dut: str, peer: str) -> None:
        """Give both ends an IP address (``"10.0.0.1/24"``, ``"fd00::1/64"``) and know each other's MAC for good.

        An IPv4 address is on the interface. An IPv6 address there would make the kernel send multicast listener
        reports (four in the first second, measured); so it is on the namespace's loopback, with a route to the
        other end, and the wire stays silent.
        """
        pair = [(self.dut, ipaddress.ip_interface(dut)), (self.peer, ipaddress.ip_interface(peer))]
        for (end, own), (other, far) in (pair, pair[::-1]):
            if own.version != far.version:
                raise TopologyError(f"{own} and {far} are of different IP versions")
            with Session(end.namespace) as session:
                if own.version == 4:
                    netlink.add_address(session, end.ifindex, own)
                else:
                    self._add_ipv6(session, end, own, far)
                netlink.add_neighbour(session, end.ifindex, far.ip, other.mac)

    @staticmethod
    def _add_ipv6(
        session: Session, end: End, own: netlink.Interface, far: netlink.Interface
    ) -> None:
        end.run(_enable_silent_ipv6, end.ifname)
        loopback = end.run(socket.if_nametoindex, "lo")
        netlink.set_up(session, loopback, up=True)
        netlink.add_address(session, loopback, ipaddress.ip_interface(f"{own.ip}/128"))
        netlink.add_route(session, end.ifindex, far.ip, own.ip)
        # The kernel makes the address's local route later, in a work queue (addrconf_dad_start): a packet that comes
        # before it is answered with "no route". One in ten did (measured).
        deadline = time.monotonic() + _PATIENCE
        while not netlink.is_local(session, own.ip):
            if time.monotonic() > deadline:
                raise TopologyError(f"{own.ip} is not in use after {_PATIENCE:g} s")
            time.sleep(_PAUSE)


class Topology:
    """Owner of the namespaces, wires and sockets of one test; closing it takes them all away.

    Closing does not delete links, which would take 32 ms each: it lets go of the namespaces, and the kernel cleans
    up behind. Usable as a context manager outside pytest too.
    """

    def __init__(self, evidence: Evidence | None = None) -> None:
        self._namespaces: list[Namespace] = []
        self._held: list[Closable] = []
        self._wires = 0
        self.evidence = Evidence() if evidence is None else evidence

    def namespace(self) -> Namespace:
        """A new, empty network namespace without a name; IPv6 is off for interfaces made in it."""
        made = Namespace.create()
        self._namespaces.append(made)
        made.run(_silence)
        return made

    def wire(
        self,
        dut: Namespace | None = None,
        peer: Namespace | None = None,
        *,
        names: tuple[str, str] | None = None,
        mtu: int = 1500,
        queues: int = 1,
        up: bool = True,
    ) -> Wire:
        """A new veth pair, each end in a namespace of its own unless one is given.

        Interfaces are called dut0 and peer0, dut1 and peer1 and so on, with MACs 02:00:00:00:00:01 and :02,
        02:00:00:00:01:01 and :02 and so on, unless ``names`` says otherwise. ``queues`` is the number of queues in
        each direction. Offloads are off. Ready to send when this returns, unless ``up`` is False.
        Raises TopologyError if there is no carrier, KernelError or PermissionDeniedError.
        """
        number = self._wires
        self._wires += 1
        dut = dut or self.namespace()
        peer = peer or self.namespace()
        names = names or (f"dut{number}", f"peer{number}")
        macs = (_mac(number, 1), _mac(number, 2))
        with Session(dut) as session:
            netlink.add_veth(session, names, macs, mtu, queues, peer)
        ends = (End(self, dut, names[0], macs[0]), End(self, peer, names[1], macs[1]))
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            end.offloads_off()
        if up:
            for end in ends:
                end.up()
            for end in ends:
                if not end.carrier:
                    raise TopologyError(f"{end.ifname} has no carrier though both ends are up")
        return Wire(*ends)

    def hold(self, *made: Closable) -> None:
        """Close these, all at the same time, when the topology is closed."""
        self._held += made

    def close(self) -> None:
        """Let go of everything. Closing twice is harmless."""
        made, self._held = self._held, []
        close_all(made)
        namespaces, self._namespaces = self._namespaces, []
        for one in namespaces:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _mac(wire: int, end: int) -> str:
    # 02: locally administered, unicast (IEEE Std 802-2014, 8.4).
    return f"02:00:00:00:{wire & 0xFF:02x}:{end:02x}"


def _write(path: str, value: str) -> None:
    # One write(2) per value: that is how sysctl files are to be written (man 5 proc).
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise KernelError(f"write {value} to {path}", error.errno or 0) from error
    finally:
        os.close(fd)


def _silence() -> None:
    """No IPv6 on interfaces to come: no router solicitations, duplicate address detection or listener reports."""
    base = "/proc/sys/net/ipv6/conf"
    # Absent where the kernel has no IPv6 at all.
    if os.path.exists(base):  # noqa: PTH110 - pathlib costs more than all the rest here
        _write(f"{base}/default/disable_ipv6", "1")


def _enable_silent_ipv6(ifname: str) -> None:
    base = "/proc/sys/net/ipv6/conf"
    if not os.path.exists(base):  # noqa: PTH110 - as above
        raise TopologyError("this kernel has no IPv6")
    _write(f"{base}/lo/disable_ipv6", "0")
    _write(f"{base}/{ifname}/addr_gen_mode", "1")  # none: no link-local address
    _write(f"{base}/{ifname}/accept_ra", "0")
    _write(f"{base}/{ifname}/dad_transmits", "0")
    _write(f"{base}/{ifname}/disable_ipv6", "0")
