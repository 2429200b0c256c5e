"""A capture for the pages: ``python -m tests.docs.capture FILE``. Its last packet is shorter than any frame."""

import struct
import sys
import time
from pathlib import Path

from tests.docs.frames import frame


def main(path: str) -> None:
    """Write it."""
    ends = "02:00:00:00:00:12", "02:00:00:00:00:02"
    frames = [frame("udp", *ends, "10.0.0.2", "10.0.0.1", 4000 + n, 53) for n in range(3)]
    now = int(time.time())
    packets = [
        struct.pack("<IIII", now, 0, len(one), len(one)) + one for one in (*frames, bytes(10))
    ]
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)  # libpcap's, of Ethernet
    Path(path).write_bytes(header + b"".join(packets))


main(*sys.argv[1:])
