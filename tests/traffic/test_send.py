"""Packets that really go over a wire: every byte of them, and as many as were asked for."""

import ctypes
import fcntl
import gzip
import itertools
import os
import struct
import threading
from pathlib import Path
from typing import Any, Self

import pytest

import netbpf
from netbpf.errors import (
    CaptureError,
    InterfaceNotFoundError,
    NetbpfError,
    NotSupportedError,
    PacketTextError,
    UsageError,
)
from netbpf.traffic import raw, send
from netbpf.traffic.frames import Batch, Ring, Skipped, Stream
from netbpf.traffic.outlet import Counted, Outlet
from netbpf.traffic.stamp import Session
from tests.cli.lab import Lab, frame
from tests.packets.captures import block, interface, pcap, section

ARP = bytes.fromhex("ffffffffffff0200000000010806") + bytes(range(46))


def frames(number: int, size: int = 70) -> list[bytes]:
    """So many different frames, none of which a host would answer."""
    head = bytes.fromhex("02000000000202000000000188b5")
    return [head + (one).to_bytes(4) + bytes(size - 18) for one in range(number)]


def test_frames_go_round_in_turn(lab: Lab) -> None:
    given = [*frames(2), ARP, frame(lab.wire.dut, size=1514)]
    with lab.wire.peer.capture("wire", strict=False) as capture:
        result = netbpf.send("dut0", given, count=9, rate=0, netns=lab.namespace)
        capture.await_packets(9)
        assert capture.packets() == [
            one for _, one in zip(range(9), itertools.cycle(given), strict=False)
        ]
    assert (result.sent, result.bytes, result.way) == (9, 2 * sum(map(len, given)) + 70, "raw")
    assert (result.skipped, result.arrivals, result.stopped) == ({}, None, False)


def test_what_the_interface_dropped_meanwhile(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what it had dropped before."""
    counted = iter([Counted(100, 7), Counted(103, 9)])
    monkeypatch.setattr(Outlet, "counted", lambda _: next(counted))
    result = netbpf.send("dut0", ARP, count=3, rate=0, netns=lab.namespace)
    assert (result.sent, result.interface_dropped) == (3, 2)


def test_an_expression_stands_for_all_its_packets(lab: Lab) -> None:
    with lab.wire.peer.capture("wire", strict=False) as capture:
        netbpf.send("dut0", "IP()/UDP(dport=(53,57))", rate=0, netns=lab.namespace)
        capture.await_packets(5)
        ports = [int.from_bytes(one[36:38]) for one in capture.packets()]
    assert ports == [53, 54, 55, 56, 57]


@pytest.mark.parametrize("kind", ["pcap", "pcapng", "gzip"])
def test_a_capture_of_any_kind(lab: Lab, tmp_path: Path, kind: str) -> None:
    """Of more pieces than there is memory for: they are read into by turns."""
    given = frames(3000, 500)
    content = pcap(given)
    if kind == "pcapng":
        packets = (
            block(6, struct.pack("<IIIII", 0, 0, number, len(one), len(one)) + one)
            for number, one in enumerate(given)
        )
        content = section() + block(1, interface()[8:-4]) + b"".join(packets)
    elif kind == "gzip":
        content = gzip.compress(content, 1)
    path = tmp_path / "in"
    path.write_bytes(content)
    with lab.wire.peer.capture("wire", strict=False) as capture:
        result = netbpf.send("dut0", capture=path, rate=0, loops=2, netns=lab.namespace)
        capture.await_packets(6000)
        assert capture.packets() == given * 2
    assert (result.sent, result.bytes) == (6000, 3_000_000)


def test_a_count_goes_round_a_capture_and_ends_within_it(lab: Lab, tmp_path: Path) -> None:
    given = frames(7)
    (tmp_path / "in.pcap").write_bytes(pcap(given))
    with lab.wire.peer.capture("wire", strict=False) as capture:
        for count, sequence in ((3, False), (17, False), (3, True)):
            result = netbpf.send(
                "dut0",
                capture="in.pcap",
                rate=0,
                count=count,
                sequence=sequence,
                netns=lab.namespace,
            )
            assert result.sent == count
            capture.await_packets(count)
            found = [one[:16] for one in capture.packets()]
            if not sequence:
                assert found == [
                    one[:16] for _, one in zip(range(count), itertools.cycle(given), strict=False)
                ]


def test_a_capture_keeps_its_times(lab: Lab, tmp_path: Path) -> None:
    """Half a second recorded, ten times as fast: not before, and with the gap where it was."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    made = [
        struct.pack("<IIII", 5, micro, 70, 70) + one
        for micro, one in zip((0, 100, 500_000), frames(3), strict=True)
    ]
    (tmp_path / "in.pcap").write_bytes(head + b"".join(made))
    result = netbpf.send("dut0", capture="in.pcap", speed=10, netns=lab.namespace)
    assert (result.sent, result.rate) == (3, None)
    assert result.seconds >= 0.05
    twice = netbpf.send("dut0", capture="in.pcap", speed=10, loops=2, netns=lab.namespace)
    assert twice.seconds >= 0.1  # the second round begins after the first one's end


