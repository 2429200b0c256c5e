"""The headers of a frame as named fields, as far as they are there: for summaries, and to say what differs.

Names are those of Wireshark where it has them (``ip.ttl``, ``tcp.dstport``). Whatever is not a known header is
``payload``.
"""

import struct
from ipaddress import IPv4Address, IPv6Address

Field = int | str | bytes
Fields = dict[str, Field]

NAMES = (
    "eth.dst", "eth.src", "vlan.id", "vlan.priority", "eth.type",
    "arp.opcode", "arp.sender", "arp.target",
    "ip.src", "ip.dst", "ip.proto", "ip.ttl", "ip.tos", "ip.id", "ip.len", "ip.flags", "ip.fragment", "ip.checksum",
    "ip.options",
    "ipv6.src", "ipv6.dst", "ipv6.nxt", "ipv6.hlim", "ipv6.tclass", "ipv6.flow", "ipv6.plen",
    "tcp.srcport", "tcp.dstport", "tcp.flags", "tcp.seq", "tcp.ack", "tcp.window", "tcp.checksum", "tcp.options",
    "udp.srcport", "udp.dstport", "udp.length", "udp.checksum",
    "icmp.type", "icmp.code", "icmp.checksum",
    "payload", "length",
)  # fmt: skip
_ETHERNET = 14  # bytes
_VLANS = frozenset({0x8100, 0x88A8})
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_TCP, _UDP, _ICMP, _ICMPV6 = 6, 17, 1, 58
_PROTOCOLS = {
    _TCP: "tcp",
    _UDP: "udp",
    _ICMP: "icmp",
    _ICMPV6: "icmpv6",
    132: "sctp",
    47: "gre",
    50: "esp",
}


def fields_of(frame: bytes) -> Fields:
    """Every field of a frame, in the order of the bytes; of stacked VLAN tags and IP headers the outermost."""
    found: Fields = {"length": len(frame)}
    if len(frame) < _ETHERNET:
        return found | {"payload": frame}
    found["eth.dst"], found["eth.src"] = frame[:6].hex(":"), frame[6:12].hex(":")
    kind, at = int.from_bytes(frame[12:14], "big"), _ETHERNET
    while kind in _VLANS and len(frame) >= at + 4:
        tag, kind = struct.unpack_from(">HH", frame, at)
        found.setdefault("vlan.id", tag & 0xFFF)
        found.setdefault("vlan.priority", tag >> 13)
        at += 4
    found["eth.type"] = kind
    if kind == _IPV4 and len(frame) >= at + 20 and 20 <= 4 * (frame[at] & 15) <= len(frame) - at:
        at = _ipv4(frame, at, found)
    elif kind == _IPV6 and len(frame) >= at + 40:
        at = _ipv6(frame, at, found)
    elif kind == _ARP and len(frame) >= at + 28:
        found["arp.opcode"] = int.from_bytes(frame[at + 6 : at + 8], "big")
        found["arp.sender"] = str(IPv4Address(frame[at + 14 : at + 18]))
        found["arp.target"] = str(IPv4Address(frame[at + 24 : at + 28]))
        at += 28
    found["payload"] = frame[at:]
    return found


def _ipv4(frame: bytes, at: int, found: Fields) -> int:
    _, tos, length, number, fragment, ttl, protocol, checksum = struct.unpack_from(
        ">BBHHHBBH", frame, at
    )
    end = at + 4 * (frame[at] & 15)
    found.update({
        "ip.src": str(IPv4Address(frame[at + 12 : at + 16])), "ip.dst": str(IPv4Address(frame[at + 16 : at + 20])),
        "ip.proto": protocol, "ip.ttl": ttl, "ip.tos": tos, "ip.id": number, "ip.len": length,
        "ip.flags": fragment >> 13, "ip.fragment": fragment & 0x1FFF, "ip.checksum": checksum,
    })  # fmt: skip
    if end > at + 20:
        found["ip.options"] = frame[at + 20 : end]
    return end if fragment & 0x1FFF else _transport(frame, end, protocol, found)


