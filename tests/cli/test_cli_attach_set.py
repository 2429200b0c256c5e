"""``--set``: typed values of every kind before the program is loaded."""

import json
from typing import Any

import pytest

from tests.cli.lab import Lab, udp

GOOD: dict[str, Any] = {
    "u8=255": 255,
    "u8=0xff": 255,
    "s8=-128": -128,
    "u16=0b1010": 10,
    "s16=-0x8000": -(1 << 15),
    "u32=4_294_967_295": (1 << 32) - 1,
    "s32=-2147483648": -(1 << 31),
    "u64=18446744073709551615": (1 << 64) - 1,
    "s64=-9223372036854775808": -(1 << 63),
    "enabled=true": True,
    "enabled=off": False,
    "letter='x'": ord("x"),
    "word=netbpf": "netbpf",
    'word="a b"': "a b",
    "mac=02:00:00:00:00:01": "02:00:00:00:00:01",
    "saddr4=10.1.2.3": "10.1.2.3",
    "saddr6=2001:db8::1": "2001:db8::1",
    "ports=[80, 443]": [80, 443, 0, 0],
    "verdict=VERDICT_DROP": "VERDICT_DROP",
    "verdict=pass": "VERDICT_PASS",
    "verdict=1": "VERDICT_DROP",
    "live=7": 7,
}


@pytest.mark.parametrize("text", GOOD)
def test_a_value_arrives(lab: Lab, text: str) -> None:
    lab("attach", "xdp", "dut0", lab.object("settings"), "--set", text)
    assert lab.get("dut0", text.partition("=")[0]) == GOOD[text]


PARTS: dict[str, Any] = {
    "cfg.port=53": 53,
    "cfg.proto=udp": 17,
    "cfg.log=yes": True,
    "cfg.saddr=192.0.2.1": "192.0.2.1",
    "cfg.addr6=2001:db8::2": "2001:db8::2",
    "cfg.range.high=0x100": 256,
    "ports[2]=80": 80,
}


def test_parts_keep_the_rest(lab: Lab) -> None:
    options = [word for text in PARTS for word in ("--set", text)]
    lab("attach", "xdp", "dut0", lab.object("settings"), *options)
    for text, value in PARTS.items():
        assert lab.get("dut0", text.partition("=")[0]) == value
    assert lab.get("dut0", "ports") == [0, 0, 80, 0]
    assert lab.get("dut0", "cfg.range") == {"low": 0, "high": 256}
    assert lab.get("dut0", "verdict") == "VERDICT_DROP"  # as the source says


def test_a_whole_struct(lab: Lab) -> None:
    value = "cfg={port: 99, range: {low: 1, high: 2}}"
    lab("attach", "xdp", "dut0", lab.object("settings"), "--set", value)
    cfg = lab.get("dut0", "cfg")
    assert (cfg["port"], cfg["range"], cfg["proto"]) == (99, {"low": 1, "high": 2}, 0)


def test_packets_obey(lab: Lab) -> None:
    path = lab.object("settings")
    lab("attach", "xdp", "dut0", path, "--set", "cfg.port=53", "--set", "live=2")
    with lab.wire.dut.capture() as arrived:
        udp(lab.wire.peer, 53, number=3)
        arrived.expect(udp(lab.wire.peer, 7))
        arrived.expect_none()
        assert lab.get("dut0", "dropped") == 6
        lab(
            "attach",
            "xdp",
            "dut0",
            path,
            "--replace",
            "--set",
            "verdict=pass",
            "--set",
            "cfg.port=53",
        )
        arrived.expect(udp(lab.wire.peer, 53))


def test_the_last_of_several_counts(lab: Lab) -> None:
    lab("attach", "xdp", "dut0", lab.object("settings"), "--set", "u8=1", "--set", "u8=2")
    assert lab.get("dut0", "u8") == 2


BAD = {
    "u8=256": ("u8", "0..255"),
    "u8=-1": ("0..255",),
    "s8=128": ("-128..127",),
    "u16=65536": ("0..65535",),
    "u32=0x100000000": ("0..4294967295",),
    "s64=9223372036854775808": ("-9223372036854775808..9223372036854775807",),
    "u8=many": ("many",),
    "u8=": ("u8",),
    "u8=010": ("010",),
    "enabled=2": ("2",),
    "verdict=DROPP": ("VERDICT_DROP",),
    "mac=10.0.0.1": ("mac", "10.0.0.1"),
    "mac=02:00:00:00:00": ("mac",),
    "saddr4=2001:db8::1": ("saddr4",),
    "saddr4=10.0.0.256": ("10.0.0.256",),
    "saddr6=10.0.0.1": ("saddr6",),
    "word=ninechars": ("word",),
    "ports=[1,2,3,4,5]": ("ports", "5 elements"),
    "ports=[1,2": ("[1,2",),
    "cfg=7": ("cfg", "NAME.MEMBER=VALUE"),
    "cfg.port=65536": ("cfg.port", "0..65535"),
    "u8": ("write NAME=VALUE",),
    "=5": ("=5",),
}


@pytest.mark.parametrize("text", BAD)
def test_a_value_that_does_not_fit_says_what_would(lab: Lab, text: str) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("settings"), "--set", text, code=2)
    for part in BAD[text]:
        assert part in done.error
    assert lab.hooks() == []


UNKNOWN = {
    "verdct=1": "did you mean verdict?",
    "cfg.prot=1": "did you mean",
    "ports[4]=1": "0..3",
    "ports[-1]=1": "0..3",
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_name_that_is_not_there(lab: Lab, text: str) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("settings"), "--set", text, code=3)
    assert UNKNOWN[text] in done.error
    assert lab.hooks() == []


def test_without_types_there_are_no_names(lab: Lab) -> None:
    source = (
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nint limit = 3;\n"
        'SEC("xdp") int pass(struct xdp_md *ctx) { return limit; }\n'
    )
    done = lab(
        "attach", "xdp", "dut0", lab.compiled(source, debug=False), "--set", "limit=2", code=3
    )
    assert done.error.endswith("compiled without BTF; compile with -g")


def test_the_error_in_json(lab: Lab) -> None:
    done = lab("attach", "xdp", "dut0", lab.object("settings"), "--set", "u8=256", "--json", code=2)
    error = json.loads(done.out)["error"]
    assert (error["code"], error["type"]) == (2, "UsageError")
    assert "0..255" in error["message"] + str(error["hint"])
