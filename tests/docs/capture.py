"""A capture for the pages: ``python -m tests.docs.capture FILE``. Its last packet is shorter than any frame."""

import sys

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap


def main(path: str) -> None:
    """Write it."""
    ends = Ether(src="02:00:00:00:00:12", dst="02:00:00:00:00:02")
    frames = [
        ends / IP(src="10.0.0.2", dst="10.0.0.1") / UDP(sport=4000 + n, dport=53) for n in range(3)
    ]
    wrpcap(path, [*map(bytes, frames), bytes(10)], linktype=1)


main(*sys.argv[1:])
