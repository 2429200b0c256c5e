"""What a program sees besides the packet: ``struct xdp_md`` and ``struct __sk_buff`` (include/uapi/linux/bpf.h)."""

import struct
from dataclasses import dataclass, fields, replace
from typing import Final

from netbpf.constants import Hook
from netbpf.errors import UsageError

_XDP: Final = struct.Struct(
    "<6I"
)  # data data_end data_meta ingress_ifindex rx_queue_index egress_ifindex
SKB_SIZE: Final = 192
XDP_SIZE: Final = _XDP.size
# Where __sk_buff has the fields that TEST_RUN takes (net/bpf/test_run.c, convert___skb_to_skb) and their formats.
_SKB: Final = {
    "mark": (8, "<I"), "priority": (32, "<I"), "ingress_ifindex": (36, "<I"), "ifindex": (40, "<I"),
    "cb": (48, "<5I"), "tstamp": (152, "<Q"), "wire_len": (160, "<I"), "gso_segs": (164, "<I"),
    "gso_size": (176, "<I"), "hwtstamp": (184, "<Q"),
}  # fmt: skip
_CB: Final = 5  # words
_ETHERTYPE: Final = slice(12, 14)
_BITS: Final = {"tstamp": 64, "hwtstamp": 64, "protocol": 16}
_ONLY_XDP: Final = frozenset({"rx_queue", "meta"})


@dataclass(frozen=True, slots=True)
class Context:
    """The context of one run. What is left at 0 is what the kernel makes it.

    ``ifindex`` is the interface the packet came in on (XDP: ``ingress_ifindex``; TC: ``ifindex``, by default the
    loopback). XDP: ``rx_queue`` of that interface, and ``meta``, the bytes between data_meta and data. TC: all the
    others; ``cb`` is up to five u32; ``tstamp`` and ``hwtstamp`` are nanoseconds; ``protocol`` is an EtherType, which
    TEST_RUN takes from the packet alone and which therefore is written into its Ethernet header.
    UsageError for values that do not fit.
    """

    ifindex: int = 0
    rx_queue: int = 0
    meta: bytes = b""
    mark: int = 0
    priority: int = 0
    ingress_ifindex: int = 0
    cb: tuple[int, ...] = ()
    protocol: int = 0
    tstamp: int = 0
    wire_len: int = 0
    gso_segs: int = 0
    gso_size: int = 0
    hwtstamp: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            for one in value if field.name == "cb" else (value,):
                bits = _BITS.get(field.name, 32)
                if isinstance(one, int) and not 0 <= one < 1 << bits:
                    raise UsageError(f"{field.name} {one} does not fit into {bits} bits")
        if len(self.cb) > _CB:
            raise UsageError(f"cb has {_CB} words, not {len(self.cb)}")

    def check(self, hook: Hook) -> None:
        """UsageError for fields that the other kind of program has."""
        for field in fields(self):
            name = field.name
            foreign = name != "ifindex" and (name in _ONLY_XDP) != (hook is Hook.XDP)
            if foreign and getattr(self, name):
                own, other = ("xdp", "tc") if hook is Hook.XDP else ("tc", "xdp")
                raise UsageError(f"{name} is for {other} programs, and this one is for {own}")

    def packet(self, packet: bytes) -> bytes:
        """The packet with ``protocol`` in its Ethernet header."""
        if not self.protocol or len(packet) < _ETHERTYPE.stop:
            return packet
        changed = bytearray(packet)
        changed[_ETHERTYPE] = self.protocol.to_bytes(2, "big")
        return bytes(changed)

    def xdp_md(self, packet_size: int) -> bytes:
        """``struct xdp_md`` for TEST_RUN, which reads ``data`` and ``data_end`` as offsets in metadata and packet."""
        begin = len(self.meta)
        return _XDP.pack(begin, begin + packet_size, 0, self.ifindex, self.rx_queue, 0)

    def sk_buff(self) -> bytes:
        """``struct __sk_buff`` for TEST_RUN; empty where everything is the kernel's choice."""
        content = bytearray(SKB_SIZE)
        for name, (offset, layout) in _SKB.items():
            value = getattr(self, name)
            words = (*value, *(0,) * (_CB - len(value))) if name == "cb" else (value,)
            struct.pack_into(layout, content, offset, *words)
        return bytes(content) if any(content) else b""


def from_sk_buff(content: bytes, before: Context) -> Context:
    """The context after a run. ``gso_size`` is not given back and stays what it was."""
    found = {
        name: struct.unpack_from(layout, content, offset)
        for name, (offset, layout) in _SKB.items()
        if name != "gso_size"
    }
    cb = found.pop("cb")
    return replace(before, cb=cb, **{name: value for name, (value,) in found.items()})


def split_xdp(output: bytes, content: bytes) -> tuple[bytes, bytes, int]:
    """Metadata, packet, and how many bytes of it lie in one piece, of what TEST_RUN gives back for XDP."""
    begin, end, *_ = _XDP.unpack(content)
    return output[:begin], output[begin:], end - begin


def changes(before: Context, after: Context) -> dict[str, tuple[int, int]]:
    """What a TC program changed in its context, by the kernel's names (``cb[0]``): (before, after)."""
    found: dict[str, tuple[int, int]] = {}
    for name in ("mark", "priority", "tstamp", "gso_segs", "hwtstamp"):
        if getattr(before, name) != getattr(after, name):
            found[name] = (getattr(before, name), getattr(after, name))
    old = (*before.cb, *(0,) * (_CB - len(before.cb)))
    for index, (one, other) in enumerate(zip(old, after.cb, strict=True)):
        if one != other:
            found[f"cb[{index}]"] = (one, other)
    return found
