"""xdp_count and tc_count: every packet in its classes, with its bytes and its verdict."""

import os
import struct
from collections.abc import Callable, Mapping
from typing import Final

import pytest

import netbpf
from netbpf.constants import Hook, TcAction, XdpAction
from netns_fixtures.bench import BenchProgram
from netns_fixtures.programs import attach
from netns_fixtures.rig import Rig
from tests.programs.frames import (
    AUTH,
    DEST_OPTIONS,
    EIGHT,
    ETHERNET,
    EXTENSIONS,
    IPV4,
    IPV6,
    arp,
    auth,
    authenticated4,
    chain,
    changed,
    discovery,
    echo6,
    ext,
    extended,
    fragment,
    icmp4,
    ipv4,
    lldp,
    stp,
    strange,
    tagged,
    tcp4,
    tcp6,
    udp4,
    udp6,
)
from tests.programs.test_filter_sight import PUSH_TAG
from tests.support.compiling import compile_c

COUNT: Final = {"xdp": "builtin:xdp_count", "tc": "builtin:tc_count"}

# Frames by the classes they belong to, as `netbpf stats` calls them.
CLASSES: Final = {
    "ipv4 ipv4/tcp": [tcp4(), tcp4(flags="DF"), tcp4(options=[]), authenticated4()],
    "ipv4 ipv4/udp": [udp4()],
    "ipv4 ipv4/icmp": [icmp4()],
    "ipv4 ipv4/other": [ipv4(bytes(20), proto=132), ipv4(bytes(8), proto=58), ipv4(b"", proto=50)],
    "ipv6 ipv6/tcp": [tcp6(), extended(EIGHT), extended([ext(DEST_OPTIONS)] * 8)],
    "ipv6 ipv6/udp": [udp6()],
    "ipv6 ipv6/icmpv6": [echo6(), discovery("ns")],
    "ipv6 ipv6/other": [
        extended([], 59, b""), extended([], 1, bytes(8)), extended([], 132, bytes(12)), extended([], 50, bytes(16)),
    ],
    "arp": [arp()],
    "other": [strange(), lldp(), stp(), strange(14), tcp4()[:12] + b"\x08\x05" + tcp4()[14:]],
}  # fmt: skip
# The same, of packets that are not so ordinary.
ODD: Final = {
    # The protocol of a fragment counts, though its header is in the first one alone.
    "ipv4 ipv4/tcp": [tcp4(flags="MF"), tcp4(frag=9), tcp4(flags="MF", frag=8191)],
    "ipv4 ipv4/udp": [ipv4(chain([auth()], 17, bytes(8)), proto=AUTH), udp4(frag=1)],
    "ipv6 ipv6/tcp": [
        extended([fragment()]), extended([fragment(77)], 6, b"x"), *(extended([one]) for one in EXTENSIONS.values()),
    ],
    "ipv6 ipv6/udp": [extended([fragment(1)], 17, b"")],
    "ipv6 ipv6/icmpv6": [extended([ext(DEST_OPTIONS)], 58, bytes(8)), extended([fragment(5)], 58, b"x")],
    # Over IPv4 these numbers are no extension headers.
    "ipv4 ipv4/other": [
        *(ipv4(chain([ext(n)], 6, bytes(20)), proto=n) for n in (0, 43, 44, 60, 135)),
        changed(tcp4(), ETHERNET, 0x65), changed(tcp4(), ETHERNET, 0x44), changed(tcp4(), ETHERNET, 0x4F),
        authenticated4()[: ETHERNET + IPV4 + 23], ipv4(chain([auth()] * 9, 6, bytes(20)), proto=AUTH),
        # What stands in a later fragment is no header, whatever it looks like.
        ipv4(chain([auth()], 6, bytes(20)), proto=AUTH, frag=5),
    ],
    "ipv6 ipv6/other": [
        extended([ext(DEST_OPTIONS)] * 9), changed(tcp6(), ETHERNET, 0x45), extended([fragment(5)], DEST_OPTIONS, b"x"),
        extended([fragment(5)], DEST_OPTIONS, chain([ext(DEST_OPTIONS)], 6, bytes(20))),
        extended([ext(DEST_OPTIONS)])[: ETHERNET + IPV6 + 7], extended([ext(DEST_OPTIONS)])[: ETHERNET + IPV6],
        extended([ext(DEST_OPTIONS, 255)])[: ETHERNET + IPV6 + 2047],
    ],
    # A port is not asked for, so a packet that ends before it is of its protocol.
    "ipv4 ipv4/tcp ": [tcp4()[: ETHERNET + IPV4], tcp4()[: ETHERNET + IPV4 + 1]],
    "ipv6 ipv6/tcp ": [tcp6()[: ETHERNET + IPV6], extended([ext(DEST_OPTIONS)])[: ETHERNET + IPV6 + 8]],
    "arp ": [arp()[:ETHERNET]],
    "ipv4 ipv4/tcp vlan": [tagged(tcp4(), 0x8100), tagged(tcp4(), *[0x88A8, 0x8100, 0x9100, 0x9200])],
    "ipv6 ipv6/udp vlan": [tagged(udp6(), 0x88A8, 0x8100), tagged(udp6(), 0x9300)],
    "arp vlan": [tagged(arp(), 0x8100)],
    "other vlan": [tagged(lldp(), 0x8100), tagged(tcp4(), *[0x8100] * 5), tagged(tcp4(), *[0x8100] * 9),
                   tagged(tcp4(), 0x8100)[: ETHERNET + 3], tagged(tcp4(), 0x8100)[:ETHERNET]],
}  # fmt: skip
CUT: Final = {
    "ipv4 ipv4/other": [tcp4()[:length] for length in range(ETHERNET, ETHERNET + IPV4)],
    "ipv6 ipv6/other": [tcp6()[:length] for length in range(ETHERNET, ETHERNET + IPV6)],
}


