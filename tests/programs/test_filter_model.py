"""xdp_drop and tc_drop against the model of their documentation: random rules, random and damaged packets."""

import ipaddress
import random
from typing import Final

import pytest

from netbpf.errors import NotSupportedError
from tests.programs.filters import InTestRun
from tests.programs.frames import (
    DEST_OPTIONS,
    EIGHT,
    ROUTING,
    arp,
    auth,
    authenticated4,
    discovery,
    echo6,
    ext,
    extended,
    fragment,
    icmp4,
    lldp,
    strange,
    tagged,
    tcp4,
    tcp6,
    udp4,
    udp6,
)
from tests.programs.model import Model

FRAMES: Final = [
    tcp4(), udp4(), icmp4(), tcp6(), udp6(), echo6(), arp(), discovery("ns"), discovery("ra", 64), lldp(), strange(),
    tcp4(flags="MF"), tcp4(frag=7), extended(EIGHT), extended([ext(DEST_OPTIONS)] * 9), extended([fragment(3)]),
    extended([fragment()]), extended([ext(ROUTING, 1), auth()]), authenticated4(),
]  # fmt: skip
TPIDS: Final = (0x8100, 0x88A8, 0x9100, 0x9200, 0x9300)
BYTES: Final = bytes(
    [
        0,
        1,
        4,
        6,
        17,
        43,
        44,
        50,
        51,
        58,
        59,
        60,
        80,
        0x40,
        0x45,
        0x4F,
        0x60,
        0x81,
        0x88,
        0xA8,
        0xDD,
        255,
    ]
)
NUMBERS: Final = (0, 0, 1, 2, 3, 3, 10, 16382, 16383, 16384, 1 << 31, (1 << 32) - 1)
KEYS: Final[dict[str, tuple[str, ...]]] = {
    "src4": ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "10.1.2.2/31"),
    "dst4": ("0.0.0.0/0", "192.0.2.0/24", "192.0.2.9/32", "192.0.2.8/32"),
    "src6": ("::/0", "2001:db8::/32", "2001:db8::1/128", "fe80::/10"),
    "dst6": ("::/0", "2001:db8:1::/48", "2001:db8:1::2/127"),
    "proto": ("0", "1", "6", "17", "43", "44", "51", "58", "59", "60"),
    "tcp_sport": ("1000",), "tcp_dport": ("80",), "udp_sport": ("1000",), "udp_dport": ("53",),
    "src_mac": ("02:00:00:00:00:aa", "02:00:00:00:00:ab"),
}  # fmt: skip


def random_frame(choose: random.Random) -> bytes:
    """Anything from a whole frame to one with tags, other bytes and a cut end."""
    frame = choose.choice(FRAMES)
    if choose.random() < 0.3:
        frame = tagged(frame, *choose.choices(TPIDS, k=choose.choice((1, 1, 2, 3, 4, 5))))
    made = bytearray(frame)
    for _ in range(choose.choice((0, 0, 0, 1, 1, 2, 4))):
        made[choose.randrange(len(made))] = choose.choice(BYTES)
    if choose.random() < 0.25:
        del made[choose.randrange(14, len(made) + 1) :]
    return bytes(made)


def random_rules(choose: random.Random) -> tuple[Model, list[str]]:
    """A model, and the same rules as text."""
    model = Model(
        policy=choose.choice(("PASS", "PASS", "DROP")),
        keep_link=choose.random() < 0.7,
        drop_malformed=choose.random() < 0.6,
    )
    texts = [
        f"policy={model.policy}", f"keep_link={model.keep_link}".lower(),
        f"drop_malformed={model.drop_malformed}".lower(),
    ]  # fmt: skip
    for name, keys in KEYS.items():
        for key in keys:
            if choose.random() < 0.65:
                continue
            prefix = "/" in key
            actions = ("PASS", "DROP", "NO_RULE") if prefix else ("PASS", "DROP")
            action, number = choose.choice(actions), choose.choice(NUMBERS)
            texts.append(f"{name}[{key}]={{action: {action}, rule: {number}}}")
            if prefix:
                network = ipaddress.ip_network(key, strict=False)
                model.prefixes.setdefault(name, []).append((network, action, number))
            elif name == "src_mac":
                model.exact[name, bytes.fromhex(key.replace(":", ""))] = action, number
            else:
                model.exact[name, int(key)] = action, number
    return model, texts


@pytest.mark.parametrize("seed", range(40))
def test_the_program_decides_as_the_documentation_says(any_filter: InTestRun, seed: int) -> None:
    choose = random.Random(seed)
    model, texts = random_rules(choose)
    any_filter.rules(*texts)
    expected: dict[str, int] = {}
    before = any_filter.counters()
    for _ in range(400):
        frame = random_frame(choose)
        action, by = model.judge(frame)
        try:
            verdict = any_filter.run(frame)
        except NotSupportedError:
            assert not any_filter.xdp  # TEST_RUN takes no cut IP header at TC
            continue
        dropped = verdict == (1 if any_filter.xdp else 2)
        assert dropped == (action == "DROP"), (frame.hex(" "), by)
        for name, amount in any_filter.expected([frame], dropped, by).items():
            expected[name] = expected.get(name, 0) + amount
    after = any_filter.counters()
    moved = {name: after[name] - before.get(name, 0) for name in after}
    assert {name: amount for name, amount in moved.items() if amount} == expected


def test_the_random_rules_and_frames_meet_in_every_way() -> None:
    """A model that matched nothing would agree with a program that matches nothing."""
    seen = set()
    for seed in range(40):
        choose = random.Random(seed)
        model, _ = random_rules(choose)
        seen |= {model.judge(random_frame(choose)) for _ in range(400)}
    assert {("PASS", "link"), ("DROP", "malformed"), ("DROP", 0), ("PASS", 0)} <= seen
    assert {
        (action, number) for action in ("PASS", "DROP") for number in (1, 2, 3, 10, 16382, 16383)
    } <= seen
