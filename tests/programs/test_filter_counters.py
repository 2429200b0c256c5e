"""xdp_drop and tc_drop: each packet is counted once, whatever it is; and many rules are no problem."""

import os
import random
import struct

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.errors import NotSupportedError
from tests.programs.filters import POLICY, Filter, InTestRun, OnWire, drop, let, words
from tests.programs.frames import (
    EIGHT,
    SENDER,
    arp,
    discovery,
    echo6,
    extended,
    fragment,
    icmp4,
    lldp,
    tagged,
    tcp4,
    tcp6,
    udp4,
    udp6,
)

SEED = 20240607
WHOLE = [
    tcp4(), udp4(), icmp4(), tcp6(), udp6(), echo6(), arp(), discovery("ns"), lldp(), extended(EIGHT),
    extended([fragment(9)]), tcp4(frag=5), tagged(tcp4(), 0x8100), tagged(udp6(), 0x88A8, 0x8100),
]  # fmt: skip
RULES = [
    drop("src4[10.0.0.0/9]", 3), let("src4[10.1.2.3/32]", 40), drop("dst6[2001:db8:1::/48]", 5), let("proto[6]", 4),
    drop("proto[44]", 16383), drop("udp_dport[53]"), let("tcp_dport[80]", 70000), drop("src_mac[02:00:00:00:00:ab]", 6),
]  # fmt: skip
INTERESTING = bytes(
    [0, 6, 17, 43, 44, 45, 50, 51, 58, 60, 0x40, 0x45, 0x4F, 0x60, 0x81, 0x88, 0xDD, 255]
)


def damaged(random_: random.Random) -> bytes:
    """A frame with a few other bytes behind its MACs, cut somewhere or not at all."""
    frame = bytearray(random_.choice(WHOLE))
    for _ in range(random_.randrange(5)):
        frame[random_.randrange(11, len(frame))] = random_.choice(INTERESTING)
    cut = random_.random() < 0.4
    return bytes(frame[: random_.randrange(14, len(frame) + 1)] if cut else frame)


def totals(of: Filter) -> tuple[list[int], list[int]]:
    """Packets and bytes of hits and exceptions together, and of verdicts."""
    sums = []
    for names in (("hits", "exceptions"), ("netbpf_verdicts",)):
        found = [0, 0]
        for name in names:
            for (_, word), value in words(of.maps[name]).items():
                found[word % 2] += value
        sums.append(found)
    return sums[0], sums[1]


@pytest.mark.parametrize(
    "settings", [(), ("policy=DROP",), ("drop_malformed=false", "keep_link=false")]
)
def test_hits_and_exceptions_add_up_to_the_verdicts(
    any_filter: InTestRun, settings: tuple[str, ...]
) -> None:
    random_ = random.Random(SEED)
    any_filter.rules(*RULES, *settings)
    before = totals(any_filter)[0]
    packets = size = refused = 0
    for _ in range(10_000):
        frame = damaged(random_)
        try:
            verdict = any_filter.run(frame)
        except NotSupportedError:
            refused += 1  # TEST_RUN takes no cut IP header at TC
            continue
        assert verdict in ((1, 2) if any_filter.xdp else (-1, 2))
        packets += 1
        size += len(frame)
    decided, verdicts = totals(any_filter)
    assert decided == verdicts == [before[0] + packets, before[1] + size]
    assert refused < (1 if any_filter.xdp else 3000)


@pytest.mark.attach_kinds("all")
def test_on_a_wire_they_add_up_too(packet_filter: OnWire) -> None:
    random_ = random.Random(SEED)
    packet_filter.rules(*RULES)
    # Frames that end in their outermost tag never get as far as TC.
    frames = [
        one for one in (damaged(random_) for _ in range(400)) if one[12:13] not in b"\x81\x88"
    ]
    before = totals(packet_filter)[0]
    packet_filter.send(*frames)
    decided, verdicts = totals(packet_filter)
    assert decided == verdicts == [before[0] + len(frames), before[1] + sum(map(len, frames))]


