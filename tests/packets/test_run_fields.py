"""Two packets compared: by field, and by byte."""

import sys
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from netbpf.packets.fields import Difference, differences, hex_columns, summary, unlike

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
INNER = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / b"abc"
PLAIN = bytes(ETHER / INNER)


def found(before: bytes, after: bytes) -> list[Difference]:
    one = differences(before, after)
    assert one is not None
    return one


def test_equal_packets_have_no_difference() -> None:
    assert found(PLAIN, PLAIN) == []


def test_a_changed_field_is_named_with_both_values() -> None:
    changed = bytes(
        ETHER / IP(src="10.0.0.1", dst="10.0.0.2", ttl=63) / UDP(sport=1, dport=2) / b"abc"
    )
    assert [(one.path, one.before, one.after, one.kind) for one in found(PLAIN, changed)] == [
        ("IP.ttl", "64", "63", "changed"),
        ("IP.chksum", "0x66cb", "0x67cb", "changed"),
    ]


def test_a_tag_put_in_leaves_the_rest_in_peace() -> None:
    tagged = found(PLAIN, bytes(ETHER / Dot1Q(vlan=5) / INNER))
    assert {(one.layer, one.kind) for one in tagged} == {("Ether", "changed"), ("Dot1Q", "added")}
    assert Difference("Dot1Q", "vlan", None, "5", "added") in tagged


def test_a_tag_taken_out() -> None:
    tagged = found(bytes(ETHER / Dot1Q(vlan=5) / INNER), PLAIN)
    assert {(one.layer, one.kind) for one in tagged} == {("Ether", "changed"), ("Dot1Q", "removed")}
    assert Difference("Dot1Q", "vlan", "5", None, "removed") in tagged


def test_of_an_encapsulated_packet_the_outer_header_is_new_and_the_inner_is_the_old() -> None:
    outer = IP(src="192.0.2.1", dst="192.0.2.2")
    added = found(PLAIN, bytes(ETHER / outer / INNER))
    assert {(one.layer, one.kind) for one in added} == {("IP", "added")}
    removed = found(bytes(ETHER / outer / INNER), PLAIN)
    assert {(one.layer, one.kind) for one in removed} == {("IP", "removed")}


def test_another_transport_is_one_taken_out_and_one_put_in() -> None:
    kinds = {
        (one.layer, one.kind)
        for one in found(PLAIN, bytes(ETHER / IP(src="10.0.0.1", dst="10.0.0.2") / TCP()))
    }
    assert {("UDP", "removed"), ("TCP", "added"), ("Raw", "removed"), ("IP", "changed")} == kinds


def test_any_bytes_can_be_compared() -> None:
    for cut in range(len(PLAIN)):
        assert found(PLAIN, PLAIN[:cut])


def test_without_scapy_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "scapy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not Path(one, "scapy").is_dir()])
    assert differences(PLAIN, PLAIN[:-1]) is None
    assert summary(PLAIN) == f"{PLAIN[:14].hex(' ')} (45 bytes)"


def test_columns_mark_what_differs_and_what_is_missing() -> None:
    assert hex_columns(b"abcd", b"abX") == (
        "  offset  before                                            after\n"
        "  0000    61 62 63 64                                       61 62 58 --\n"
        "                ^^ ^^                                             ^^ ^^"
    )


def test_columns_of_a_long_packet_show_the_rows_that_differ() -> None:
    text = hex_columns(bytes(1600), bytes(800) + b"\1" + bytes(799))
    assert len(text.splitlines()) == 4
    assert "  0320    " in text
    assert text.endswith("99 other rows are equal or left out")


def test_distance() -> None:
    assert unlike(b"abc", b"abc") == 0
    assert unlike(b"abc", b"aXcd") == 2
