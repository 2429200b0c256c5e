"""A packet in one line, much as tcpdump says it: who to whom, what, how long."""

import socket
import struct
from typing import Final

_ETHERTYPE_IP, _ETHERTYPE_ARP, _ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
_TAGS: Final = {0x8100: "vlan", 0x88A8: "svlan", 0x9100: "vlan"}
_ETHERTYPES: Final = {
    0x8035: "RARP", 0x8847: "MPLS", 0x8848: "MPLS", 0x8863: "PPPoE discovery", 0x8864: "PPPoE", 0x888E: "EAPOL",
    0x88CC: "LLDP", 0x88E5: "MACsec", 0x88F7: "PTP",
}  # fmt: skip
_PROTOCOLS: Final = {
    2: "IGMP", 4: "IPIP", 41: "IPv6 in IP", 47: "GRE", 50: "ESP", 51: "AH", 89: "OSPF", 103: "PIM", 112: "VRRP",
    132: "SCTP", 136: "UDP-Lite",
}  # fmt: skip
_ICMP: Final = {
    0: "echo reply",
    3: "unreachable",
    5: "redirect",
    8: "echo request",
    11: "time exceeded",
}
_ICMP6: Final = {
    1: "unreachable", 2: "packet too big", 3: "time exceeded", 128: "echo request", 129: "echo reply",
    133: "router solicitation", 134: "router advertisement", 135: "neighbor solicitation",
    136: "neighbor advertisement", 143: "MLDv2 report",
}  # fmt: skip
_EXTENSIONS: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
_FRAGMENT: Final = 44
_TCP_FLAGS: Final = ((0x02, "S"), (0x01, "F"), (0x04, "R"), (0x08, "P"), (0x20, "U"), (0x10, "."))
_TWO: Final = struct.Struct("!HH")
_SHORT: Final = "[cut short]"


def summary(data: bytes, length: int) -> str:
    """One line about an Ethernet frame of ``length`` bytes, of which ``data`` is the beginning."""
    if len(data) < 14:
        return f"{_SHORT}, length {length}"
    kind, at, tags = int.from_bytes(data[12:14], "big"), 14, ""
    while kind in _TAGS and len(data) >= at + 4:
        tag, inner = _TWO.unpack_from(data, at)
        priority = f" p {tag >> 13}" if tag >> 13 else ""
        tags += f"{_TAGS[kind]} {tag & 0xFFF}{priority}, "
        kind, at = inner, at + 4
    if kind == _ETHERTYPE_IP:
        return tags + _ip(data, at)
    if kind == _ETHERTYPE_IPV6:
        return tags + _ip6(data, at)
    if kind == _ETHERTYPE_ARP:
        return tags + _arp(data, at)
    ends = f"{_mac(data[6:12])} > {_mac(data[0:6])}"
    if kind < 0x0600:
        return f"{tags}{ends}, 802.3, length {length}"
    return f"{tags}{ends}, {_ETHERTYPES.get(kind, f'ethertype {kind:#06x}')}, length {length}"


def _mac(raw: bytes) -> str:
    return raw.hex(":")


def _arp(data: bytes, at: int) -> str:
    if len(data) < at + 28 or data[at : at + 6] != b"\0\1\x08\0\6\4":
        return "ARP"
    sender, target = (socket.inet_ntoa(data[at + n : at + n + 4]) for n in (14, 24))
    operation = int.from_bytes(data[at + 6 : at + 8], "big")
    if operation == 1:
        return f"ARP, request who-has {target} tell {sender}"
    if operation == 2:
        return f"ARP, reply {sender} is-at {_mac(data[at + 8 : at + 14])}"
    return f"ARP, operation {operation}"


def _ip(data: bytes, at: int) -> str:
    if len(data) < at + 20:
        return f"IP {_SHORT}"
    head = (data[at] & 15) * 4
    total, _, fragment = struct.unpack_from("!HHH", data, at + 2)
    source, target = (socket.inet_ntoa(data[at + n : at + n + 4]) for n in (12, 16))
    offset = (fragment & 0x1FFF) * 8
    if head < 20:
        return f"IP {source} > {target}: header length {head}, too short"
    if offset:
        more = "+" if fragment & 0x2000 else ""
        return f"IP {source} > {target}: fragment at {offset}{more}, length {max(total - head, 0)}"
    rest = "" if not fragment & 0x2000 else ", first fragment"
    return (
        "IP " + _payload(data, at + head, data[at + 9], source, target, max(total - head, 0)) + rest
    )


def _ip6(data: bytes, at: int) -> str:
    if len(data) < at + 40:
        return f"IP6 {_SHORT}"
    length, following = struct.unpack_from("!HB", data, at + 4)
    source, target = (
        socket.inet_ntop(socket.AF_INET6, data[at + n : at + n + 16]) for n in (8, 24)
    )
    at += 40
    while len(data) >= at + 8:
        if following in _EXTENSIONS:
            size = (data[at + 1] + 1) * 8
        elif following == _FRAGMENT:
            offset = int.from_bytes(data[at + 2 : at + 4], "big") & 0xFFF8
            if offset:
                return f"IP6 {source} > {target}: fragment at {offset}, length {length - 8}"
            size = 8
        else:
            break
        following, at, length = data[at], at + size, length - size
    return "IP6 " + _payload(data, at, following, source, target, max(length, 0))


def _payload(data: bytes, at: int, protocol: int, source: str, target: str, length: int) -> str:
    """What is in an IP packet, from ``at`` on, of ``length`` bytes."""
    if protocol in (6, 17):
        if len(data) < at + 4:
            return f"{source} > {target}: {'TCP' if protocol == 6 else 'UDP'} {_SHORT}"
        sport, dport = _TWO.unpack_from(data, at)
        ends = f"{source}.{sport} > {target}.{dport}"
        if protocol == 17:
            return f"{ends}: UDP, length {max(length - 8, 0)}"
        return f"{ends}: {_tcp(data, at, length)}"
    ends = f"{source} > {target}"
    if protocol in (1, 58):
        name, known = ("ICMP", _ICMP) if protocol == 1 else ("ICMP6", _ICMP6)
        if len(data) < at + 8:
            return f"{ends}: {name} {_SHORT}"
        kind = data[at]
        what = known.get(kind, f"type {kind}")
        if what.startswith("echo"):
            number, sequence = _TWO.unpack_from(data, at + 4)
            what += f", id {number}, seq {sequence}"
        return f"{ends}: {name} {what}, length {length}"
    return f"{ends}: {_PROTOCOLS.get(protocol, f'protocol {protocol}')}, length {length}"


def _tcp(data: bytes, at: int, length: int) -> str:
    if len(data) < at + 16:
        return f"TCP {_SHORT}"
    sequence, acknowledged, head, flags, window = struct.unpack_from("!IIBBH", data, at + 4)
    payload = max(length - (head >> 4) * 4, 0)
    words = "".join(letter for bit, letter in _TCP_FLAGS if flags & bit) or "none"
    numbers = f", seq {sequence}" if payload or flags & 0x07 else ""
    if flags & 0x10:
        numbers += f", ack {acknowledged}"
    return f"TCP [{words}]{numbers}, win {window}, length {payload}"
