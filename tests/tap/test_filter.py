"""Filters, translated: the same packets match as by libpcap's own interpreter."""

import random
import struct

import pytest

from netbpf._sys import pcap
from netbpf._sys.fd import Fd
from netbpf.bpf.tap import MOST_INSTRUCTIONS, translate
from netbpf.bpf.tap.context import context_of
from netbpf.constants import Hook
from netbpf.errors import NotSupportedError, PacketTextError
from tests.tap.filtering import in_two_buffers, loaded, matches

pytestmark = pytest.mark.root

EXPRESSIONS = (
    "tcp", "ip6", "arp", "icmp", "icmp6", "vlan", "vlan 5", "vlan 5 and udp", "not ip", "ether broadcast",
    "udp port 53", "tcp dst portrange 10-20", "ip host 10.0.0.1", "net 10.0.0.0/8", "ip6 net fe80::/10",
    "ether src 02:00:00:00:00:01", "less 100", "greater 80", "ip[0] & 0xf != 5", "ip proto 17 or ip6 proto 17",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[((tcp[12]&0xf0)>>2):4] = 0x47455420", "udp[8:2] = 4",
    "len > 60 and ip[2:2] * 2 / 3 > 10 or udp[1] % 3 = 1", "ip[ip[0]&15] << 3 > 8", "ether[100] = 0",
    "ip[6:2] & 0x1fff = 0 and udp[4:2] - 8 < 40", "ether[0:4] ^ ether[6:4] > 0x40000000",
    "ether[14:4] >> ether[20] > 7",
)  # fmt: skip
HOOKS = {
    "xdp": (Hook.XDP, False),
    "xdp.frags": (Hook.XDP, True),
    "tc": (Hook.TC_INGRESS, False),
}
# The kernel wants a whole IP header in the packets that TEST_RUN gives to TC programs.
SHORTEST = {Hook.XDP: 14, Hook.TC_INGRESS: 54}


def packets(count: int, seed: int) -> list[bytes]:
    """Noise that looks like packets in the places that filters look at."""
    choose = random.Random(seed)
    found = []
    for _ in range(count):
        one = bytearray(choose.randbytes(choose.randint(15, 150)))
        ethertype = choose.choice((b"\x08\0", b"\x08\0", b"\x86\xdd", b"\x08\x06", b"\x81\0"))
        one[12:14] = ethertype
        at = 14
        if ethertype == b"\x81\0" and len(one) > 40:
            one[14:18] = b"\0\5\x08\0"
            at = 18
        if len(one) > at + 24 and ethertype != b"\x86\xdd":
            one[at] = 0x40 | choose.choice((5, 5, 5, 6, 15))
            one[at + 6 : at + 8] = b"\0\0"
            one[at + 9] = choose.choice((1, 6, 17))
            one[at + 12 : at + 16] = b"\x0a\0\0" + bytes([choose.randint(0, 2)])
        elif len(one) > at + 40:
            one[at + 6] = choose.choice((6, 17, 58))
        if len(one) > at + 24 and choose.random() < 0.5:
            one[at + 22 : at + 24] = choose.choice((b"\0\x35", b"\0\x0c"))
        found.append(bytes(one))
    return found


def disagreement(
    program: Fd, code: bytes, given: list[bytes], shortest: int, context: bytes = b""
) -> list[str]:
    """Packets about which the two differ."""
    return [
        one.hex()
        for one in given
        if len(one) >= shortest and matches(program, one, context) != pcap.matches(code, one)
    ]


@pytest.mark.parametrize(("hook", "frags"), HOOKS.values(), ids=HOOKS)
def test_as_libpcap(hook: Hook, frags: bool) -> None:
    """Expressions of every kind, optimized by libpcap and not, on packets that end anywhere."""
    given = packets(120, 7)
    passed = 0
    for expression in EXPRESSIONS:
        for optimize in (True, False):
            code = pcap.compile_filter(expression, optimize=optimize)
            with loaded(code, hook, frags=frags) as program:
                assert not disagreement(program, code, given, SHORTEST[hook]), expression
            passed += sum(pcap.matches(code, one) for one in given)
    assert passed > 1000


def test_combined() -> None:
    """Expressions put together at random."""
    choose, given = random.Random(11), packets(40, 13)
    for _ in range(60):
        words = choose.choice(EXPRESSIONS)
        for _ in range(choose.randint(1, 3)):
            joint = choose.choice((" and ", " or ", " and not "))
            words = f"({words}){joint}({choose.choice(EXPRESSIONS)})"
        try:
            code = pcap.compile_filter(words)
        except PacketTextError:
            continue  # "expression rejects all packets"
        with loaded(code, Hook.XDP) as program:
            assert not disagreement(program, code, given, 14), words


