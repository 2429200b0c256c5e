"""Carrier, offloads and driver counters of an interface, by ioctl(SIOCETHTOOL) on any socket of its namespace.

An ioctl costs microseconds where ethtool(8) costs a process. Numbers: include/uapi/linux/ethtool.h, sockios.h.
"""

import array
import fcntl
import socket
import struct
from typing import Final

_SIOCGIFNAME: Final = 0x8910
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFMTU: Final = 0x8921
_SIOCETHTOOL: Final = 0x8946
_IFF_UP: Final = 1

_GLINK: Final = 0x0A
_GSTRINGS: Final = 0x1B
_GSTATS: Final = 0x1D
_GSSET_INFO: Final = 0x37
_GFEATURES: Final = 0x3A
_SFEATURES: Final = 0x3B
_SS_STATS, _SS_FEATURES = 1, 4
_STRING: Final = 32  # ETH_GSTRING_LEN


def name_of(sock: socket.socket, ifindex: int) -> str:
    """The name the interface has now; OSError (ENODEV) once it is gone."""
    answer = fcntl.ioctl(sock, _SIOCGIFNAME, struct.pack("16si20x", b"", ifindex))
    return answer[:16].split(b"\0", 1)[0].decode()


def is_up(sock: socket.socket, name: str) -> bool:
    """Whether the interface is switched on; its peer may still be off."""
    answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
    return bool(struct.unpack_from("16xH", answer)[0] & _IFF_UP)


def mtu(sock: socket.socket, name: str) -> int:
    """The MTU in bytes, without the Ethernet header."""
    answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
    return int(struct.unpack_from("16xi", answer)[0])


def _call(sock: socket.socket, name: str, request: bytes) -> bytes:
    # The kernel wants a pointer to the request; an array is the standard library's way to have one.
    buffer = array.array("B", request)
    address, _ = buffer.buffer_info()
    fcntl.ioctl(sock, _SIOCETHTOOL, struct.pack("16sQ16x", name.encode(), address))
    return buffer.tobytes()


def carrier(sock: socket.socket, name: str) -> bool:
    """Whether packets can pass: a veth has carrier while both of its ends are up.

    The kernel brings the operational state up to date before it answers (ethtool_op_get_link), so this never
    lags behind like /sys/class/net/NAME/operstate can.
    """
    return bool(struct.unpack_from("=II", _call(sock, name, struct.pack("=II", _GLINK, 0)))[1])


def _strings(sock: socket.socket, name: str, kind: int) -> list[str]:
    answer = _call(sock, name, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << kind, 0))
    count = struct.unpack_from("=I", answer, 16)[0]
    table = _call(sock, name, struct.pack("=III", _GSTRINGS, kind, count) + bytes(_STRING * count))[
        12:
    ]
    return [
        table[start : start + _STRING].split(b"\0", 1)[0].decode()
        for start in range(0, _STRING * count, _STRING)
    ]


def statistics(sock: socket.socket, name: str) -> dict[str, int]:
    """The driver's own counters (``ethtool -S``), for a veth those of XDP by queue."""
    names = _strings(sock, name, _SS_STATS)
    count = len(names)
    answer = _call(sock, name, struct.pack("=II", _GSTATS, count) + bytes(8 * count))
    return dict(zip(names, struct.unpack_from(f"={count}Q", answer, 8), strict=True))


def features(sock: socket.socket, name: str) -> dict[str, bool]:
    """The offloads that can be switched, by the names of ``ethtool -k --json``: on or off."""
    names, blocks = _features(sock, name)
    return {
        feature: bool(blocks[index // 32][2] >> index % 32 & 1)
        for index, feature in enumerate(names)
        if feature and blocks[index // 32][0] >> index % 32 & 1
    }


def _features(sock: socket.socket, name: str) -> tuple[list[str], list[tuple[int, ...]]]:
    """Feature names by bit, and (available, requested, active, never changed) for each 32 of them."""
    names = _strings(sock, name, _SS_FEATURES)
    count = (len(names) + 31) // 32
    answer = _call(sock, name, struct.pack("=II", _GFEATURES, count) + bytes(16 * count))
    return names, [struct.unpack_from("=IIII", answer, 8 + 16 * index) for index in range(count)]


def offloads_off(sock: socket.socket, name: str) -> None:
    """Switch off everything that lets a packet be other than its bytes on the wire.

    That is checksums left to hardware, packets larger than the MTU (GSO, TSO, GRO) and VLAN tags kept beside the
    packet: every changeable ``tx-*`` and ``rx-*`` feature of the driver, in one call.
    """
    names, blocks = _features(sock, name)
    valid = [0] * len(blocks)
    for index, feature in enumerate(names):
        if feature.startswith(("tx-", "rx-")):
            valid[index // 32] |= blocks[index // 32][0] & 1 << index % 32
    request = struct.pack("=II", _SFEATURES, len(valid))
    _call(sock, name, request + b"".join(struct.pack("=II", bits, 0) for bits in valid))
