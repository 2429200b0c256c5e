"""What arrives is counted in the kernel: what is lost, comes twice, late or damaged on the way, and nothing else."""

import threading
from pathlib import Path

import pytest

import netbpf
from netbpf.errors import InterfaceNotFoundError, NetbpfError, NotSupportedError
from netbpf.traffic.model import Arrivals
from netbpf.traffic.receive import Receiver
from netbpf.traffic.receive_code import WINDOW
from netbpf.traffic.stamp import SIZE, WORDS, Session, stamped
from tests.cli.lab import Lab, run_cli
from tests.packets.captures import pcap
from tests.traffic.test_send import ARP, frames

SESSION = Session(0x5151, 0x0A0B)
UDP = "Ether(dst='02:00:00:00:00:02')/IP()/UDP()"
# Of every ten packets one is dropped, in native mode.
DROPPER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 seen;
SEC("xdp") int dropper(struct xdp_md *ctx) { return seen++ % 10 ? XDP_PASS : XDP_DROP; }
"""


def numbered(number: int, *, size: int = 100, session: Session = SESSION) -> bytearray:
    frame, at = stamped(frames(1, size)[0], session)
    made = bytearray(frame)
    WORDS.pack_into(made, at, *session.words(number))
    return made


class Counter:
    """A receiver at peer0, and the wire by which it is fed by hand."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sent = 0

    def count(self, given: list[bytes | bytearray], *, sent: int | None = None) -> Arrivals:
        with Receiver.open("peer0", self.lab.wire.peer.namespace, SESSION) as receiver:
            self.lab.wire.dut.send([bytes(one) for one in given])
            return receiver.arrivals(len(given) if sent is None else sent, 0.0, threading.Event())


def test_every_kind_of_trouble_is_told_apart(lab: Lab) -> None:
    count = Counter(lab).count
    found = count([numbered(one) for one in range(10)])
    assert (found.received, found.lost, found.whole) == (10, 0, True)
    assert found.bytes == 1000

    found = count([numbered(one) for one in (0, 1, 3, 4)], sent=6)
    assert (found.received, found.lost) == (4, 2)
    assert found.loss_percent == pytest.approx(100 / 3)
    assert not found.whole

    found = count([numbered(one) for one in (0, 1, 1, 2, 0)], sent=3)
    assert (found.received, found.duplicates, found.reordered, found.lost) == (3, 2, 0, 0)
    assert found.whole

    # RFC 4737, 4.2.4: packets behind one with a larger number.
    found = count([numbered(one) for one in (0, 3, 1, 2, 4)])
    assert (found.received, found.reordered, found.duplicates) == (5, 2, 0)


def test_damage_anywhere_behind_the_headers_is_seen(lab: Lab) -> None:
    count = Counter(lab).count
    for place in (0, 5, 8, 13, 16, 17, SIZE, SIZE + 1, SIZE + 40, SIZE + 63, SIZE + 64, -1):
        broken = numbered(5, size=301)
        at = 14 + place if place >= 0 else place
        broken[at] ^= 0x40
        found = count([numbered(4), broken, numbered(6)])
        assert (found.received, found.damaged, found.lost) == (2, 1, 0), place
    # Cut, and zeros behind it, as of a frame that is padded to its least length.
    ending = stamped(frames(1, 90)[0][:-1] + b"\7", SESSION).frame
    assert count([ending]).whole
    assert count([ending[:-1]]).damaged == 1
    assert count([numbered(1, size=70) + bytes(11)]).damaged == 0


def test_headers_may_have_changed_on_the_way(lab: Lab) -> None:
    """Other addresses, a shorter TTL, a tunnel around it: the number is found at any even place."""
    frame, at = stamped(frames(1, 120)[0], SESSION)
    found = Counter(lab).count([frame[:14] + bytes(range(60)) + frame[14:] for _ in range(1)])
    assert (at, found.received) == (14, 1)


def test_foreign_packets_do_not_count(lab: Lab) -> None:
    others: list[bytes | bytearray] = [
        ARP, *frames(3), numbered(1, session=Session(0x5151, 0x0A0C)), numbered(2, session=Session(1, 0x0A0B)),
        b"\x51\x51" * 40, bytes(60),
    ]  # fmt: skip
    found = Counter(lab).count([*others, numbered(0)], sent=1)
    assert (found.received, found.duplicates, found.damaged, found.lost) == (1, 0, 0, 0)


def test_what_leaves_does_not_count_as_arriving(lab: Lab) -> None:
    result = netbpf.send(
        "dut0", UDP, count=5, rate=0, expect="dut0", wait=0.05, netns=lab.namespace
    )
    assert result.arrivals
    assert (result.arrivals.received, result.arrivals.lost) == (0, 5)


