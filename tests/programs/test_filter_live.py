"""xdp_drop and tc_drop: rules and settings change while packets come in."""

import subprocess
import sys
import threading

import pytest

from netns_fixtures.sockets import sender
from tests.programs.filters import POLICY, OnWire, drop, let, no_rule
from tests.programs.frames import SENDER, tcp4, tcp6, udp4


@pytest.mark.attach_kinds("all")
@pytest.mark.parametrize(
    "place",
    ["src4[10.0.0.0/8]", "dst4[192.0.2.9/32]", "proto[6]", "tcp_dport[80]", f"src_mac[{SENDER}]"],
    ids=lambda place: str(place).partition("[")[0],
)
def test_a_rule_holds_from_the_next_packet_on(packet_filter: OnWire, place: str) -> None:
    packet_filter.passes(tcp4(), by=POLICY)
    packet_filter.rules(drop(place, 7))
    packet_filter.drops(tcp4(), by=7)
    packet_filter.rules(let(place, 8))
    packet_filter.passes(tcp4(), by=8)
    packet_filter.rules(no_rule(place))
    packet_filter.passes(tcp4(), by=POLICY)


@pytest.mark.attach_kinds("all")
def test_a_prefix_removed_from_its_map_is_gone(packet_filter: OnWire) -> None:
    packet_filter.rules(drop("src4[10.0.0.0/8]", 7), let("src4[10.1.0.0/16]", 8))
    packet_filter.passes(tcp4(), by=8)
    sixteen_bits = b"\x10\0\0\0\x0a\x01\0\0"
    packet_filter.maps["src4"].delete(sixteen_bits)
    packet_filter.drops(tcp4(), by=7)


@pytest.mark.attach_kinds("xdp-native", "tc-clsact", "tc-tcx-egress")
def test_other_traffic_is_not_touched_while_rules_and_policy_change(
    packet_filter: OnWire,
) -> None:
    """A flow with a rule of its own goes on in another thread: not one of its packets is lost or counted elsewhere."""
    packet_filter.rules(let("udp_dport[53]", 1))
    source = packet_filter.rig.source
    flow, sent, stop = udp4(), 0, threading.Event()

    def send() -> None:
        nonlocal sent
        with sender(source.namespace, source.ifname) as sock:
            while not stop.is_set():
                sock.send(flow)
                sent += 1

    before = packet_filter.counters()
    worker = threading.Thread(target=send)
    worker.start()
    try:
        for number in range(2, 52):
            packet_filter.rules(
                drop(f"src4[10.{number}.0.0/16]", number), drop("tcp_dport[80]", number)
            )
            packet_filter.rules("policy=DROP")
            packet_filter.rules(no_rule("tcp_dport[80]"), no_rule(f"src4[10.{number}.0.0/16]"))
            packet_filter.rules("policy=PASS")
    finally:
        stop.set()
        worker.join()
    after = packet_filter.counters()
    moved = {
        name: after[name] - before.get(name, 0)
        for name in after
        if after[name] != before.get(name, 0)
    }
    assert sent > 0
    assert moved == packet_filter.expected([flow] * sent, dropped=False, by=1)


@pytest.mark.attach_kinds("all")
def test_settings_are_switched_while_running(packet_filter: OnWire) -> None:
    cut = tcp4()[:30]
    packet_filter.drops(cut, by="malformed")
    packet_filter.rules("drop_malformed=false")
    packet_filter.passes(cut, by=POLICY)
    packet_filter.rules("policy=DROP", "drop_malformed=true")
    packet_filter.drops(cut, by="malformed")
    packet_filter.drops(tcp6(), by=POLICY)


@pytest.mark.attach_kinds("xdp-skb", "tc-tcx")
def test_the_command_netbpf_set_writes_rules(packet_filter: OnWire) -> None:
    end = packet_filter.rig.wire.dut
    command = [sys.executable, "-m", "netbpf", "set", end.ifname]

    def run(*assignments: str) -> None:
        subprocess.run([*command, *assignments], check=True, capture_output=True)

    end.run(
        run, "src4[10.0.0.0/8]={action: DROP, rule: 7}", "tcp_dport[80]={action: PASS, rule: 3}"
    )
    packet_filter.passes(tcp4(), by=3)
    packet_filter.drops(udp4(), by=7)
    end.run(run, "tcp_dport[80]={action: NO_RULE}")
    packet_filter.drops(tcp4(), by=7)