def test_what_cannot_be_sent_of_a_capture_is_counted(lab: Lab, tmp_path: Path) -> None:
    given = [
        frames(1)[0],
        bytes(13),
        frames(1, 1515)[0],
        b"",
        frames(1, 1514)[0],
        frames(1, 9000)[0],
    ]
    (tmp_path / "in.pcap").write_bytes(pcap(given)[:-1])
    for options in ({}, {"sequence": True}, {"rate": 1e5}):
        given_options: dict[str, Any] = {"rate": 0, **options}
        result = netbpf.send("dut0", capture="in.pcap", netns=lab.namespace, **given_options)
        assert result.sent == 2
        assert result.skipped == {
            "shorter than an Ethernet header (14 bytes)": 2,
            "longer than 1514 bytes": 1,
        }
        assert "packet 6 at byte" in result.warnings[0]
        assert "is not whole" in result.warnings[0]


def test_a_capture_of_nothing_that_can_be_sent_ends(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "in.pcap").write_bytes(pcap([bytes(5)]))
    for options in ({"loops": 0}, {"count": 10}, {"loops": 0, "sequence": True}):
        result = netbpf.send("dut0", capture="in.pcap", rate=0, netns=lab.namespace, **options)  # type: ignore[arg-type]
        assert result.sent == 0
        assert list(result.skipped) == ["shorter than an Ethernet header (14 bytes)"]


def test_captures_that_are_none(lab: Lab, tmp_path: Path) -> None:
    made = {
        "empty": b"", "nothing": pcap([]), "raw": pcap([bytes(40)], link=101), "text": b"hello, world, this is text",
    }  # fmt: skip
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
        for sequence in (False, True):
            with pytest.raises(CaptureError) as caught:
                netbpf.send("dut0", capture=name, rate=0, sequence=sequence, netns=lab.namespace)
            assert name in caught.value.message
    (tmp_path / "cut").write_bytes(pcap([bytes(60)])[:-1])
    for sequence in (False, True):
        with pytest.raises(CaptureError) as caught:
            netbpf.send("dut0", capture="cut", rate=0, sequence=sequence, netns=lab.namespace)
        assert caught.value.message == "cut holds no packets"
        assert "packet 1 at byte 24 is not whole" in str(caught.value.hint)
    with pytest.raises(CaptureError, match="cannot read absent"):
        netbpf.send("dut0", capture="absent", netns=lab.namespace)


