"""The test bench: one test body for every way to attach."""

from collections.abc import Callable

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from netbpf.constants import TcAction, XdpAction
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netns_fixtures.errors import ExpectationError, TrafficError
from netns_fixtures.kinds import XDP_NATIVE
from netns_fixtures.passing import PASSING
from netns_fixtures.programs import attach, attach_pass, pass_object, verdict_object
from netns_fixtures.rig import Rig
from netns_fixtures.topology import Wire

pytestmark = pytest.mark.requires("root")

PASS = {"xdp": pass_object("xdp"), "tc": pass_object("tc")}
DROP = {
    "xdp": verdict_object("xdp", XdpAction.DROP),
    "tc": verdict_object("tc", TcAction.SHOT),
}
DNS = IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=1024, dport=53) / b"question"
WEB = IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=1024, dport=80, flags="S")


@pytest.mark.attach_kinds("all")
def test_what_passes_is_seen_behind_the_hook(rig: Rig) -> None:
    rig.attach(PASS)
    rig.send(DNS, WEB)
    rig.expect(DNS, WEB)
    rig.expect_none()


@pytest.mark.attach_kinds("all")
@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(IPv6(src="fd00::2", dst="fd00::1") / UDP(), id="ipv6"),
        pytest.param(ARP(psrc="10.0.0.2", pdst="10.0.0.1"), id="arp"),
        pytest.param(Ether() / Dot1Q(vlan=5) / DNS, id="vlan"),
        pytest.param(Ether() / Dot1Q(vlan=5) / Dot1Q(vlan=7) / DNS, id="vlan in vlan"),
        pytest.param(Ether(type=0x88A8) / Dot1Q(vlan=5) / DNS, id="service vlan"),
        pytest.param(Ether() / Dot1Q(vlan=0, prio=5) / DNS, id="priority tag"),
        pytest.param(Ether(dst="ff:ff:ff:ff:ff:ff") / DNS, id="broadcast"),
        pytest.param(Ether(dst="02:00:00:00:00:99") / DNS, id="for somebody else"),
        pytest.param(bytes(12) + b"\x08\x00", id="14 bytes"),
        pytest.param(bytes(12) + b"\x00\x2e" + bytes(46), id="802.3"),
        pytest.param(Ether() / DNS / bytes(1500 - len(DNS)), id="MTU"),
    ],
)
def test_any_frame_goes_through_unchanged(rig: Rig, packet: Ether) -> None:
    rig.attach(PASS)
    rig.send(packet)
    rig.expect(packet)


@pytest.mark.attach_kinds("tc", "tc-egress")
def test_a_program_that_drops_everything_lets_nothing_through(rig: Rig) -> None:
    rig.attach(DROP)
    rig.send(DNS, WEB)
    rig.expect_none()


@pytest.mark.attach_kinds("xdp-native")
def test_until_stands_in_for_a_sentinel_that_would_be_dropped(rig: Rig) -> None:
    rig.attach(DROP)
    rig.send(DNS, WEB)
    seen = lambda: rig.wire.dut.statistics()["rx_queue_0_xdp_drops"] == 2  # noqa: E731
    rig.expect_none(until=seen)


@pytest.mark.attach_kinds("xdp")
def test_a_sentinel_that_does_not_arrive_proves_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netns_fixtures.capture.PATIENCE", 0.1)
    rig.attach(DROP)
    rig.send(DNS)
    with pytest.raises(ExpectationError, match=r"(?s)the sentinel did not arrive.*driver counters"):
        rig.expect_none()


@pytest.mark.attach_kinds("all")
def test_a_packet_that_must_not_arrive_and_does_fails(rig: Rig) -> None:
    rig.attach(PASS)
    rig.send(DNS)
    with pytest.raises(ExpectationError, match=r"1 packet arrived at \w+ that must not"):
        rig.expect_none(DNS)
    rig.expect(DNS)


@pytest.mark.attach_kinds("all")
def test_a_packet_nobody_expected_fails_at_the_end(rig: Rig) -> None:
    rig.attach(PASS)
    rig.send(DNS, WEB)
    rig.expect(DNS)
    with pytest.raises(ExpectationError, match="that no expect"):
        rig.verify()
    rig.expect(WEB)


def test_without_expectations_arrivals_are_nobodys_business(rig: Rig) -> None:
    rig.send(DNS)
    rig.verify()


