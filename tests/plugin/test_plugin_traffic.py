"""Sending and capturing: every way a packet can get lost is an error that names its cause."""

import os
import subprocess
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw
from scapy.volatile import RandShort

from netbpf.constants import TcAction
from netns_fixtures.capture import sentinel_frame
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.frames import to_frames
from netns_fixtures.kinds import TC_CLSACT_EGRESS
from netns_fixtures.programs import attach, verdict_object
from netns_fixtures.topology import Wire

pytestmark = pytest.mark.requires("root")

PACKET = IP(src="10.0.0.2", dst="10.0.0.1", ttl=64) / UDP(sport=1024, dport=53) / b"question"
A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


# --- what can be sent --------------------------------------------------------------------------


def test_macs_that_are_not_given_are_those_of_the_wire(wire: Wire) -> None:
    [frame] = wire.peer.send(Ether() / PACKET)
    assert (Ether(frame).dst, Ether(frame).src) == (wire.dut.mac, wire.peer.mac)
    [frame] = wire.peer.send(Ether(dst=A, src=B) / PACKET)
    assert (Ether(frame).dst, Ether(frame).src) == (A, B)


def test_the_packet_given_is_not_changed() -> None:
    packet = Ether() / PACKET
    to_frames(packet, A, B)
    assert "dst" not in packet.fields


def test_lists_and_sets_become_their_frames_in_order() -> None:
    header = bytes.fromhex((B + A).replace(":", "")) + b"\x08\x00"
    frames = to_frames([b"\0" * 14, [bytearray(15)], (PACKET,), memoryview(bytes(16))], A, B)
    assert [len(frame) for frame in frames] == [14, 15, 14 + len(PACKET), 16]
    assert frames[2] == header + bytes(PACKET)
    several = to_frames(IP(src="10.0.0.2", dst="10.0.0.0/30") / UDP(), A, B)
    assert [Ether(frame)[IP].dst for frame in several] == [f"10.0.0.{last}" for last in range(4)]


def test_a_random_field_is_the_same_in_what_was_sent_and_what_is_returned(wire: Wire) -> None:
    with wire.dut.capture() as seen:
        [frame] = wire.peer.send(IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=RandShort()))
        seen.expect(frame)


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (b"", "a frame of 0 bytes"),
        (bytes(13), "a frame of 13 bytes cannot be sent"),
        (Raw(b"text"), "cannot begin with Raw: begin with Ether"),
        (UDP(), "cannot begin with UDP"),
        ("text", "'text' is no packet"),
        (17, "17 is no packet"),
        (None, "None is no packet"),
        ({"a": 1}, "is no packet"),
        ([PACKET, 3.5], "3.5 is no packet"),
        (
            IP(dst="10.0.0.1", src="10.0.0.2", ttl="high"),
            "scapy cannot build IP: .*ttl.* not an integer",
        ),
        (
            IP(src="10.0.0.2", dst="10.0.0.1") / UDP(dport=70000),
            "scapy cannot build IP/UDP: .*dport",
        ),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_packet_is_named(packet: object, message: str) -> None:
    with pytest.raises(TrafficError, match=message):
        to_frames(packet, A, B)  # type: ignore[arg-type]


# --- what cannot arrive ------------------------------------------------------------------------


def test_a_peer_that_is_down_is_noticed(wire: Wire) -> None:
    wire.peer.send(PACKET)
    wire.dut.down()
    with pytest.raises(TrafficError, match="peer0 has no carrier: its peer is down"):
        wire.peer.send(PACKET)
    wire.dut.up()
    wire.peer.send(PACKET)


def test_an_interface_that_is_down_is_noticed(wire: Wire) -> None:
    wire.peer.down()
    with pytest.raises(TrafficError, match="peer0 is down"):
        wire.peer.send(PACKET)


def test_an_interface_that_is_gone_is_noticed(wire: Wire) -> None:
    wire.peer.send(PACKET)
    wire.dut.run(subprocess.run, ["ip", "link", "delete", "dut0"], check=True)
    with pytest.raises(TrafficError, match="peer0 does not exist any more"):
        wire.peer.send(PACKET)


