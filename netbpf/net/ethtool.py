"""What a driver says of an interface (ethtool's ioctls): its name, its channels, its offloads. Read only.

All are best effort, to explain why a program was refused: a driver that does not answer gives None, or nothing.
"""

import array
import fcntl
import socket
import struct
from typing import Final, NamedTuple

from netbpf.net.rtnetlink import Session

# include/uapi/linux/sockios.h and ethtool.h
_SIOCETHTOOL: Final = 0x8946
_GDRVINFO: Final = 0x03
_GSTRINGS: Final = 0x1B
_GSSET_INFO: Final = 0x37
_GFEATURES: Final = 0x3A
_GCHANNELS: Final = 0x3C
_SS_FEATURES: Final = 4
_GSTRING_LEN: Final = 32
_DRVINFO_SIZE: Final = 196  # struct ethtool_drvinfo: cmd, then driver[32]
_MOST_FEATURES: Final = 1024  # Linux 6.18 has 64


class Channels(NamedTuple):
    """How many queues an interface uses, and may: of receiving, of sending, and of both (``ethtool -l``)."""

    max_rx: int
    max_tx: int
    max_combined: int
    rx: int
    tx: int
    combined: int


class Feature(NamedTuple):
    """An offload: whether it is on, and whether that can be changed (``ethtool -k``; ``fixed`` if not)."""

    on: bool
    fixed: bool


def driver(session: Session, name: str) -> str | None:
    """The name of the driver behind an interface (ETHTOOL_GDRVINFO), None if it does not say."""
    info = _ask(session, name, struct.pack("=I", _GDRVINFO).ljust(_DRVINFO_SIZE, b"\0"))
    return None if info is None else info[4:36].split(b"\0")[0].decode(errors="replace") or None


def channels(session: Session, name: str) -> Channels | None:
    """The channels of an interface (ETHTOOL_GCHANNELS), None if the driver does not say."""
    answer = _ask(session, name, struct.pack("=9I", _GCHANNELS, *[0] * 8))
    if answer is None:
        return None
    _, max_rx, max_tx, _, max_combined, rx, tx, _, combined = struct.unpack("=9I", answer)
    return Channels(max_rx, max_tx, max_combined, rx, tx, combined)


def features(session: Session, name: str) -> dict[str, Feature]:
    """The offloads of an interface by the kernel's names (``rx-lro``, ``rx-gro-hw``); empty if they cannot be read.

    The names come from net/ethtool/common.c netdev_features_strings, and differ from kernel to kernel.
    """
    counted = _ask(session, name, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    count = struct.unpack_from("=I", counted, 16)[0] if counted else 0
    if not 0 < count <= _MOST_FEATURES:
        return {}
    head = struct.pack("=III", _GSTRINGS, _SS_FEATURES, count)
    strings = _ask(session, name, head.ljust(len(head) + count * _GSTRING_LEN, b"\0"))
    words = (count + 31) // 32
    states = _ask(session, name, struct.pack("=II", _GFEATURES, words).ljust(8 + words * 16, b"\0"))
    if strings is None or states is None:
        return {}
    found: dict[str, Feature] = {}
    for number in range(count):
        at = 12 + number * _GSTRING_LEN
        known = strings[at : at + _GSTRING_LEN].split(b"\0")[0].decode(errors="replace")
        # struct ethtool_get_features_block: available, requested, active, never_changed
        block = struct.unpack_from("=4I", states, 8 + number // 32 * 16)
        available, _, active, never = (bool(part >> number % 32 & 1) for part in block)
        if known:
            found[known] = Feature(active, never or not available)
    return found


def _ask(session: Session, name: str, request: bytes) -> bytes | None:
    """The structure as the kernel filled it, None where it does not."""
    answer = array.array("B", request)
    pointer = struct.pack("16sP", name.encode(errors="surrogateescape"), answer.buffer_info()[0])
    sock = session.namespace.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, pointer)
        except OSError:
            return None
    return answer.tobytes()
