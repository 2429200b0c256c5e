"""Captures under traffic that does not stop, of frames in many pieces, and of packets within packets."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netbpf.tap.model import CapturedPacket
from netns_fixtures.topology import End
from tests.cli.lab import Lab, frame
from tests.cli.test_cli_chain_traffic import PORT, WAYS, Way, attach, verdicts
from tests.tap.capturing import capture, program, rest, taken

PACE = 0.005  # seconds between two bursts


@contextmanager
def numbered(lab: Lab, way: Way) -> Iterator[list[int]]:
    """Two thousand frames a second, each with its number; at the end the list holds how many there were."""
    counts: list[int] = []
    stop, started = threading.Event(), threading.Event()
    end = way.source(lab)

    def run() -> None:
        number = 0
        while not stop.wait(PACE):
            burst = [frame(end, PORT, mark=number + index) for index in range(10)]
            end.send(burst, may_drop=way.egress)
            number += 10
            started.set()
        counts.append(number)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield counts
    finally:
        stop.set()
        thread.join()


def marks(found: list[CapturedPacket]) -> list[int]:
    """The numbers of packets."""
    return [int.from_bytes(one.data[42:46]) for one in found]


@pytest.mark.parametrize("way", [WAYS["xdp-native"], WAYS["egress"]], ids=["xdp", "egress"])
def test_no_packet_is_missed_or_counted_twice(lab: Lab, way: Way) -> None:
    """Captures come and go: members count each packet once, each capture has all from its first to its last."""
    attach(lab, way, "acl", "--priority", "10", *way.options)
    attach(lab, way, "last", "--priority", "90", stop=PORT)
    before = program(lab)
    with way.arrived(lab) as arrived:
        with numbered(lab, way) as sent:
            for member, other in (("", ""), ("last", ""), ("", "acl")):
                with (
                    capture(lab, "udp", way, member=member, buffer=16) as first,
                    capture(lab, "", way, member=other, buffer=16) as second,
                ):
                    early = taken(second, 20)
                    late = taken(first, 40) + rest(first)
                    early += rest(second)
                assert program(lab) == before
                for found, what in ((late, member or "last"), (early, other or "last")):
                    assert marks(found) == list(range(marks(found)[0], marks(found)[-1] + 1))
                    expected = way.go_on if what == "acl" else way.drop
                    assert {(one.member, one.verdict_name) for one in found} == {(what, expected)}
        total = sum(sent)
        assert verdicts(lab) == {"acl": {way.go_on: total}, "last": {way.drop: total}}
        assert lab.get("dut0", "acl.seen") == total
        assert lab.get("dut0", "last.seen") == 7 * total
        arrived.expect_none()


def test_packets_of_many_pieces(lab: Lab) -> None:
    """GSO in TC: packets far longer than the MTU, their bytes in pages; filters and copies have them whole."""
    wire = lab.wire
    wire.addresses("10.9.0.1/24", "10.9.0.2/24")
    for end in (wire.dut, wire.peer):
        lab.run(
            "ethtool", "-K", end.ifname, "tx", "on", "sg", "on", "tso", "on", "gso", "on", at=end
        )
    content = bytes(random.Random(3).choices(range(1, 256), k=400_000))
    with capture(lab, "tcp[3000] != 0", WAYS["clsact"], snaplen=100_000, buffer=16) as packets:
        transfer(wire.dut, wire.peer, content)
        found = rest(packets)
    assert max(one.length for one in found) > 3 * 1514
    assert {one.length - len(one.data) for one in found} == {0}
    assert min(one.length for one in found) > 3000
    payloads = [one.data[34 + (one.data[46] >> 4) * 4 :] for one in found]
    assert sum(map(len, payloads)) > 100_000
    assert all(one in content for one in payloads)


def transfer(server: End, client: End, content: bytes) -> None:
    """Send something by TCP, and wait until all of it has come."""
    with (
        server.run(socket.create_server, ("10.9.0.1", 5000)) as listening,
        client.run(socket.create_connection, ("10.9.0.1", 5000), 20) as sending,
        listening.accept()[0] as taking,
    ):
        thread = threading.Thread(target=sending.sendall, args=(content,))
        thread.start()
        left = len(content)
        while left:
            got = len(taking.recv(1 << 20))
            assert got
            left -= got
        thread.join()


def test_frames_in_several_buffers(lab: Lab) -> None:
    """XDP in native mode with a large MTU: on an empty hook, and with a member that takes such frames."""
    wire = lab.topology.wire(dut=lab.namespace, mtu=9000)
    name, payload = wire.dut.ifname, bytes(range(256)) * 34
    given = frame(wire.peer)[:42] + payload
    source = lab.compiled(
        """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 linear;
SEC("xdp.frags") int frags(struct xdp_md *ctx) { linear = ctx->data_end - ctx->data; return XDP_DROP; }
""",
        "frags",
    )
    for verdict in ("pass", "drop"):
        with capture(lab, "ether[8000] = 22", interface=name, snaplen=8500) as packets:
            wire.peer.send([given, given[:8000], frame(wire.peer)])
            [found] = rest(packets)
            assert packets.summary().seen == 3
        assert (found.data, found.length, found.verdict_name) == (given[:8500], len(given), verdict)
        if verdict == "pass":
            lab("attach", "xdp", name, source, "--mode", "native")
    assert lab.get(name, "linear") < len(given)
    lab("detach", "xdp", name)


@pytest.mark.parametrize("expression", ["", "udp"])
def test_packets_within_packets(lab: Lab, expression: str) -> None:
    """Three at a time are kept on a CPU; those within them are counted, and the rest comes right."""
    source = lab.compiled(
        """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int clones(struct __sk_buff *skb) {
	if (skb->mark == 4) return TC_ACT_SHOT;
	skb->mark++;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	return TC_ACT_OK;
}
char _license[] SEC("license") = "GPL";
""",
        "clones",
    )
    lab("attach", "tc", "dut0", source, "--egress")
    with capture(lab, expression, WAYS["egress"]) as packets:
        for _ in range(2):
            lab.wire.dut.send(frame(lab.wire.dut), may_drop=True)
        found = taken(packets, 6)
        assert rest(packets) == []
        counts = packets.summary()
    assert {one.verdict_name for one in found} == {"ok"}
    assert (counts.seen, counts.matched, counts.nested, counts.captured, counts.lost) == (
        10,
        10,
        4,
        6,
        0,
    )
