"""Namespaces and wires: silent, known in every detail, and gone without a trace."""

import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from netbpf.net.netns import Namespace
from netns_fixtures import ethtool, sockets
from netns_fixtures.errors import TopologyError
from netns_fixtures.kinds import GROUPS
from netns_fixtures.programs import attach_pass
from netns_fixtures.topology import End, Topology, Wire

pytestmark = pytest.mark.requires("root")


def test_both_ends_are_up_and_have_the_promised_names_and_addresses(wire: Wire) -> None:
    assert wire.dut.carrier
    assert wire.peer.carrier
    assert [(end.ifname, end.mac) for end in (wire.dut, wire.peer)] == [
        ("dut0", "02:00:00:00:00:01"),
        ("peer0", "02:00:00:00:00:02"),
    ]
    for end in (wire.dut, wire.peer):
        assert end.run(socket.if_indextoname, end.ifindex) == end.ifname
        assert end.ifname not in [name for _, name in socket.if_nameindex()]
    assert wire.dut.namespace != wire.peer.namespace
    assert not wire.dut.namespace.is_current()


def test_the_kernel_has_the_macs_from_the_beginning(wire: Wire) -> None:
    for end in (wire.dut, wire.peer):
        sock = end.run(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind((end.ifname, 0))
        assert sock.getsockname()[4].hex(":") == end.mac
        sockets.close_all([sock])


def test_wires_of_one_topology_differ(veth: Callable[..., Wire]) -> None:
    one, other = veth(), veth()
    assert {end.ifname for end in (one.dut, one.peer, other.dut, other.peer)} == {
        "dut0", "peer0", "dut1", "peer1",
    }  # fmt: skip
    assert len({end.mac for end in (one.dut, one.peer, other.dut, other.peer)}) == 4


def test_wires_meet_in_a_namespace_that_is_given(
    netns: Callable[[], Namespace], veth: Callable[..., Wire]
) -> None:
    middle = netns()
    left, right = veth(dut=middle), veth(dut=middle, mtu=9000, names=("eth0", "far"), queues=2)
    assert left.dut.namespace == right.dut.namespace == middle
    assert {name for _, name in middle.run(socket.if_nameindex)} == {"lo", "dut0", "eth0"}
    assert right.dut.mtu == right.peer.mtu == 9000
    assert "rx_queue_1_xdp_packets" in right.dut.statistics()


def test_a_wire_can_be_made_down(veth: Callable[..., Wire]) -> None:
    wire = veth(up=False)
    assert not wire.dut.carrier
    wire.dut.up()
    assert not wire.dut.carrier
    wire.peer.up()
    assert wire.dut.carrier


def test_offloads_are_off(wire: Wire) -> None:
    for end in (wire.dut, wire.peer):
        features = end.offloads()
        assert {
            "tx-checksum-ip-generic",
            "rx-gro",
            "tx-tcp-segmentation",
            "rx-vlan-hw-parse",
        } <= set(features)
        assert [
            name for name, on in features.items() if on and name.startswith(("tx-", "rx-"))
        ] == []


def listen(end: End) -> socket.socket:
    """A socket that hears what goes in and out."""
    sock = end.run(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((end.ifname, sockets.ETH_P_ALL))
    return sock


@pytest.fixture
def silence(topology: Topology) -> Callable[[Wire], list[bytes]]:
    """What an idle wire carries in two seconds, in which a default veth pair sends three packets."""

    def measure(wire: Wire) -> list[bytes]:
        heard = [listen(wire.dut), listen(wire.peer)]
        topology.hold(*heard)
        deadline = time.monotonic() + 2.0
        packets = []
        while (left := deadline - time.monotonic()) > 0:
            for sock in select.select(heard, [], [], left)[0]:
                packets.append(sock.recv(2048))  # noqa: PERF401 - the set of sockets changes
        return packets

    return measure


def test_an_idle_wire_is_silent(
    veth: Callable[..., Wire], silence: Callable[[Wire], list[bytes]]
) -> None:
    wire = veth(up=False)
    for end in (wire.dut, wire.peer):
        end.up()
    assert silence(wire) == []


@pytest.mark.requires("ipv6")
def test_an_idle_wire_with_addresses_is_silent(
    veth: Callable[..., Wire], silence: Callable[[Wire], list[bytes]]
) -> None:
    wire = veth()
    wire.addresses("10.0.0.1/24", "10.0.0.2/24")
    wire.addresses("fd00::1/64", "fd00::2/64")
    assert silence(wire) == []


@pytest.mark.requires("ipv6")
@pytest.mark.parametrize(
    ("family", "dut", "peer"),
    [(socket.AF_INET, "10.0.0.1/24", "10.0.0.2/24"), (socket.AF_INET6, "fd00::1/64", "fd00::2/64")],
    ids=["ipv4", "ipv6"],
)
def test_sockets_talk_without_asking_for_neighbours(
    wire: Wire, family: socket.AddressFamily, dut: str, peer: str
) -> None:
    wire.addresses(dut, peer)
    with (
        wire.dut.run(socket.socket, family, socket.SOCK_DGRAM) as server,
        wire.peer.run(socket.socket, family, socket.SOCK_DGRAM) as client,
        wire.dut.capture() as at_dut,
        wire.peer.capture() as at_peer,
    ):
        server.settimeout(5)
        client.settimeout(5)
        server.bind((dut.partition("/")[0], 5000))
        client.sendto(b"ping", server.getsockname())
        data, sender = server.recvfrom(64)
        assert (data, sender[0]) == (b"ping", peer.partition("/")[0])
        server.sendto(b"pong", sender)
        assert client.recv(64) == b"pong"
        assert [len(at_dut.packets()), len(at_peer.packets())] == [1, 1]


@pytest.mark.requires("ipv6")
def test_ipv6_addresses_are_in_use_at_once() -> None:
    """The kernel gets to it in its own time; without waiting for that, one round in ten fails."""
    for _ in range(40):
        with Topology() as topology:
            wire = topology.wire()
            wire.addresses("fd00::1/64", "fd00::2/64")
            with (
                wire.dut.run(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM) as server,
                wire.peer.run(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM) as client,
            ):
                server.settimeout(5)
                server.bind(("fd00::1", 5000))
                client.sendto(b"ping", server.getsockname())
                assert server.recv(64) == b"ping"


def test_addresses_of_two_versions_are_refused(wire: Wire) -> None:
    with pytest.raises(TopologyError, match="different IP versions"):
        wire.addresses("10.0.0.1/24", "fd00::2/64")


@pytest.mark.serial
def test_closing_lets_go_of_everything(leaks: Callable[..., list[str]]) -> None:
    with Topology() as topology:
        wire = topology.wire()
        wire.peer.send(bytes(60))
        wire.dut.capture("stack").close()
    topology.close()
    assert leaks() == []


def test_a_namespace_is_gone_once_its_topology_is(topology: Topology) -> None:
    """Seen from the other end: a veth vanishes together with its peer's namespace."""
    here = topology.namespace()
    with Topology() as passing:
        passing.wire(dut=here)
        assert len(here.run(socket.if_nameindex)) == 2
    deadline = time.monotonic() + 10
    while len(here.run(socket.if_nameindex)) == 2:
        assert time.monotonic() < deadline


VICTIM = """
import sys, time
from netns_fixtures.kinds import GROUPS
from netns_fixtures.programs import attach_pass
from netns_fixtures.topology import Topology

topology, programs = Topology(), []
for kind in GROUPS["all"]:
    wire = topology.wire()
    programs.append(attach_pass(wire.dut, kind))
    wire.dut.capture()
    wire.peer.send(bytes(60))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.serial
def test_a_killed_test_leaves_nothing(leaks: Callable[..., list[str]]) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with victim:
        assert victim.stdout
        assert victim.stdout.readline() == "ready\n"
        # The check sees what is there as long as the process lives.
        seen = [line.partition(":")[0] for line in leaks(patience=0.0)]
        assert seen.count("program") >= len(GROUPS["all"])
        assert seen.count("link") >= 2
        victim.send_signal(signal.SIGKILL)
    assert victim.returncode == -signal.SIGKILL
    assert leaks() == []


def test_every_kind_is_attached_where_it_says(topology: Topology) -> None:
    from netbpf.net.occupants import occupants
    from netbpf.net.rtnetlink import Session

    for kind in GROUPS["all"]:
        wire = topology.wire()
        with attach_pass(wire.dut, kind) as program:
            with Session(wire.dut.namespace) as session:
                [occupant] = occupants(session)
            assert (occupant.hook, occupant.mode, occupant.prog_id) == (
                kind.hook, kind.mode, program.id,
            )  # fmt: skip
        with Session(wire.dut.namespace) as session:
            assert occupants(session) == []


def test_the_name_of_an_interface_follows_a_rename(wire: Wire) -> None:
    sock = wire.dut.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        assert ethtool.name_of(sock, wire.dut.ifindex) == "dut0"
        with pytest.raises(OSError, match="No such device"):
            ethtool.name_of(sock, 4711)
