"""tc_drop and tc_count: what only TC has. Packets in pieces, and senders that learn of a drop."""

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Callable
from typing import Final

import pytest

from netns_fixtures.kinds import AttachKind
from netns_fixtures.programs import attach
from netns_fixtures.rig import Rig
from netns_fixtures.sockets import SOL_PACKET, sender
from netns_fixtures.topology import Wire
from tests.programs.filters import MALFORMED, OnWire, drop
from tests.programs.frames import (
    DEST_OPTIONS,
    EIGHT,
    ETHERNET,
    IPV4,
    SENDER,
    ext,
    extended,
    ipv4,
    tagged,
    tcp4,
    tcp6,
)
from tests.support.compiling import compile_c

pytestmark = pytest.mark.attach_kinds("tc", "tc-egress")

_PACKET_VNET_HDR: Final = 15  # include/uapi/linux/if_packet.h
_SIOCETHTOOL: Final = 0x8946
_ETHTOOL_SSG: Final = 0x19  # include/uapi/linux/ethtool.h
_NOTHING = bytes(4900)
# A probe that runs before: how much of the packet lies in one piece.
PROBE: Final = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u32 linear = 0xffffffff;
SEC("tc") int probe(struct __sk_buff *ctx)
{
	linear = (long)ctx->data_end - (long)ctx->data;
	return -1;
}
char _license[] SEC("license") = "GPL";
"""


def scatter_gather(sock: socket.socket, ifname: str) -> None:
    """Let the interface send packets in pieces: without it the kernel puts them together behind TC egress."""
    value = array.array("I", (_ETHTOOL_SSG, 1))
    fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sQ16x", ifname.encode(), value.buffer_info()[0]))


def in_pieces(rig: Rig, frame: bytes, linear: int = ETHERNET) -> None:
    """Send a frame of which only the first bytes are linear.

    virtio's header tells the packet socket how long the headers are (struct virtio_net_hdr); of a frame larger than
    a page it puts the rest into fragments (packet_alloc_skb in net/packet/af_packet.c).
    """
    header = struct.pack("<BBHHHH", 0, 0, linear, 0, 0, 0)
    with sender(rig.source.namespace, rig.source.ifname) as sock:
        scatter_gather(sock, rig.source.ifname)
        sock.setsockopt(SOL_PACKET, _PACKET_VNET_HDR, 1)
        try:
            sock.send(header + frame)
        except OSError as error:
            if error.errno != errno.ENOBUFS or not rig.kind.egress:
                raise


IN_PIECES: Final = {
    "tcp over ipv4": tcp4() + _NOTHING,
    "tcp over ipv6": tcp6() + _NOTHING,
    "behind a tag": tagged(tcp4(), 0x8100) + _NOTHING,
    "behind four tags": tagged(tcp6(), *[0x8100] * 4) + _NOTHING,
    "behind eight extension headers": extended(EIGHT) + _NOTHING,
    "behind 4000 bytes of options": extended([ext(DEST_OPTIONS, 249)] * 2) + _NOTHING,
}


@pytest.mark.parametrize("frame", IN_PIECES.values(), ids=IN_PIECES)
def test_headers_that_are_not_linear_are_read(jumbo_filter: OnWire, frame: bytes) -> None:
    rig, arrived = jumbo_filter.rig, jumbo_filter.arrived
    with jumbo_filter.moves([frame], dropped=False, by=0):
        in_pieces(rig, frame)
    arrived.expect(frame)
    jumbo_filter.rules(drop("tcp_dport[80]", 7))
    with jumbo_filter.moves([frame], dropped=True, by=7):
        in_pieces(rig, frame)
    arrived.expect_none(until=lambda: True)


def test_headers_of_an_aggregate_beyond_4096_bytes_are_not_pulled(jumbo_filter: OnWire) -> None:
    frame = extended([ext(DEST_OPTIONS, 255)] * 2) + bytes(4700)
    with jumbo_filter.moves([frame], dropped=True, by=MALFORMED):
        in_pieces(jumbo_filter.rig, frame)


def test_a_mac_rule_needs_nothing_but_the_first_14_bytes(jumbo_filter: OnWire) -> None:
    jumbo_filter.rules(drop(f"src_mac[{SENDER}]", 3))
    frame = ipv4(bytes(6000), proto=132)
    with jumbo_filter.moves([frame], dropped=True, by=3):
        in_pieces(jumbo_filter.rig, frame)


@pytest.mark.attach_kinds("tc-clsact", "tc-clsact-egress")
def test_those_packets_really_are_in_pieces(jumbo_filter: OnWire) -> None:
    """Else the tests above would show nothing."""
    rig = jumbo_filter.rig
    # Of filters with one priority the kernel runs the newest first.
    with attach(rig.wire.dut, rig.kind, compile_c(PROBE)) as probe:
        in_pieces(rig, tcp4() + _NOTHING)
        linear = probe.get("linear")
    assert isinstance(linear, int)
    assert linear < ETHERNET + IPV4


@pytest.mark.parametrize("frame", IN_PIECES.values(), ids=IN_PIECES)
def test_packets_in_pieces_are_counted_by_protocol(
    veth: Callable[..., Wire], attach_kind: AttachKind, frame: bytes
) -> None:
    rig = Rig(veth(mtu=9000), attach_kind)
    family = "ipv6" if b"\x86\xdd" in frame[12:32] else "ipv4"
    classes = [family, f"{family}/tcp", *(["vlan"] if frame[12:14] == b"\x81\x00" else [])]
    moved = {
        f"protocols[{one}].{unit}": n
        for one in classes
        for unit, n in (("packets", 1), ("bytes", len(frame)))
    }
    moved |= {"verdicts[unspec].packets": 1, "verdicts[unspec].bytes": len(frame)}
    program = rig.attach("builtin:tc_count")
    with program.changes(moved):
        in_pieces(rig, frame)
    rig.close()


@pytest.mark.attach_kinds("tc-egress")
def test_a_sender_on_the_host_learns_of_a_drop_on_egress(packet_filter: OnWire) -> None:
    source = packet_filter.rig.source
    packet_filter.rules(drop("tcp_dport[80]", 7))
    with sender(source.namespace, source.ifname) as sock:
        with (
            packet_filter.moves([tcp4()], dropped=True, by=7),
            pytest.raises(OSError, match="No buffer space") as info,
        ):
            sock.send(tcp4())
        assert info.value.errno == errno.ENOBUFS
        assert sock.send(tcp4(dport=81)) == len(tcp4())


@pytest.mark.attach_kinds("tc")
def test_a_sender_elsewhere_does_not_learn_of_a_drop_on_ingress(packet_filter: OnWire) -> None:
    source = packet_filter.rig.source
    packet_filter.rules(drop("tcp_dport[80]", 7))
    with (
        sender(source.namespace, source.ifname) as sock,
        packet_filter.moves([tcp4()], dropped=True, by=7),
    ):
        assert sock.send(tcp4()) == len(tcp4())


@pytest.mark.attach_kinds("tc-clsact", "tc-clsact-egress")
def test_what_passes_is_left_to_the_next_filter(packet_filter: OnWire) -> None:
    """TC_ACT_UNSPEC is no opinion: a filter behind the counting one still decides."""
    rig = packet_filter.rig
    packet_filter.rules(drop("tcp_dport[80]", 7))
    counted = {
        f"{name}.{unit}": n
        for name in ("protocols[ipv4]", "protocols[ipv4/tcp]", "verdicts[unspec]")
        for unit, n in (("packets", 1), ("bytes", len(tcp4())))
    }
    # It runs before, and leaves the decision to the filter.
    with attach(rig.wire.dut, rig.kind, "builtin:tc_count") as first, first.changes(counted):
        packet_filter.drops(tcp4(), by=7)


def test_a_datagram_socket_meets_the_filter_like_a_packet_socket(packet_filter: OnWire) -> None:
    """Traffic of the stack itself, not of a packet socket."""
    wire = packet_filter.rig.wire
    wire.addresses(dut="10.9.0.1/24", peer="10.9.0.2/24")
    egress = packet_filter.rig.kind.egress
    near, far = (wire.dut, wire.peer) if egress else (wire.peer, wire.dut)
    address = "10.9.0.2" if egress else "10.9.0.1"
    receiver = far.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    client = near.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, client:
        receiver.bind((address, 5353))
        receiver.settimeout(2)
        client.sendto(b"one", (address, 5353))
        assert receiver.recv(9) == b"one"
        packet_filter.rules(drop("udp_dport[5353]", 7))
        before = packet_filter.counters().get("hits[7].packets", 0)
        client.sendto(b"two", (address, 5353))
        assert packet_filter.counters()["hits[7].packets"] == before + 1
        packet_filter.rules(drop("udp_dport[5353]", 0), "udp_dport[5353]={action: NO_RULE}")
        client.sendto(b"three", (address, 5353))
        assert receiver.recv(9) == b"three"
