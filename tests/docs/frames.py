"""Frames for the pages without scapy, whose import takes longer than all else that sending takes."""

import socket
import struct


def frame(
    protocol: str, src_mac: str, dst_mac: str, src: str, dst: str, sport: int, dport: int
) -> bytes:
    """An empty UDP datagram or a TCP SYN, ``protocol`` "udp" or "tcp", as scapy makes them from such fields."""
    number = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}[protocol]
    addresses = socket.inet_aton(src) + socket.inet_aton(dst)
    if protocol == "udp":
        body, place = struct.pack(">HHHH", sport, dport, 8, 0), 6
    else:
        body, place = struct.pack(">HHIIBBHHH", sport, dport, 0, 0, 5 << 4, 2, 8192, 0, 0), 16
    body = _summed(body, place, addresses + struct.pack(">HH", number, len(body)))
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, number, 0) + addresses
    ends = bytes.fromhex((dst_mac + src_mac).replace(":", ""))
    return ends + b"\x08\x00" + _summed(head, 10) + body


def _summed(header: bytes, place: int, pseudo: bytes = b"") -> bytes:
    """The header with its checksum (RFC 1071) at ``place``."""
    words = sum(struct.unpack(f">{len(pseudo + header) // 2}H", pseudo + header))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    return header[:place] + struct.pack(">H", words ^ 0xFFFF) + header[place + 2 :]
