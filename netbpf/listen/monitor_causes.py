"""What an errno or a verdict in a tracepoint of XDP means, and what to do about it.

Read from net/core/filter.c (xdp_do_redirect), kernel/bpf/devmap.c, cpumap.c, net/xdp/xsk.c, include/net/xdp.h
(xdp_ok_fwd_dev) and drivers/net/veth.c of Linux 6.18. The same errno means different things in each of them.
"""

import errno
from dataclasses import dataclass
from typing import Final, NamedTuple

from netbpf.constants import MapType
from netbpf.listen.monitor_model import Kind

_IFF_UP: Final = 1
_REDIRECT_MAPS: Final = frozenset({
    MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP,
})  # fmt: skip


class Words(NamedTuple):
    """What it means, and what to do about it ("" where nothing can be said)."""

    cause: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What causes depend on. Names are escaped and may be empty; ``target`` is where the packet was to go.

    ``driver``, ``mtu``, ``flags`` and ``peer`` are those of the target as it is now, "", 0, None and "" where that
    cannot be seen. ``map_type`` is that of the map through which was redirected, 0 without one. ``maps`` are the
    types of the program's maps.
    """

    kind: Kind
    code: int
    interface: str = ""
    target: str = ""
    example: int = 0
    alike: bool = True
    driver: str = ""
    mtu: int = 0
    flags: int | None = None
    peer: str = ""
    map_type: int = 0
    map_name: str = ""
    maps: frozenset[int] = frozenset()


def words(facts: Facts) -> Words:
    """The meaning of what happened; for kfree_skb see ``monitor_reasons``."""
    match facts.kind:
        case Kind.EXCEPTION:
            return _exception(facts)
        case Kind.REDIRECT:
            return _redirect(facts)
        case Kind.BULK_TX:
            return _bulk_tx(facts)
        case Kind.DEVMAP_XMIT:
            return _devmap_xmit(facts)
        case Kind.CPUMAP_ENQUEUE:
            return Words(
                f"the queue of CPU {facts.code} in the cpumap was full: it got packets faster than it took them",
                "give the entry a larger qsize, spread packets over more CPUs, or do less in the programs there",
            )
        case Kind.CPUMAP_KTHREAD:
            return Words(
                f"the cpumap's thread on CPU {facts.code} had no memory for the packets (skbs)",
                "see free memory, and vm.min_free_kbytes",
            )
        case Kind.CPUMAP_PROGRAM:
            return Words(
                "the program in the cpumap's entry dropped them: XDP_DROP, XDP_ABORTED, or a redirect that failed"
            )
    raise ValueError(facts.kind)


# --- verdicts -------------------------------------------------------------------------------------------------


def _exception(facts: Facts) -> Words:
    match facts.code:
        case 0:
            return _aborted(facts)
        case 3:
            return Words(
                "the driver could not send the packet back (XDP_TX), and dropped it",
                f"its transmit queues may be full or missing: ethtool -S {facts.interface} counts them",
            )
        case 4:
            return Words(
                "the driver could not redirect the packet, and dropped it",
                "the line of xdp_redirect_err for this program says why",
            )
        case -1:
            value = "" if not facts.alike else f" {facts.example}"
            return Words(
                f"the program returned{value or ' numbers'}, no verdict of XDP: the packet is dropped",
                "return a value of enum xdp_action (0 to 4); 0xffffffff and others are TC's, or a lookup's error",
            )
    return Words(
        "the driver could not do what the program said, and dropped the packet",
        f"it may lack memory: ethtool -S {facts.interface} counts it",
    )


def _aborted(facts: Facts) -> Words:
    cause = (
        "the program returned XDP_ABORTED, which drops the packet and says that something is wrong"
    )
    if facts.maps & _REDIRECT_MAPS:
        return Words(
            cause,
            "bpf_redirect_map() gives it where the map has no such entry and its last argument is 0: "
            "see what the map holds (netbpf map dump), or pass XDP_PASS or XDP_DROP there",
        )
    return Words(cause, "the program does so by itself: look for XDP_ABORTED, or 0, in its source")


# --- redirecting ----------------------------------------------------------------------------------------------


def _redirect(facts: Facts) -> Words:
    match -facts.code:
        case errno.EINVAL:
            return _invalid(facts)
        case errno.EBADRQC:
            return Words(
                "the program returned XDP_REDIRECT without having said where to",
                "return what bpf_redirect() or bpf_redirect_map() gives: where a map has no such entry it is the last "
                "argument, and not XDP_REDIRECT",
            )
        case errno.EOPNOTSUPP:
            return _cannot(facts)
        case errno.ENETDOWN:
            return Words(f"{_it(facts)} is down", _up(facts))
        case errno.EMSGSIZE:
            limit = f" ({facts.mtu} bytes)" if facts.mtu else ""
            return Words(
                f"the packet is longer than the MTU of {_it(facts)}{limit}",
                f"raise it (ip link set {facts.target or 'DEV'} mtu N), or lower that of {facts.interface}",
            )
        case errno.EOVERFLOW:
            return Words(
                "there is not enough room before the packet for the kernel's own data (struct xdp_frame)",
                "bpf_xdp_adjust_head() or bpf_xdp_adjust_meta() took it: leave 40 bytes and more of headroom",
            )
        case errno.ENOSPC:
            if facts.map_type == MapType.XSKMAP:
                return _slow_socket()
            return Words(
                "the queue it was redirected to is full",
                "give the entry of the cpumap a larger qsize, or spread packets over more",
            )
        case errno.ENOBUFS | errno.EAGAIN:
            return _slow_socket()
        case errno.ENOMEM:
            return Words(
                "the kernel had no memory for the packet", "see free memory, vm.min_free_kbytes"
            )
        case errno.ENXIO:
            return Words(
                f"nothing takes packets at {_it(facts)}: {_nobody(facts)}", _receiver(facts)
            )
    return _unknown(facts)


def _invalid(facts: Facts) -> Words:
    if facts.map_type == MapType.XSKMAP:
        return Words(
            "the AF_XDP socket is bound to another interface or queue than the packet came in by",
            "put each socket into the map at the index of the queue that it is bound to",
        )
    if facts.map_type:
        return Words("the kernel did not take the entry of the map as a target")
    value = f" {facts.example}" if facts.alike else f"es such as {facts.example}"
    return Words(
        f"bpf_redirect() was given interface index{value}, and there is none in the network namespace of "
        f"{facts.interface}",
        "ip link lists the indexes; they differ between namespaces, and change when an interface is made anew",
    )


def _cannot(facts: Facts) -> Words:
    if facts.driver == "veth":
        return Words(
            f"{_it(facts)} takes no redirected packets: a veth does only while its other end has a native XDP program",
            _receiver(facts),
        )
    driver = f"its driver {facts.driver}" if facts.driver else "its driver"
    return Words(
        f"{_it(facts)} takes no redirected packets: {driver} has no ndo_xdp_xmit, it is switched off, or not for "
        "packets in several buffers",
        "attach with --mode skb, where packets go the ordinary way; some drivers need an XDP program on the target",
    )


def _slow_socket() -> Words:
    return Words(
        "the AF_XDP socket has no room: its fill ring is empty, or its receive ring full",
        "its process is too slow, or does not give buffers back",
    )


# --- sending --------------------------------------------------------------------------------------------------


def _devmap_xmit(facts: Facts) -> Words:
    match -facts.code:
        case 0:
            return Words(
                f"{_it(facts)} did not take them all: its transmit queue was full, they were longer than its other "
                "side takes, or the program in the map's entry dropped them",
                f"ethtool -S {facts.target or 'DEV'} counts what the driver dropped",
            )
        case errno.ENXIO:
            return Words(
                f"nothing takes packets at {_it(facts)}: {_nobody(facts)}", _receiver(facts)
            )
        case errno.ENETDOWN:
            return Words(f"{_it(facts)} is down, or has no link", _up(facts))
    return _unknown(facts)


def _bulk_tx(facts: Facts) -> Words:
    match -facts.code:
        case 0:
            return Words(
                f"{facts.interface} did not take all of what XDP_TX sends back: the queue of the other side is full",
                f"ethtool -S {facts.interface} counts it",
            )
        case errno.ENXIO:
            return Words(
                f"nothing takes what XDP_TX sends back on {facts.interface}: {_nobody(facts)}",
                _receiver(facts),
            )
        case errno.ENETDOWN:
            return Words(f"{facts.interface} is down, or has no link", _up(facts))
    return _unknown(facts)


def _it(facts: Facts) -> str:
    return facts.target or "the interface it was redirected to"


def _up(facts: Facts) -> str:
    name = facts.target or facts.interface
    if facts.flags is not None and facts.flags & _IFF_UP:
        return f"it is up now; see ip link show {name}"
    return f"ip link set {name} up"


def _nobody(facts: Facts) -> str:
    if facts.driver == "veth":
        return "the other end of a veth has to be up and have a native XDP program"
    return "it has no queue for XDP, or no receiver"


def _receiver(facts: Facts) -> str:
    if facts.driver != "veth":
        return ""
    command = f"netbpf attach xdp {facts.peer or 'PEER --netns NS'} builtin:xdp_count"
    return f"attach one that passes everything to its other end: {command}"


def _unknown(facts: Facts) -> Words:
    import os

    said = os.strerror(-facts.code)
    return Words(f"the kernel says: {said}")
