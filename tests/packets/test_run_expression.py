"""Packets as scapy expressions: what they may say, and that nothing else is ever done."""

import ast
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from netbpf.errors import PacketTextError, ToolMissingError, UsageError
from netbpf.packets import expression
from netbpf.packets.expression import read_expression
from netbpf.packets.layers import contained
from netbpf.packets.marked import marked

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}


def refused(text: str) -> tuple[str, str]:
    """What is said, and the part of the text that is marked."""
    with pytest.raises(PacketTextError) as error:
        read_expression(text)
    one = error.value
    return one.message, text[one.at : one.at + one.length]


# --- what it means ---


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        ("Ether()/IP(dst='10.0.0.1')/UDP(dport=53)",
         Ether(**MACS) / IP(src="192.0.2.1", dst="10.0.0.1") / UDP(dport=53)),
        ("IP(src='1.2.3.4', dst='5.6.7.8')/TCP(flags='SA', options=[('MSS', 1460)])/b'abc'",
         Ether(**MACS) / IP(src="1.2.3.4", dst="5.6.7.8") / TCP(flags="SA", options=[("MSS", 1460)]) / b"abc"),
        ("Ether(src='aa:bb:cc:dd:ee:ff')/Dot1Q(vlan=5)/IPv6()",
         Ether(src="aa:bb:cc:dd:ee:ff", dst=MACS["dst"]) / Dot1Q(vlan=5) / IPv6(src="2001:db8::1", dst="2001:db8::2")),
        ("Ether()/ARP(op=2)", Ether(**MACS) / ARP(op=2, hwsrc=MACS["src"], psrc="192.0.2.1", pdst="192.0.2.2")),
        ("Ether(type=0x88b5)/(3*b'\\x00\\x01')", Ether(**MACS, type=0x88B5) / (b"\0\1" * 3)),
        ("Ether(type=0x88b5)/Raw(load='é')", Ether(**MACS, type=0x88B5) / b"\xc3\xa9"),
        ("\n  Ether(type=0x88b5)\n  /Raw(\n b'1')\n", Ether(**MACS, type=0x88B5) / b"1"),
    ],
)  # fmt: skip
def test_expressions_mean_what_scapy_makes_of_them(text: str, packet: Ether) -> None:
    assert read_expression(text) == bytes(packet)


def test_layers_beyond_the_usual_are_found() -> None:
    data = read_expression("IP()/UDP(dport=4789)/VXLAN(vni=7)/Ether()/IP()/ICMP()")
    assert Ether(data)["VXLAN"].vni == 7
    assert b"example" in read_expression("IP()/UDP()/DNS(qd=DNSQR(qname='example.com'))")
    assert read_expression("Ether()/LLDPDUChassisID(id=b'1')")


def test_bytes_of_a_whole_packet_are_taken_as_they_are() -> None:
    frame = bytes(12) + b"\x88\xb5" + b"rest"
    assert read_expression(f"Ether({frame!r})") == frame


def test_no_address_comes_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """scapy would take them from interfaces and routes, and ask for the target's MAC by ARP."""
    from scapy.config import conf

    def asked(*_: object, **__: object) -> object:
        raise AssertionError("the machine was asked")

    monkeypatch.setattr(type(conf.route), "route", asked)
    monkeypatch.setattr(type(conf.route6), "route", asked)
    monkeypatch.setattr(type(conf.neighbor), "resolve", asked)
    for text in (
        "Ether()/IP()/UDP()",
        "Ether()/IPv6()/TCP()",
        "ARP()",
        "Ether()/IP()/IP()/Ether()/ARP()",
    ):
        assert read_expression(text) == read_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "IP(dst='evil.example')",
        "IPv6(dst='evil.example')",
        "Ether()/ARP(ptype=0x800, plen=4, pdst='evil.example')",
        "IP()/UDP()/BOOTP()/DHCP(options=[('server_id', 'evil.example')])",
        "IPv6()/IPv6ExtHdrSegmentRouting(addresses=['evil.example'])",
        "IPv6()/IPv6ExtHdrRouting(addresses=['evil.example'])",
        "IP()/UDP()/DNS(an=DNSRR(type='A', rdata='evil.example'))",
        "IP(dst=['1.2.3.4', 'evil.example'])",
        "IP(dst=('evil.example', '1.2.3.4'))",
    ],
)
def test_names_of_hosts_are_never_looked_up(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = socket.getaddrinfo

    def spy(host: Any, port: Any, family: int = 0, *rest: object, flags: int = 0) -> object:
        if not flags & socket.AI_NUMERICHOST and not str(host)[0].isdigit():
            asked.append(host)  # scapy's modules have addresses of their own
        return real(host, port, family, flags=socket.AI_NUMERICHOST)

    monkeypatch.setattr(socket, "getaddrinfo", spy)
    with pytest.raises(PacketTextError):
        read_expression(text)
    assert not asked


def test_scapy_is_as_it_was_afterwards() -> None:
    from scapy import base_classes
    from scapy.layers import inet6

    with pytest.raises(PacketTextError):
        read_expression("IP(dst='evil.example')")
    assert base_classes.socket is socket
    assert inet6.socket is socket
    with contained():
        assert base_classes.socket is not socket


# --- what does not parse ---


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("Ether()/IP(dst='10.0.0.1'/UDP()", "the packet does not parse: '(' was never closed", "("),
        ("Ether() IP()", "the packet does not parse: invalid syntax", "IP"),
        (
            "Ether()/IP(dst='10.0.0.1)",
            "the packet does not parse: unterminated string literal",
            "'",
        ),
        ("Ether()/IP()\n/TCP(dport=)", "the packet does not parse: invalid syntax", ")"),
        ("Ether()/", "the packet does not parse: invalid syntax", ""),
        ("", "no packet is written there", ""),
        (" \n ", "no packet is written there", " "),
        (
            "Ether()/\0",
            "the packet does not parse: source code string cannot contain null bytes",
            "E",
        ),
        ("(" * 5000, "the packet does not parse: too many nested parentheses", "("),
        ("-" * 100_000 + "1", "the packet is nested too deeply", "-"),
        ("/".join(["IP()"] * 5000), "the packet is nested too deeply", "I"),
    ],
)
def test_the_place_of_a_syntax_error_is_marked(text: str, message: str, place: str) -> None:
    assert refused(text) == (message, place)