@pytest.mark.attach_kinds("all")
def test_counters_are_kept_per_cpu_and_lose_nothing(packet_filter: OnWire) -> None:
    """The parts of the CPUs add up, and each CPU wrote the part that was sent from it."""
    packet_filter.rules(drop("tcp_dport[80]", 7))
    allowed = sorted(os.sched_getaffinity(0))

    def parts() -> list[int]:
        data = packet_filter.maps["hits"].lookup(struct.pack("I", 7)) or b""
        return [packets for packets, _ in struct.iter_unpack("QQ", data)]

    before = parts()
    try:
        for number, cpu in enumerate(allowed, 1):
            os.sched_setaffinity(0, {cpu})
            packet_filter.drops(*[tcp4()] * number, by=7)
    finally:
        os.sched_setaffinity(0, allowed)
    moved = [now - then for now, then in zip(parts(), before, strict=True)]
    assert [moved[cpu] for cpu in allowed] == list(range(1, len(allowed) + 1))
    assert sum(moved) == sum(range(1, len(allowed) + 1))


# --- many rules ----------------------------------------------------------------------------------

MILLION = 1_000_000


def write(of: Filter, name: str, keys: bytes, action: int, rule: int) -> None:
    """Many entries with one value in one call."""
    one = of.maps[name]
    count = len(keys) // one.info.key_size
    values = struct.pack("=II", action, rule) * count
    assert sys_bpf.map_update_batch(one.fd.fileno(), count, keys, values) == count


@pytest.mark.attach_kinds("xdp-native")
def test_a_million_prefixes_in_one_map(packet_filter: OnWire) -> None:
    """Every second address of 20.0.0.0/11 as a rule of its own. They are gone when their map is empty again."""
    thirty_two = struct.pack("<I", 32)
    first = 20 << 24
    addresses = range(first, first + 2 * MILLION, 2)
    keys = b"".join([thirty_two + number.to_bytes(4) for number in addresses])
    write(packet_filter, "src4", keys, action=2, rule=7)
    for number in (addresses[0], addresses[1], addresses[MILLION // 3], addresses[-1]):
        named, neighbour = (".".join(map(str, one.to_bytes(4))) for one in (number, number + 1))
        packet_filter.drops(udp4(src=named), by=7)
        packet_filter.passes(udp4(src=neighbour), by=POLICY)
    packet_filter.rules(let("src4[20.0.0.0/8]", 8))
    packet_filter.passes(udp4(src="20.0.0.1"), udp4(src="20.255.0.0"), by=8)
    packet_filter.drops(udp4(src="20.0.0.0"), by=7)
    packet_filter.empty("src4")
    packet_filter.passes(udp4(src="20.0.0.0"), by=POLICY)


def test_all_ports_and_protocols_at_once(any_filter: InTestRun) -> None:
    keys = struct.pack("=65536I", *range(65536))
    for rule, name in enumerate(("tcp_sport", "tcp_dport", "udp_sport", "udp_dport"), 10):
        write(any_filter, name, keys, action=2, rule=rule)
    try:
        any_filter.drops(tcp4(), tcp6(sport=65535, dport=0), by=10)
        any_filter.drops(udp4(), udp6(sport=0, dport=65535), by=12)
        any_filter.rules(let("tcp_dport[80]", 1))
        any_filter.passes(tcp4(), by=1)
        any_filter.drops(tcp4(dport=81), by=10)
    finally:
        for name in ("tcp_sport", "tcp_dport", "udp_sport", "udp_dport"):
            write(any_filter, name, keys, action=0, rule=0)


def test_sixty_five_thousand_mac_addresses(any_filter: InTestRun) -> None:
    keys = b"".join(bytes([2, 0, 0, 0]) + number.to_bytes(2) for number in range(65535))
    write(any_filter, "src_mac", keys, action=2, rule=7)
    any_filter.drops(tcp4(), arp(), by=7)
    any_filter.rules(let(f"src_mac[{SENDER}]", 7))
    any_filter.passes(tcp4(), arp(), by=7)
