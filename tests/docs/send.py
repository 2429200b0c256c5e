"""Packets for the pages: ``python -m tests.docs.send COUNT udp|tcp PORT INTERFACE [SOURCE]``.

They come in on INTERFACE (eth0), that is, they are sent on the other end of its wire (wire0).
"""

import socket
import sys

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether


def main(count: str, protocol: str, port: str, interface: str, source: str = "10.0.0.2") -> None:
    """Send equal frames."""
    layer = {"udp": UDP, "tcp": TCP}[protocol](sport=4000, dport=int(port))
    number = interface.removeprefix("eth")
    ends = Ether(src=f"02:00:00:00:00:1{number}", dst=f"02:00:00:00:00:0{number}")
    frame = bytes(ends / IP(src=source, dst="10.0.0.1") / layer)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((f"wire{number}", 0))
        for _ in range(int(count)):
            sender.send(frame)


main(*sys.argv[1:])