@pytest.mark.parametrize(
    ("text", "line", "marks"),
    [
        ("Ether()/IP(dst='1'/UDP()", "Ether()/IP(dst='1'/UDP()", "          ^"),
        ("Ether()\n/IP(ttl=,)", "/IP(ttl=,)", "        ^"),
        ("Ether()/IP(a='äöü',b=)", "Ether()/IP(a='äöü',b=)", "                     ^"),
    ],
)
def test_marks_stand_below_the_place(text: str, line: str, marks: str) -> None:
    with pytest.raises(PacketTextError) as error:
        read_expression(text)
    shown, below = marked(text, error.value.at, error.value.length)
    assert shown == line
    assert below.rstrip("^") == marks.rstrip("^")


def test_a_long_line_is_cut_around_the_place() -> None:
    line, below = marked("a" * 500 + "!" + "b" * 500, 500)
    assert line == "... " + "a" * 60 + "!" + "b" * 59 + " ..."
    assert line[below.index("^")] == "!"


def test_marks_below_what_a_terminal_would_act_on() -> None:
    line, below = marked("a\x1b[31mb?", 7)
    assert line == "a\\x1b[31mb?"
    assert line[below.index("^")] == "?"


# --- what is no packet ---


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("__import__('os')", "__import__ is no layer of scapy", "__import__"),
        ("__import__('os').system('id')", "the attribute .system is not allowed in a packet",
         "__import__('os').system"),
        ("Ether().__class__", "the attribute .__class__ is not allowed in a packet", "Ether().__class__"),
        ("Ether()/IP(dst=().__class__)", "the attribute .__class__ is not allowed in a packet", "().__class__"),
        ("open('/etc/passwd')", "open is no layer of scapy", "open"),
        ("exec('1')", "exec is no layer of scapy", "exec"),
        ("eval", "eval is no layer of scapy", "eval"),
        ("conf", "conf is no layer of scapy", "conf"),
        ("Packet()", "Packet is no layer of scapy", "Packet"),
        ("PcapReader('x')", "PcapReader is no layer of scapy", "PcapReader"),
        ("IP()/UDP(sport=RandShort())", "RandShort is no layer of scapy", "RandShort"),
        ("IP(dst=IP)", "IP is a layer: write IP()", "IP"),
        ("[IP() for x in (1,)]", "a comprehension is not allowed in a packet", "[IP() for x in (1,)]"),
        ("IP(ttl={1 for x in ()})", "a comprehension is not allowed in a packet", "{1 for x in ()}"),
        ("IP(ttl=(x for x in ()))", "a comprehension is not allowed in a packet", "(x for x in ())"),
        ("lambda: IP()", "lambda is not allowed in a packet", "lambda: IP()"),
        ("(lambda: IP())()", "lambda is not allowed in a packet", "lambda: IP()"),
        ("IP(ttl=1 if 1 else 2)", "if is not allowed in a packet", "1 if 1 else 2"),
        ("IP(ttl=9**9**9)", "** is not allowed in a packet", "9**9**9"),
        ("IP(ttl=1+1)", "+ is not allowed in a packet", "1+1"),
        ("IP(ttl=1<<99999999)", "<< is not allowed in a packet", "1<<99999999"),
        ("IP(ttl=~1)", "~ is not allowed in a packet", "~1"),
        ("IP(ttl=not 1)", "not is not allowed in a packet", "not 1"),
        ("IP(ttl=[1][0])", "an index is not allowed in a packet", "[1][0]"),
        ("IP(ttl={})", "a dictionary is not allowed in a packet", "{}"),
        ("IP(ttl={1})", "a set is not allowed in a packet", "{1}"),
        ("IP(ttl=1<2)", "a comparison is not allowed in a packet", "1<2"),
        ("IP(ttl=1 or 2)", "and/or is not allowed in a packet", "1 or 2"),
        ("IP(ttl=(x:=1))", ":= is not allowed in a packet", "x:=1"),
        ("IP()/f'{1}'", "an f-string is not allowed in a packet", "f'{1}'"),
        ("IP(ttl=1j)", "a complex number is not allowed in a packet", "1j"),
        ("IP(ttl=...)", "... is not allowed in a packet", "..."),
        ("IP(**{})", "** is not allowed in a packet", "**{}"),
        ("IP(*[1])", "* is not allowed in a packet", "*[1]"),
        ("IP(ttl=(yield))", "yield is not allowed in a packet", "yield"),
        ("IP(b'', b'')", "IP takes its fields by name: IP(field=value)", "b''"),
        ("IP(5)", "IP takes its fields by name: IP(field=value)", "5"),
        ("'text'", "a packet begins with a layer", "'text'"),
        ("IP()/5", "behind a / stands a layer, a string or bytes", "5"),
        ("IP()/'\\udc80'", "these characters have no bytes in UTF-8", "'\\udc80'"),
        ("IP(_pkt=b'')", "IP has no field _pkt", "_pkt=b''"),
        ("IP(post_transform=1)", "IP has no field post_transform", "post_transform=1"),
        ("IP(_internal=1)", "IP has no field _internal", "_internal=1"),
        ("IP(ttl=300)", "scapy cannot build Ether/IP: ubyte format requires 0 <= number <= 255", "ttl=300"),
        ("IP(dst='10.0.0.0/8')",
         "this stands for several packets, and one is wanted: give every field one value", "IP(dst='10.0.0.0/8')"),
        ("UDP()", "a packet cannot begin with UDP: begin with Ether()", "UDP()"),
        ("IP()/('x'*60000)/('y'*1000000000)", "1 * 1000000000 bytes are too many; no packet is longer than 131072",
         "'y'*1000000000"),
        ("IP()/(('x'*60000)*60000)", "60000 * 60000 bytes are too many; no packet is longer than 131072",
         "('x'*60000)*60000"),
        ("IP()/(IP()*9)", "* is for a string or bytes and a number", "IP()*9"),
        ("IP(ttl=5*5)", "* is for a string or bytes and a number", "5*5"),
        ("IP()/('x'*True)", "* is for a string or bytes and a number", "'x'*True"),
        ("IP(options=" + "[" * 80 + "]" * 80 + ")", "the packet is nested too deeply", "[" * 16 + "]" * 16),
        ("/".join(["IP()"] * 65), "65 layers; at most 64 are read", "/".join(["IP()"] * 65)),
    ],
)  # fmt: skip
def test_what_is_no_packet_is_refused_by_name_and_place(
    text: str, message: str, place: str
) -> None:
    assert refused(text) == (message, place)