def test_numbers_older_than_the_window_still_count(lab: Lab) -> None:
    found = Counter(lab).count([numbered(one) for one in (5, WINDOW + 5, 5, 2 * WINDOW + 5, 6)])
    # The second 5 is taken for another packet: what was in its place is newer.
    assert (found.received, found.duplicates, found.reordered) == (5, 0, 2)


@pytest.mark.parametrize("xdp", [False, True])
def test_every_packet_of_a_flood_arrives_or_is_counted(lab: Lab, far: str, xdp: bool) -> None:
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    result = netbpf.send(
        "dut0", [UDP, f"{UDP}/('x' * 500)"], count=40_000, rate=0, xdp=xdp,
        expect="peer0", expect_netns=far, netns=lab.namespace,
    )  # fmt: skip
    found = result.arrivals
    assert found is not None
    assert (result.sent + result.dropped, found.duplicates, found.damaged) == (40_000, 0, 0)
    assert found.received + found.lost == result.sent
    assert found.lost <= result.interface_dropped
    assert result.way == ("xdp" if xdp else "raw")


@pytest.mark.parametrize("xdp", [False, True])
def test_what_a_program_drops_is_lost(lab: Lab, far: str, xdp: bool) -> None:
    attached = run_cli("attach", "xdp", "peer0", lab.compiled(DROPPER), "--netns", far)
    assert attached.code == 0, attached.err
    options = (
        "--expect",
        "peer0",
        "--expect-netns",
        far,
        "--rate",
        "50k",
        "--json",
        "--wait",
        "0.2",
    )
    way = ("--xdp",) if xdp else ()
    found = run_cli(
        "send", "dut0", "--netns", lab.netns, "--packet", UDP, "--count", 1000, *options, *way
    )
    assert (found.code, found.err) == (1, "")
    assert found.json["sent"] == 1000
    arrivals = found.json["arrivals"]
    assert (arrivals["received"], arrivals["lost"], arrivals["loss_percent"]) == (900, 100, 10.0)
    assert arrivals["reordered"] == arrivals["damaged"] == 0
    run_cli("detach", "xdp", "peer0", "--netns", far)


def test_a_capture_is_numbered_too(lab: Lab, far: str, tmp_path: Path) -> None:
    (tmp_path / "in.pcap").write_bytes(pcap([*frames(5, 60), ARP, *frames(3, 900)]))
    for xdp in (False, True):
        if xdp:
            lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
        result = netbpf.send(
            "dut0", capture="in.pcap", loops=30, rate=0, xdp=xdp,
            expect="peer0", expect_netns=far, netns=lab.namespace,
        )  # fmt: skip
        assert result.arrivals
        assert (result.sent, result.arrivals.received) == (270, 270)
        assert result.bytes == result.arrivals.bytes


def test_xdp_frames_are_what_was_given_byte_for_byte(lab: Lab) -> None:
    """Of several lengths, again and again, also in pages that were used before."""
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    one = frames(1, 1514)[0]
    given = [*frames(3), *frames(2, 1514), one[:15], one[:14], *frames(1, 700)]
    with lab.wire.peer.capture("wire", strict=False) as capture:
        result = netbpf.send("dut0", given, count=83, rate=0, xdp=True, netns=lab.namespace)
        capture.await_packets(83)
        assert capture.packets() == given * 10 + given[:3]
    size = 10 * sum(map(len, given)) + sum(map(len, given[:3]))
    assert (result.sent, result.dropped, result.bytes) == (83, 0, size)


def test_a_veth_that_takes_no_xdp_frames(lab: Lab) -> None:
    with pytest.raises(NotSupportedError, match="dut0 takes no XDP frames") as caught:
        netbpf.send("dut0", ARP, xdp=True, netns=lab.namespace)
    assert "gro on" in str(caught.value.hint)


def test_receivers_that_cannot_be(lab: Lab, far: str) -> None:
    def expect(name: str, **options: object) -> None:
        netbpf.send("dut0", ARP, expect=name, netns=lab.namespace, **options)  # type: ignore[arg-type]

    with pytest.raises(InterfaceNotFoundError, match="no interface 'peer0'"):
        expect("peer0")
    with pytest.raises(InterfaceNotFoundError, match="no interface 'peer9'"):
        expect("peer9", expect_netns=far)
    wire = lab.topology.wire(dut=lab.namespace, up=False)
    with pytest.raises(NetbpfError, match=f"{wire.dut.ifname} is down"):
        expect(wire.dut.ifname)
