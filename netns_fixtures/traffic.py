"""Sending: one raw packet socket per interface, checked before it is believed.

The kernel hides mistakes: a packet sent to a peer that is down counts as sent, a filter on the way out answers
"no buffer space". Here each of these is an error that names its cause. A frame costs 7 us (140,000 per second).
"""

import errno
import socket

from netbpf.net.netns import Namespace
from netns_fixtures import ethtool, sockets
from netns_fixtures.errors import TrafficError


class Sender:
    """Sends frames out of one interface, given by its index: it may be renamed meanwhile."""

    def __init__(
        self, namespace: Namespace, ifname: str, ifindex: int, *, bypass: bool = False
    ) -> None:
        self.ifname = ifname
        self.ifindex = ifindex
        self.socket = sockets.sender(namespace, ifname, bypass=bypass)

    def send(self, frames: list[bytes], *, may_drop: bool = False) -> int:
        """Send all of them, in order, and return how many the interface took.

        They are on their way through the other end's hooks when this returns: on a veth the receiving side runs
        within the send. With ``may_drop`` a frame that a TC egress program drops is no error, only not counted.
        Raises TrafficError.
        """
        self.check()
        send, taken = self.socket.send, 0
        for frame in frames:
            try:
                send(frame)
            except OSError as error:
                # TC_ACT_SHOT on the way out comes back to the sender as ENOBUFS (net_xmit_errno).
                if error.errno == errno.ENOBUFS and may_drop:
                    continue
                raise self._error(error, frame) from None
            taken += 1
        return taken

    def check(self) -> None:
        """TrafficError if what is sent now could not arrive: an end is down, or gone."""
        try:
            self.ifname = name = ethtool.name_of(self.socket, self.ifindex)
            if ethtool.carrier(self.socket, name):
                return
            up = ethtool.is_up(self.socket, name)
        except OSError as error:
            raise self._error(error, b"") from None
        if up:
            raise TrafficError(
                f"{name} has no carrier: its peer is down, and would lose every packet"
            )
        raise TrafficError(f"{name} is down")

    def _error(self, error: OSError, frame: bytes) -> TrafficError:
        match error.errno:
            case errno.EMSGSIZE:
                mtu = ethtool.mtu(self.socket, self.ifname)
                return TrafficError(
                    f"a frame of {len(frame)} bytes does not fit {self.ifname}: its MTU of {mtu} allows {mtu + 14}, "
                    f"and {mtu + 18} with a VLAN tag"
                )
            case errno.ENOBUFS:
                return TrafficError(
                    f"{self.ifname} dropped a frame of {len(frame)} bytes: a TC egress program or qdisc, or a full "
                    "queue of its peer"
                )
            case errno.ENETDOWN:
                return TrafficError(f"{self.ifname} is down")
            case errno.ENXIO | errno.ENODEV:
                return TrafficError(f"{self.ifname} does not exist any more")
        return TrafficError(f"{self.ifname}: a frame of {len(frame)} bytes: {error.strerror}")

    def sockets(self) -> list[socket.socket]:
        """What has to be closed."""
        return [self.socket]