def test_a_renamed_interface_sends_on(wire: Wire) -> None:
    wire.peer.send(PACKET)
    wire.peer.run(subprocess.run, ["ip", "link", "set", "peer0", "name", "other"], check=True)
    wire.peer.send(PACKET)


def test_a_frame_larger_than_the_mtu_is_named(wire: Wire) -> None:
    wire.peer.send(bytes(1514))
    wire.peer.send(bytes(12) + b"\x81\x00" + bytes(1504))
    with pytest.raises(
        TrafficError, match="1515 bytes does not fit peer0: its MTU of 1500 allows 1514"
    ):
        wire.peer.send(bytes(1515))


def test_a_drop_on_the_way_out_is_an_error_unless_it_may_be(wire: Wire) -> None:
    with attach(wire.dut, TC_CLSACT_EGRESS, verdict_object("tc", TcAction.SHOT)):
        with pytest.raises(TrafficError, match="dut0 dropped a frame of 50 bytes"):
            wire.dut.send(PACKET)
        sent = wire.dut.sent
        wire.dut.send(PACKET, may_drop=True)
        assert wire.dut.sent == sent


# --- capturing ---------------------------------------------------------------------------------


def test_nothing_is_lost_of_a_burst(wire: Wire) -> None:
    frames = [bytes(14) + number.to_bytes(4) + bytes(42) for number in range(20_000)]
    with wire.dut.capture() as seen:
        wire.peer.send(frames)
        seen.settle()
        assert seen.packets() == frames


def test_a_capture_that_lost_packets_says_so(wire: Wire) -> None:
    seen = wire.dut.capture(buffer=4096)
    wire.peer.send([bytes(1000)] * 500)
    with pytest.raises(TrafficError, match=r"the capture on dut0 lost \d+ of 500 packets"):
        seen.packets()


def test_only_what_comes_in_is_captured(wire: Wire) -> None:
    with wire.dut.capture() as at_dut, wire.peer.capture() as at_peer:
        [frame] = wire.dut.send(PACKET)
        at_peer.expect(frame)
        at_dut.expect_none()


def test_vlan_tags_are_as_they_were_on_the_wire(wire: Wire) -> None:
    tagged = [
        Ether() / Dot1Q(vlan=5, prio=3) / PACKET,
        Ether() / Dot1Q(vlan=5) / Dot1Q(vlan=6) / PACKET,
        Ether(type=0x88A8) / Dot1Q(vlan=5) / Dot1Q(vlan=6) / PACKET,
        Ether() / Dot1Q(vlan=0, prio=7) / PACKET,
    ]
    with wire.dut.capture() as seen:
        frames = wire.peer.send(tagged)
        seen.settle()
        assert seen.packets() == frames


def test_two_captures_on_one_wire_do_not_see_each_others_sentinels(wire: Wire) -> None:
    with wire.dut.capture() as one, wire.dut.capture("stack") as other:
        one.settle()
        other.settle()
        assert one.packets() == other.packets() == []


def test_a_closed_capture_is_closed(wire: Wire) -> None:
    seen = wire.dut.capture()
    seen.close()
    with pytest.raises(TrafficError, match="is closed"):
        seen.packets()


def test_sentinels_differ() -> None:
    assert sentinel_frame(A, B) != sentinel_frame(A, B)
    assert len(sentinel_frame(A, B)) == 60


# --- expecting ---------------------------------------------------------------------------------


def test_a_missing_packet_is_compared_with_the_most_similar_one(wire: Wire) -> None:
    expected = IP(src="10.0.0.2", dst="10.0.0.1", ttl=63) / UDP(sport=1024, dport=53) / b"question"
    seen = wire.dut.capture()
    wire.peer.send(bytes(60), PACKET)
    with pytest.raises(ExpectationError) as failure:
        seen.expect(expected, within=0.01)
    text = str(failure.value)
    assert "but 2 packets did" in text
    assert "the most similar, #2, differs in:" in text
    assert [line for line in text.splitlines() if line.startswith("  IP.")] == [
        "  IP.ttl     expected 63      got 64",
        "  IP.chksum  expected 0x67c6  got 0x66c6",
    ]
    assert "UDP" not in text.partition("differs in:")[2].partition("offset")[0]
    row = "00 24 00 01 00 00 {} 11 {} c6 0a 00 00 02 0a 00"
    assert f"0010    {row.format('3f', '67')}   {row.format('40', '66')}" in text
    marks = " ".join(["  "] * 6 + ["^^", "  ", "^^"] + ["  "] * 7)
    assert f"          {marks}   {marks}".rstrip() in text