def test_every_instruction() -> None:
    """Programs of random instructions, which no expression makes."""
    choose, given = random.Random(17), packets(12, 19)
    for _ in range(150):
        code = _random_program(choose)
        with loaded(code, Hook.XDP) as program:
            assert not disagreement(program, code, given, 14), code.hex()


def _random_program(choose: random.Random) -> bytes:
    """Loads, arithmetic and jumps forward; the end is there for each."""
    length = choose.randint(5, 30)
    made = [
        (0x02, 0, 0, number) for number in range(16)
    ]  # libpcap's scratch memory begins as anything
    for left in range(length, 0, -1):
        k = choose.choice(
            (0, 1, 5, 14, 31, 32, 40, 100, 0x7FFFFFFF, 0xFFFFFFFF, choose.getrandbits(32))
        )
        near = choose.choice((0, 1, 12, 14, 30, 90, 200))
        ahead = min(left - 1, 3)
        jumps = choose.randint(0, ahead), choose.randint(0, ahead)
        made.append(
            choose.choice(
                [(choose.choice((0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0xB1)), 0, 0, near)] * 3
                + [
                    (choose.choice((0x00, 0x01, 0x80, 0x81, 0x07, 0x87)), 0, 0, k),
                    (choose.choice((0x60, 0x61, 0x02, 0x03)), 0, 0, choose.randint(0, 15)),
                    (choose.choice((0x04, 0x14, 0x24, 0x44, 0x54, 0xA4, 0x84)), 0, 0, k),
                    (
                        choose.choice((0x0C, 0x1C, 0x2C, 0x3C, 0x4C, 0x5C, 0x9C, 0xAC, 0x6C, 0x7C)),
                        0,
                        0,
                        0,
                    ),
                    (choose.choice((0x34, 0x94)), 0, 0, k or 3),
                    (choose.choice((0x64, 0x74)), 0, 0, choose.randint(0, 31)),
                    (
                        choose.choice((0x15, 0x25, 0x35, 0x45)),
                        *jumps,
                        choose.choice((0, 1, near, k)),
                    ),
                    (choose.choice((0x1D, 0x2D, 0x3D, 0x4D)), *jumps, 0),
                ]
            )
        )
    return b"".join(struct.pack("=HBBI", *one) for one in [*made, (0x16, 0, 0, 0)])


@pytest.mark.parametrize("first", [14, 20, 35, 60])
def test_frames_in_several_buffers(first: int) -> None:
    """What is behind the first buffer is read too, across the border."""
    given = [one for one in packets(80, 23) if len(one) > first + 2]
    for expression in EXPRESSIONS:
        code = pcap.compile_filter(expression)
        with loaded(code, Hook.XDP, frags=True) as program:
            found = disagreement(program, code, given, 14, in_two_buffers(first))
            assert not found, expression


def test_what_cannot_be() -> None:
    """Refused by name: loops, and filters that are too large."""
    context = context_of(Hook.XDP, frags=False)
    with pytest.raises(NotSupportedError, match="goes back to what it has been through"):
        translate(pcap.compile_filter("ip6 protochain 6"), context)
    much = struct.pack("=HBBI", 0x04, 0, 0, 1) * MOST_INSTRUCTIONS + struct.pack(
        "=HBBI", 6, 0, 0, 1
    )
    with pytest.raises(
        NotSupportedError, match=f"too large: libpcap makes {MOST_INSTRUCTIONS + 1}"
    ):
        translate(much, context)
    other = struct.pack("=HBBI", 0x28, 0, 0, 0xFFFFF000) + struct.pack("=HBBI", 0x16, 0, 0, 0)
    with pytest.raises(NotSupportedError, match="no byte of the packet"):
        translate(other, context)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("udp prt 53", "prt"),
        ("udp port", ""),
        ("host 1.2.3.999", "1.2.3.999"),
        ("port 70000", "70000"),
    ],
)
def test_the_place_of_a_mistake(text: str, place: str) -> None:
    """libpcap's words, with where in the expression that is."""
    with pytest.raises(PacketTextError, match="libpcap cannot compile the filter") as raised:
        pcap.compile_filter(text)
    assert text[raised.value.at : raised.value.at + raised.value.length] == place