def test_packets_that_cannot_be(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(packet: bytes | str, **options: object) -> str:
        with pytest.raises(UsageError) as caught:
            netbpf.send("dut0", packet, netns=lab.namespace, **options)  # type: ignore[arg-type]
        return caught.value.message

    assert (
        refused(bytes(13)) == "the packet is shorter than an Ethernet header (14 bytes): it has 13"
    )
    longest = "longer than 1514 bytes, the most that dut0 takes with its MTU of 1500"
    assert refused(bytes(1515)) == f"the packet is {longest}: it has 1515"
    assert refused("IP()/('x'*2000)", xdp=True).startswith("the packet is longer than 1514")
    assert "at most 3400" in refused_jumbo(lab)
    with pytest.raises(PacketTextError, match="no field prot") as caught:
        netbpf.send("dut0", "IP()/UDP(prot=5)", netns=lab.namespace)
    assert caught.value.at == 9
    monkeypatch.setattr(send, "_MOST_VARIANTS", 100)
    assert "more than 100 packets" in refused("IP()/UDP(dport=(0,65535))")


def refused_jumbo(lab: Lab) -> str:
    wire = lab.topology.wire(mtu=9000)
    with pytest.raises(UsageError) as caught:
        netbpf.send(wire.dut.ifname, bytes(3401), xdp=True, netns=wire.dut.namespace)
    # By a socket it goes.
    assert netbpf.send(wire.dut.ifname, ARP.ljust(9014), netns=wire.dut.namespace).sent == 1
    return caught.value.message


def test_a_tagged_frame_may_have_four_bytes_more(lab: Lab) -> None:
    tagged = bytes.fromhex("0200000000020200000000018100000588b5").ljust(1518, b"\1")
    assert netbpf.send("dut0", tagged, netns=lab.namespace).sent == 1
    with pytest.raises(UsageError, match="longer than 1518 bytes"):
        netbpf.send("dut0", tagged + b"x", netns=lab.namespace)


def test_an_interface_that_is_down_or_has_no_link(lab: Lab) -> None:
    lab.wire.peer.down()
    for xdp in (False, True):
        with pytest.raises(NetbpfError, match=r"dut0 has no link .its other end is down"):
            netbpf.send("dut0", ARP, xdp=xdp, netns=lab.namespace)
    lab.wire.dut.down()
    with pytest.raises(NetbpfError, match=r"^dut0 is down$") as caught:
        netbpf.send("dut0", ARP, netns=lab.namespace)
    assert (caught.value.hint, caught.value.exit_code) == ("ip link set dev dut0 up", 1)
    with pytest.raises(InterfaceNotFoundError, match="no interface 'dut9'"):
        netbpf.send("dut9", ARP, netns=lab.namespace)


@pytest.mark.parametrize("xdp", [False, True])
@pytest.mark.parametrize("what", ["down", "gone", "far end down"])
def test_an_interface_that_goes_away_while_sending(lab: Lab, what: str, xdp: bool) -> None:
    """After some packets, told by the progress that the sender itself reports."""
    wire = lab.topology.wire(dut=lab.namespace)
    lab.run("ethtool", "-K", wire.peer.ifname, "gro", "on", at=wire.peer)
    done: list[int] = []

    def act(sent: int, _total: int, _seconds: float) -> None:
        if sent and not done:
            done.append(sent)
            if what == "gone":
                lab.run("ip", "link", "del", wire.dut.ifname)
            else:
                (wire.dut if what == "down" else wire.peer).down()

    with pytest.raises(NetbpfError) as caught:
        netbpf.send(
            wire.dut.ifname, ARP, count=0, rate=5000, xdp=xdp, netns=lab.namespace, progress=act
        )
    words = {"down": "is down, after ", "gone": "has gone, after ", "far end down": "has no link"}
    assert words[what] in caught.value.message
    assert " packet" in caught.value.message
    assert caught.value.exit_code == (6 if what == "gone" else 1)


def test_requests_that_make_no_sense(lab: Lab) -> None:
    for given, options, words in (
        ((), {}, "say what to send"),
        ((ARP,), {"capture": "x"}, "say what to send"),
        ((ARP,), {"rate": -1}, "cannot be"),
        ((ARP,), {"xdp": True, "bypass": True}, "no queueing discipline"),
        ((ARP,), {"xdp": True, "batch": 257}, "1 to 256"),
        ((), {"capture": "-", "loops": 2}, "only once"),
        ((), {"capture": "-", "count": 0}, "only once"),
    ):
        with pytest.raises(UsageError, match=words):
            netbpf.send("dut0", given, netns=lab.namespace, **options)


def test_an_interface_without_ethernet_headers(lab: Lab) -> None:
    lab.run("ip", "tuntap", "add", "tun7", "mode", "tun")
    with lab.namespace.run(open_tun, "tun7"):
        lab.run("ip", "link", "set", "tun7", "up")
        with pytest.raises(NotSupportedError, match="tun7 is no Ethernet interface"):
            netbpf.send("tun7", ARP, netns=lab.namespace)


def test_a_full_queue_is_waited_for_and_nothing_is_lost(lab: Lab) -> None:
    """Behind a bottleneck the kernel refuses packets (ENOBUFS); each is sent again, and all arrive once."""
    bottleneck = "root tbf rate 2mbit burst 2kb limit 4kb"
    lab.run("tc", "qdisc", "add", "dev", "dut0", *bottleneck.split())
    given = frames(500)
    with lab.wire.peer.capture("wire", strict=False) as capture:
        result = netbpf.send("dut0", given, rate=0, netns=lab.namespace)
        capture.await_packets(500)
        # The queue is emptied by either processor, so two packets may change places.
        assert sorted(capture.packets()) == given
    assert (result.sent, result.behind) == (500, False)
    assert result.waits > 0
    past = netbpf.send("dut0", given, rate=0, bypass=True, netns=lab.namespace)
    assert (past.sent, past.waits) == (500, 0)


def test_what_is_dropped_each_time_is_not_tried_for_ever(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A veth answers as if its queue were full where a packet is too long for its other end."""
    monkeypatch.setattr(raw, "STUCK", 0.05)
    lab.run("ip", "link", "set", "peer0", "mtu", "500", at=lab.wire.peer)
    given = [bytes(12) + b"\x88\xb5" + bytes(number) for number in (60, 60, 1000)]
    with pytest.raises(
        NetbpfError,
        match=r"dut0 has not taken a packet of 1,014 bytes for 0\.05 s, after 2 packets: .* a smaller MTU",
    ):
        netbpf.send("dut0", given, count=3, netns=lab.namespace)


def test_a_stop_ends_it_with_what_was_sent(lab: Lab) -> None:
    for xdp in (False, True):
        stop = threading.Event()

        def watch(sent: int, total: int, _: float, stop: threading.Event = stop) -> None:
            assert total == 0
            if sent:
                stop.set()

        if xdp:
            lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
        result = netbpf.send(
            "dut0", ARP, count=0, rate=2000, xdp=xdp, netns=lab.namespace, progress=watch, stop=stop
        )
        assert result.stopped
        assert result.sent > 0


class Tun:
    """The reader's side of a TUN device."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def open_tun(name: str) -> Tun:
    """Attach to a TUN device."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH14x", name.encode(), 0x1001))
    return Tun(fd)


def test_numbers_are_written_alike_many_at_a_time_and_one_by_one() -> None:
    """Frames of one shape are numbered by strides, others one by one."""
    session = Session(7, 9)

    def numbers(ring: Ring, total: int, at: list[int]) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for batch in ring.batches(total):
            for data in packets_of(batch):
                place = at[len(found) % len(at)]
                first, second = struct.unpack_from("<QQ", data, place)
                found.append((first, second))
        return found

    expected = [session.words(number) for number in range(2500)]
    same = Ring([bytes(60)], None, [42], session)
    assert numbers(same, 2500, [42]) == expected
    mixed = Ring([bytes(60), bytes(71), bytes(99)], None, [42, 14, 30], session)
    assert numbers(mixed, 2500, [42, 14, 30]) == expected


def packets_of(batch: Batch) -> list[bytes]:
    """What the kernel would read."""
    vectors = batch.vectors.cast("Q")
    return [
        ctypes.string_at(vectors[2 * index], vectors[2 * index + 1])
        for index in range(len(batch.lengths))
    ]


def test_batches_of_a_capture_last_as_long_as_they_may_be_in_use(tmp_path: Path) -> None:
    """Also over the end of a round."""
    given = frames(3000, 600)
    (tmp_path / "in.pcap").write_bytes(pcap(given))
    stream = Stream(str(tmp_path / "in.pcap"), 2, Skipped(len), timed=False)
    held: list[Batch] = []
    found: list[bytes] = []
    for batch in stream.batches(1 << 40):
        held.append(batch)
        if len(held) == stream.existing:
            found += packets_of(held.pop(0))
    assert len(held) == stream.existing - 1
    for batch in held:
        found += packets_of(batch)
    assert found == given * 2