@pytest.mark.attach_kinds("xdp")
def test_what_a_program_sends_back_is_delivered(rig: Rig) -> None:
    rig.attach(verdict_object("xdp", XdpAction.TX))
    [sent] = rig.send(DNS)
    rig.expect_back(sent)
    assert rig.passed.packets() == []


def test_native_xdp_sends_back_only_to_an_end_with_a_program(wire: Wire) -> None:
    """The reason why a rig puts a program on the other end; fails where a kernel no longer needs it."""
    bounce = verdict_object("xdp", XdpAction.TX)
    with attach(wire.dut, XDP_NATIVE, bounce):
        wire.peer.send(DNS)
        assert wire.dut.statistics()["rx_queue_0_xdp_tx_errors"] == 1
        with attach_pass(wire.peer, XDP_NATIVE), wire.peer.capture() as back:
            [sent] = wire.peer.send(DNS)
            back.expect(sent)


def test_frames_of_an_ethertype_out_of_sight_are_an_error(rig: Rig) -> None:
    rig.send(Ether(type=0x1234) / b"strange")
    if rig.kind.family == "xdp":
        rig.expect(Ether(type=0x1234) / b"strange")
    else:
        with pytest.raises(TrafficError, match=r"protocols=\[0x1234\]"):
            rig.passed.packets()


def test_an_ethertype_named_is_in_sight(wire: Wire) -> None:
    with wire.dut.capture("stack", protocols=(0x1234,)) as seen:
        wire.peer.send(Ether(type=0x1234) / b"strange")
        seen.expect(Ether(type=0x1234) / b"strange")


def test_detach_takes_the_program_off(rig: Rig) -> None:
    with rig.attach(DROP):
        pass
    rig.send(DNS)
    rig.expect(DNS)


# --- the shipped programs, as a user's tests would read ----------------------------------------


def shipped(what: str) -> dict[str, str]:
    return {"xdp": f"builtin:xdp_{what}", "tc": f"builtin:tc_{what}"}


@pytest.mark.attach_kinds("all")
def test_counting_is_exact_and_counts_nothing_else(rig: Rig) -> None:
    program = rig.attach(shipped("count"))
    verdict = "pass" if rig.kind.family == "xdp" else "unspec"
    with program.changes(
        {
            "protocols[ipv4].packets": 3,
            "protocols[ipv4].bytes": 3 * 50,
            "protocols[ipv4/udp].packets": 3,
            "protocols[ipv4/udp].bytes": 3 * 50,
            f"verdicts[{verdict}].packets": 3,
            f"verdicts[{verdict}].bytes": 3 * 50,
        }
    ):
        rig.send([DNS] * 3)
    rig.expect(DNS, DNS, DNS)


def test_a_counter_that_moved_in_the_wrong_place_fails(rig: Rig) -> None:
    program = rig.attach(shipped("count"))
    changes = program.changes({"protocols[ipv4].packets": 1}, within=0.0)
    moved = r"protocols\[ipv4/udp\].packets +0 -> 1 \(\+1\), expected \+0"
    with pytest.raises(ExpectationError, match=moved), changes:
        rig.send(DNS)


@pytest.mark.attach_kinds("all")
def test_variables_are_set_before_the_load_and_while_running(rig: Rig) -> None:
    family = rig.kind.family
    drop = {"xdp": XdpAction.DROP, "tc": TcAction.SHOT}[family]
    program = rig.attach(shipped("count"), variables={"verdict": int(drop)})
    rig.send(DNS)
    assert program.stats().verdicts["drop" if family == "xdp" else "shot"].packets == 1


def test_icmp_is_one_of_the_layers_that_get_an_ethernet_header(wire: Wire) -> None:
    [frame] = wire.peer.send(IP(src="10.0.0.2", dst="10.0.0.1") / ICMP())
    assert frame[:14] == bytes.fromhex("020000000001 020000000002 0800")


def test_the_fixture_gives_a_wire_of_its_own(rig: Rig, veth: Callable[..., Wire]) -> None:
    other = veth()
    assert other.dut.namespace != rig.wire.dut.namespace


def test_the_other_ends_of_native_programs_share_one(veth: Callable[..., Wire]) -> None:
    """It is loaded once, so that the kernel need not change its dispatcher for each test."""

    def put(wire: Wire) -> int:
        rig = Rig(wire, XDP_NATIVE)
        rig.attach("builtin:xdp_globals")
        with Session(wire.peer.namespace) as session:
            (there,) = occupants(session)
        rig.close()
        return there.prog_id

    first = put(veth())
    assert put(veth()) == first
    PASSING.close()
    assert put(veth()) != first