def flat(table: Mapping[str, list[bytes]]) -> list[tuple[bytes, str]]:
    return [(frame, classes) for classes, frames in table.items() for frame in frames]


def expected(counted: list[tuple[bytes, str]], verdict: str) -> dict[str, int]:
    """How the counters have to move for these frames and their classes."""
    found: dict[str, int] = {}
    for frame, classes in counted:
        names = [*(f"protocols[{name}]" for name in classes.split()), f"verdicts[{verdict}]"]
        for name in names:
            found[f"{name}.packets"] = found.get(f"{name}.packets", 0) + 1
            found[f"{name}.bytes"] = found.get(f"{name}.bytes", 0) + len(frame)
    return found


def passing(kind_family: str) -> str:
    return "pass" if kind_family == "xdp" else "unspec"


# --- on a wire -----------------------------------------------------------------------------------


@pytest.mark.attach_kinds("everywhere")
@pytest.mark.parametrize("classes", CLASSES)
def test_each_class_counts_its_packets_and_no_other(rig: Rig, classes: str) -> None:
    program = rig.attach(COUNT)
    frames = CLASSES[classes]
    with program.changes(expected(flat({classes: frames}), passing(rig.kind.family))):
        rig.send(frames)
    if classes != "other":  # nobody listens to those behind TC ingress
        rig.expect(*frames)


@pytest.mark.attach_kinds("all")
def test_odd_and_cut_packets_count_where_reading_stopped(rig: Rig) -> None:
    program = rig.attach(COUNT)
    # Before TC ingress the kernel drops what ends in its outermost tag, and takes that tag out of the frame.
    beside = rig.kind.hook == "tc/ingress"
    counted = [
        (frame, classes)
        for frame, classes in [*flat(ODD), *flat(CUT)]
        if not (
            beside and classes == "other vlan" and (len(frame) < 20 or frame[28:30] == b"\x81\x00")
        )
    ]
    fitting = [(frame, classes) for frame, classes in counted if len(frame) <= 1514]
    with program.changes(expected(fitting, passing(rig.kind.family))):
        rig.send([frame for frame, _ in fitting])


@pytest.mark.attach_kinds("tc-clsact", "tc-clsact-egress")
def test_bytes_include_a_tag_kept_beside_the_packet(rig: Rig) -> None:
    program = rig.attach(COUNT)
    counted = expected([(tagged(tcp4(), 0x8100), "ipv4 ipv4/tcp vlan")], "unspec")
    # Of filters with one priority the kernel runs the newest first.
    with attach(rig.wire.dut, rig.kind, compile_c(PUSH_TAG)), program.changes(counted):
        rig.send(tcp4())


