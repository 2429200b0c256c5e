"""Packets for the pages: ``python -m tests.docs.send COUNT udp|tcp PORT INTERFACE [SOURCE]``.

They come in on INTERFACE (eth0), that is, they are sent on the other end of its wire (wire0).
"""

import socket
import sys

from tests.docs.frames import frame


def main(count: str, protocol: str, port: str, interface: str, source: str = "10.0.0.2") -> None:
    """Send equal frames."""
    number = interface.removeprefix("eth")
    ends = f"02:00:00:00:00:1{number}", f"02:00:00:00:00:0{number}"
    made = frame(protocol, *ends, source, "10.0.0.1", 4000, int(port))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((f"wire{number}", 0))
        for _ in range(int(count)):
            sender.send(made)


main(*sys.argv[1:])