def test_when_nothing_arrived_the_counters_say_where_it_may_be(wire: Wire) -> None:
    seen = wire.dut.capture()
    with pytest.raises(
        ExpectationError, match=r"(?s)no packet arrived within 0.01 s.*peer0: sent 0"
    ):
        seen.expect(PACKET, within=0.01)


def test_ignored_fields_may_differ_and_no_others(wire: Wire) -> None:
    with wire.dut.capture() as seen:
        wire.peer.send(PACKET)
        other = IP(src="10.0.0.2", dst="10.0.0.1", ttl=3) / UDP(sport=1024, dport=53) / b"question"
        with pytest.raises(ExpectationError, match=r"IP.chksum"):
            seen.expect(other, ignore=["IP.ttl"], within=0.01)
        seen.expect(other, ignore=["IP.ttl", "IP.chksum"])


def test_a_misspelt_field_is_an_error(wire: Wire) -> None:
    with pytest.raises(
        TrafficError, match=r"ignore='IP.tll': the expected packet has no such field"
    ):
        wire.dut.capture().expect(PACKET, ignore=["IP.tll"])


def test_one_packet_satisfies_one_expectation(wire: Wire) -> None:
    with wire.dut.capture() as seen:
        wire.peer.send(PACKET)
        with pytest.raises(ExpectationError):
            seen.expect(PACKET, PACKET, within=0.01)


def test_expecting_nothing_by_mistake_is_an_error(wire: Wire) -> None:
    with pytest.raises(TrafficError, match="expect_none"):
        wire.dut.capture().expect()


def test_leaving_with_packets_untaken_fails(wire: Wire) -> None:
    untaken = pytest.raises(ExpectationError, match="1 packet arrived at dut0 that no expect")
    with untaken, wire.dut.capture():
        wire.peer.send(PACKET)
    with wire.dut.capture(strict=False):
        wire.peer.send(PACKET)


def test_a_failure_inside_is_not_hidden_by_what_is_left(wire: Wire) -> None:
    seen = wire.dut.capture()
    wire.peer.send(PACKET)
    with pytest.raises(ZeroDivisionError), seen:
        raise ZeroDivisionError


def test_a_sentinel_of_ones_own(wire: Wire) -> None:
    with wire.dut.capture() as seen:
        wire.peer.send(PACKET)
        seen.expect_none(bytes(60), sentinel=IP(src="10.0.0.2", dst="10.0.0.9") / UDP())
        seen.expect(PACKET)


def test_a_long_packet_shows_only_the_rows_that_differ(wire: Wire) -> None:
    with wire.dut.capture(strict=False) as seen:
        wire.peer.send(bytes(1400) + b"a" + bytes(40))
        with pytest.raises(ExpectationError) as failure:
            seen.expect(bytes(1400) + b"b" + bytes(40), within=0.01)
    assert "  0570    " in str(failure.value)
    assert "90 other rows are equal or left out" in str(failure.value)


def test_without_scapy_bytes_are_still_compared(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netns_fixtures.fields.dissect", lambda frame: None)
    with wire.dut.capture(strict=False) as seen:
        wire.peer.send(bytes(60))
        with pytest.raises(ExpectationError, match=r"(?s)00 00 00.*\(60 bytes\).*\^\^"):
            seen.expect(bytes(59) + b"x", within=0.01)
        with pytest.raises(TrafficError, match="needs scapy"):
            seen.expect(bytes(60), ignore=["Ether.dst"])


def test_no_socket_outlives_its_topology(wire: Wire, leaks: Callable[..., list[str]]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    wire.dut.capture("stack").close()
    assert len(os.listdir("/proc/self/fd")) > before
