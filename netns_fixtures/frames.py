"""From what a test writes (scapy packets, bytes, lists of them) to the frames that go over the wire.

scapy is never imported here: only a program that has imported it can hold one of its packets.
"""

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from netns_fixtures.errors import TrafficError

# The bytes of a frame, a scapy packet (an iterable of the packets it stands for), or any nesting of lists of them.
Packets: TypeAlias = bytes | bytearray | memoryview | Iterable[Any]

ETHERNET_HEADER: Final = 14  # bytes; the kernel takes no frame shorter than that
# IEEE Std 802: for experiments within one network. No kernel module listens to it.
ETH_P_LOCAL_EXPERIMENTAL: Final = 0x88B5


def mac_bytes(mac: str) -> bytes:
    """``02:00:00:00:00:01`` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def to_frames(packets: Packets, source: str, target: str) -> list[bytes]:
    """The frames of ``packets``, in order.

    A scapy packet without Ethernet header gets one; a source or destination MAC that was not given becomes
    ``source`` or ``target``. (scapy would ask the host's routing table and send ARP requests.) A packet that stands
    for several (``IP(dst="10.0.0.0/30")``) gives them all. Raises TrafficError naming the packet that cannot be sent.
    """
    return list(_frames(packets, source, target))


def _frames(packets: Any, source: str, target: str) -> Iterator[bytes]:
    if isinstance(packets, (bytes, bytearray, memoryview)):
        frame = bytes(packets)
        if len(frame) < ETHERNET_HEADER:
            raise TrafficError(
                f"a frame of {len(frame)} bytes cannot be sent: an Ethernet header alone has {ETHERNET_HEADER}"
            )
        yield frame
    elif is_scapy(packets):
        yield from _build(packets, source, target)
    elif isinstance(packets, Iterable) and not isinstance(packets, (str, dict)):
        for one in packets:
            yield from _frames(one, source, target)
    else:
        raise TrafficError(
            f"{packets!r} is no packet: give a scapy packet, bytes, or a list of those"
        )


def mutated(frame: bytes, changes: Mapping[str, object] | None) -> bytes:
    """The frame with these fields set, and the checksums and lengths that follow; see netbpf.packets.mutate.

    Raises TrafficError for what cannot be.
    """
    if not changes:
        return frame
    from netbpf.errors import NetbpfError
    from netbpf.packets.mutate import mutate

    try:
        return mutate(frame, changes)
    except NetbpfError as error:
        raise TrafficError(
            f"mutate=: {error.message}" + (f"; {error.hint}" if error.hint else "")
        ) from None


def is_scapy(packet: object) -> bool:
    """Whether this is a scapy packet."""
    module = sys.modules.get("scapy.packet")
    return module is not None and isinstance(packet, module.Packet)


def _build(packet: Any, source: str, target: str) -> Iterator[bytes]:
    from scapy.error import Scapy_Exception
    from scapy.layers.l2 import Dot3, Ether

    try:
        for one in packet:  # expands sets and random values
            if not isinstance(one, (Ether, Dot3)):
                # scapy's bind_layers() records here what a layer puts into the Ethernet header below it.
                if Ether not in type(one)._overload_fields:  # noqa: SLF001 - scapy offers no other way
                    raise TrafficError(
                        f"a packet cannot begin with {type(one).__name__}: begin with Ether(), or give bytes"
                    )
                one = Ether() / one
            for field, value in (("src", source), ("dst", target)):
                if field not in one.fields:
                    one.setfieldval(field, value)
            yield bytes(one)
    except TrafficError:
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError, struct.error,
            Scapy_Exception) as error:  # fmt: skip
        # A field takes any Python object and complains in its own way once it is packed.
        layers = "/".join(layer.__name__ for layer in packet.layers())
        reason = " ".join(str(error).split("\n")[:2])
        raise TrafficError(f"scapy cannot build {layers}: {reason}") from error