def test_more_text_and_more_parts_than_a_packet_has() -> None:
    assert "characters; at most 131072 are read" in refused("IP()/'" + "x" * 140_000 + "'")[0]
    assert (
        refused("IP(options=[" + "1," * 30_000 + "])")[0] == "the packet has more than 20000 parts"
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Ehter()", "did you mean Ether?"),
        ("IP()/UPD()", "did you mean UDP"),
        ("IP(dest='1.2.3.4')", "did you mean dst?"),
        ("TCP(dpot=1)", "did you mean dport"),
    ],
)
def test_near_names_are_offered(text: str, hint: str) -> None:
    with pytest.raises(PacketTextError) as error:
        read_expression(text)
    assert error.value.hint is not None
    assert error.value.hint.startswith(hint.rstrip("?"))


def test_it_is_a_usage_error() -> None:
    assert issubclass(PacketTextError, UsageError)


def test_without_scapy_the_way_to_get_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "scapy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not Path(one, "scapy").is_dir()])
    with pytest.raises(ToolMissingError) as error:
        read_expression("IP()")
    assert error.value.hint == "pip install 'netbpf[packets]'"


# --- anything at all ---

TOKENS = st.sampled_from(
    [
        "Ether()", "IP(", "UDP(", ")", "/", "dst=", "'10.0.0.1'", "53", "'", "b'\\x00'", "[", "]", "(", ",", "*", "-",
        ".", "__class__", "lambda:", "x", "for", "in", "if", "else", " ", "\n", "#", "\\", "\0", "é", "\udc80", "=",
        "1e999", "0x", "{", "}", ":", "@", "Raw(", "load=", "None", "True", "'x'*99", "1" * 5000,
        "await", "f'{", "''" * 3,
    ]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(TOKENS, max_size=14).map("".join))
def test_any_text_is_a_packet_or_an_error_with_a_place(text: str) -> None:
    try:
        assert len(read_expression(text)) >= 14
        return
    except PacketTextError as error:
        found = error
    assert 0 <= found.at <= len(text)
    line, below = marked(text, found.at, found.length)
    assert line.isprintable()
    assert set(below) <= {" ", "^"}


def test_nothing_in_the_reader_evaluates_python() -> None:
    tree = ast.parse(Path(expression.__file__).read_text())
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "getattr", "__import__", "globals"}