def _ipv6(frame: bytes, at: int, found: Fields) -> int:
    word, length, following, hops = struct.unpack_from(">IHBB", frame, at)
    found.update({
        "ipv6.src": str(IPv6Address(frame[at + 8 : at + 24])), "ipv6.dst": str(IPv6Address(frame[at + 24 : at + 40])),
        "ipv6.nxt": following, "ipv6.hlim": hops, "ipv6.tclass": word >> 20 & 0xFF, "ipv6.flow": word & 0xFFFFF,
        "ipv6.plen": length,
    })  # fmt: skip
    return _transport(frame, at + 40, following, found)


def _transport(frame: bytes, at: int, protocol: int, found: Fields) -> int:
    left = len(frame) - at
    if protocol == _TCP and left >= 20 and 20 <= 4 * (frame[at + 12] >> 4) <= left:
        source, target, seq, ack, flags, window, checksum = struct.unpack_from(
            ">HHIIHHH", frame, at
        )
        found.update({
            "tcp.srcport": source, "tcp.dstport": target, "tcp.flags": flags & 0x1FF, "tcp.seq": seq, "tcp.ack": ack,
            "tcp.window": window, "tcp.checksum": checksum,
        })  # fmt: skip
        end = at + 4 * (frame[at + 12] >> 4)
        if end > at + 20:
            found["tcp.options"] = frame[at + 20 : end]
        return end
    if protocol == _UDP and left >= 8:
        names = ("udp.srcport", "udp.dstport", "udp.length", "udp.checksum")
        found.update(zip(names, struct.unpack_from(">HHHH", frame, at), strict=True))
        return at + 8
    if protocol in (_ICMP, _ICMPV6) and left >= 4:
        three = ("icmp.type", "icmp.code", "icmp.checksum")
        found.update(zip(three, struct.unpack_from(">BBH", frame, at), strict=True))
        return at + 4
    return at


def protocol_of(found: Fields) -> str:
    """``ipv4/udp``, ``ipv6/icmpv6``, ``arp``, or the EtherType."""
    if "ip.proto" in found or "ipv6.nxt" in found:
        family, number = (
            ("ipv4", found["ip.proto"]) if "ip.proto" in found else ("ipv6", found["ipv6.nxt"])
        )
        assert isinstance(number, int)
        return f"{family}/{_PROTOCOLS.get(number, number)}"
    kind = found.get("eth.type")
    if not isinstance(kind, int):
        return "no Ethernet header"
    return {_ARP: "arp", _IPV4: "ipv4, cut short", _IPV6: "ipv6, cut short"}.get(
        kind, f"EtherType {kind:#06x}"
    )


def summary(frame: bytes) -> str:
    """A frame on one line: ``10.0.0.1:1024 > 10.0.1.1:53 ipv4/udp, 98 bytes``."""
    found = fields_of(frame)

    def text(*names: str) -> str:
        return next((str(found[name]) for name in names if name in found), "")

    source = text("ip.src", "ipv6.src", "arp.sender", "eth.src") or "?"
    target = text("ip.dst", "ipv6.dst", "arp.target", "eth.dst") or "?"
    ports = text("tcp.srcport", "udp.srcport"), text("tcp.dstport", "udp.dstport")
    if all(ports):
        form = "[{}]:{}" if "ipv6.src" in found else "{}:{}"
        source, target = form.format(source, ports[0]), form.format(target, ports[1])
    tag = f" vlan {text('vlan.id')}" if "vlan.id" in found else ""
    more = f" type {text('icmp.type')}" if "icmp.type" in found else ""
    if found.get("ip.fragment"):
        more += f" fragment at {8 * int(text('ip.fragment'))}"
    return f"{source} > {target}{tag} {protocol_of(found)}{more}, {len(frame)} bytes"
