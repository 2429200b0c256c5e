"""Programs that netbpf knows nothing of."""

import struct

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf.constants import ProgType


def foreign_program(kind: ProgType, verdict: int) -> Fd:
    """A program that netbpf knows nothing of: it returns ``verdict``."""
    insns = struct.pack("=BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)
    fd, error, _ = bpf.prog_load(bpf.ProgLoad(kind, insns, "GPL", "foreign"))
    assert fd is not None, error
    return fd