@pytest.mark.attach_kinds("all")
def test_the_parts_of_the_cpus_add_up(rig: Rig) -> None:
    program = rig.attach(COUNT)
    allowed = sorted(os.sched_getaffinity(0))
    udp = struct.pack("I", 5)
    total = len(allowed) * (len(allowed) + 1) // 2
    verdict = passing(rig.kind.family)
    try:
        with program.changes(expected([(udp4(), "ipv4 ipv4/udp")] * total, verdict)):
            for number, cpu in enumerate(allowed, 1):
                os.sched_setaffinity(0, {cpu})
                rig.send([udp4()] * number)
    finally:
        os.sched_setaffinity(0, allowed)
    parts = list(struct.iter_unpack("QQ", program.loaded.maps["netbpf_protos"].lookup(udp) or b""))
    for number, cpu in enumerate(allowed, 1):
        assert parts[cpu] == (number, number * len(udp4()))


@pytest.mark.attach_kinds("everywhere")
def test_the_setting_verdict_makes_a_sink(rig: Rig) -> None:
    xdp = rig.kind.family == "xdp"
    drop = int(XdpAction.DROP if xdp else TcAction.SHOT)
    program = rig.attach(COUNT, variables={"verdict": drop})
    arrived = rig.passed
    with program.changes(
        expected([(tcp4(), "ipv4 ipv4/tcp"), (arp(), "arp")], "drop" if xdp else "shot")
    ):
        rig.send(tcp4(), arp())
    arrived.expect_none(until=lambda: True)


@pytest.mark.attach_kinds("xdp", "xdp-testrun")
def test_the_verdict_tx_sends_frames_back(rig: Rig) -> None:
    program = rig.attach(COUNT, variables={"verdict": "XDP_TX"})
    with program.changes(expected([(tcp4(), "ipv4 ipv4/tcp")], "tx")):
        rig.send(tcp4())
    rig.expect_back(tcp4())


# --- settings given on a command line --------------------------------------------------------------


@pytest.mark.attach_kinds("xdp-native", "tc-clsact")
@pytest.mark.parametrize("text", ["verdict={drop}", "verdict={number}"])
def test_the_verdict_is_set_by_name_or_number(rig: Rig, private_state: None, text: str) -> None:
    xdp = rig.kind.family == "xdp"
    names = {"drop": "XDP_DROP" if xdp else "TC_ACT_SHOT", "number": 1 if xdp else 2}
    end = rig.wire.dut
    hook = Hook(rig.kind.hook)
    with netbpf.attach(
        hook,
        end.ifname,
        COUNT[rig.kind.family],
        settings=[text.format(**names)],
        netns=end.namespace,
    ) as attached:
        rig.send(udp4())
        [stats] = attached.stats()
        assert stats.verdicts["drop" if xdp else "shot"] == netbpf.Counter(1, len(udp4()))
        assert rig.passed.packets() == []


# --- in TEST_RUN -----------------------------------------------------------------------------------

# By family: every verdict, and numbers that are none, with how it is counted.
VERDICTS: Final = {
    "xdp": [*((int(one), one.name.lower()) for one in XdpAction), *((n, "aborted") for n in (5, 77, (1 << 32) - 1))],
    "tc": [*((int(one), one.name.lower()) for one in TcAction), (9, "unspec"), (77, "unspec"), (-2, "unspec")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "verdict", "counted"),
    [
        pytest.param(family, *one, id=f"{family} {one[0]}")
        for family, all_ in VERDICTS.items()
        for one in all_
    ],
)
def test_every_verdict_is_returned_and_counted_under_its_name(
    bench: Callable[..., BenchProgram], family: str, verdict: int, counted: str
) -> None:
    """What is no verdict is returned too, and counts as what the kernel makes of it: ABORTED, UNSPEC."""
    program = bench(
        COUNT[family], variables={"verdict": verdict.to_bytes(4, "little", signed=verdict < 0)}
    )
    with program.changes(expected([(tcp4(), "ipv4 ipv4/tcp")], counted)):
        program.assert_verdict(verdict, tcp4())


@pytest.mark.parametrize("family", ["xdp", "tc"])
def test_odd_packets_one_by_one(bench: Callable[..., BenchProgram], family: str) -> None:
    """Of each the exact classes: the sums on the wire might hide two errors."""
    program = bench(COUNT[family])
    for frame, classes in [*flat(CLASSES), *flat(ODD)]:
        if family == "tc" and len(frame) < ETHERNET + (IPV4 if frame[12] == 8 else IPV6):
            continue  # TEST_RUN takes no cut IP header at TC; the wire above did
        with program.changes(expected([(frame, classes)], passing(family))):
            program.run(frame)
