"""One interface: what its driver can do for XDP, and what on it or beside it is in the way."""

import os
from typing import Final

from netbpf.constants import Hook
from netbpf.errors import KernelError, NetbpfError
from netbpf.host.finding import Finding, command, ok, problem, warning
from netbpf.manager.status import Records, described
from netbpf.model import Attachment, Interface
from netbpf.net.devices import Device, device, other_end
from netbpf.net.ethtool import Channels, channels, driver, features
from netbpf.net.netdev import RxMetadata, XdpFeature, XdpSupport, xdp_support
from netbpf.net.occupants import occupants
from netbpf.net.remedies import ETHERNET_MTU, JOINING, VETH_RESERVE
from netbpf.net.rtnetlink import Session
from netbpf.text import escape

_UP: Final = 1  # IFF_UP
# Drivers give a packet a page, less headroom (256 bytes) and struct skb_shared_info (320).
_PAGE_RESERVE: Final = 256 + 320 + 14 + 4
_SKB: Final = "attach with --mode skb works with every driver, at more cost per packet"


def checks(session: Session, interface: Interface) -> list[Finding]:
    """All of them. An interface that vanishes meanwhile gives a problem that says so. Raises KernelError."""
    found = device(session, interface.index)
    if found is None:
        return [problem("interface", f"{escape(interface.name)} is gone")]
    support = xdp_support(session, found.ifindex)
    offloads = features(session, found.name)
    lines = [
        state(found), native(session, found, support), frame_size(session, found, support),
        joined(found, {name: (one.on, one.fixed) for name, one in offloads.items()}),
        *queues(session, found, support),
    ]  # fmt: skip
    if found.kind == "veth":
        lines += receiver(session, found, support)
    return [*lines, *programs(session, found)]


def state(found: Device) -> Finding:
    """Whether it is up."""
    if not found.flags & _UP:
        return warning(
            "state of the link", "down", "no program runs on it until it is up",
            command("ip", "link", "set", "dev", found.name, "up"),
        )  # fmt: skip
    if found.operstate in ("down", "lowerlayerdown"):
        other = "; of a veth the other end is down" if found.kind == "veth" else ""
        return warning("state of the link", f"up, but without a carrier{other}", "no packets come")
    return ok("state of the link", "up")


def native(session: Session, found: Device, support: XdpSupport | None) -> Finding:
    """The driver, and whether it runs XDP programs itself."""
    name = driver(session, found.name) or found.kind or "unknown"
    shown = f"driver {escape(name)}"
    if support is None:
        return ok(
            "native XDP",
            f"{shown}; this kernel does not tell what drivers can do (since Linux 6.3)",
        )
    if not support.features & XdpFeature.BASIC:
        why = (
            "the other end sends on more queues than this one receives on"
            if found.kind == "veth"
            else _SKB
        )
        fix = _queues_fix(session, found) if found.kind == "veth" else ()
        return warning("native XDP", f"{shown} has none", why, *fix)
    words = [one.name.lower() for one in XdpFeature if one & support.features and one.name]
    meta = [one.name.lower() for one in RxMetadata if one & support.metadata and one.name]
    told = f"; programs can ask for {', '.join(meta)}" if meta else ""
    return ok("native XDP", f"{shown}: {', '.join(words)}{told}")


def frame_size(session: Session, found: Device, support: XdpSupport | None) -> Finding:
    """The MTU, against what a program without fragments gets: one buffer. Of a veth that is the other end's MTU."""
    page = os.sysconf("SC_PAGE_SIZE")
    frags = support is not None and bool(support.features & XdpFeature.RX_SG)
    name, mtu, limit = found.name, found.mtu, page - _PAGE_RESERVE
    whose = f"MTU {mtu}"
    if found.kind == "veth":
        limit = page - VETH_RESERVE
        other = other_end(session, found)
        if other is None:
            return ok(
                "MTU", f"{whose}; that of the other end, which counts, is not to be seen from here"
            )
        name, mtu = other.name, other.mtu
        whose = f"MTU {found.mtu}, {mtu} at the other end {escape(name)}"
    if mtu <= (limit if found.kind == "veth" else ETHERNET_MTU) or (
        support and not support.features
    ):
        return ok("MTU", f"{whose}; programs without fragments get up to {limit}")
    if found.kind != "veth" and mtu <= limit:
        return ok("MTU", f"{whose}; most drivers give programs without fragments up to {limit}")
    why = 'native XDP needs programs in SEC("xdp.frags") for it' if frags else _SKB
    return warning(
        "MTU", f"{whose}: more than the {limit} of a program without fragments", why,
        command("ip", "link", "set", "dev", name, "mtu", str(limit if found.kind == "veth" else ETHERNET_MTU)),
    )  # fmt: skip


def joined(found: Device, offloads: dict[str, tuple[bool, bool]]) -> Finding:
    """LRO and GRO_HW: the card joins packets, and no program sees the single ones. ``offloads``: on, fixed."""
    on = {
        short: offloads[name][1]
        for name, short in JOINING.items()
        if offloads.get(name, (False,))[0]
    }
    if not on:
        return ok("LRO", "off" if offloads else "the driver does not tell")
    words = " and ".join(on)
    fixed = [short for short, is_fixed in on.items() if is_fixed]
    if fixed:
        why = (
            "most drivers then refuse native XDP; it cannot be switched off here, but by the host of a virtual machine "
            "(QEMU: guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off)"
        )
        return warning("LRO", f"{words} on, and fixed", why)
    off = [part for short in on for part in (short, "off")]
    return warning(
        "LRO", f"{words} on: the card joins packets before a program sees them", "most drivers then refuse native XDP",
        command("ethtool", "-K", found.name, *off),
    )  # fmt: skip


def queues(session: Session, found: Device, support: XdpSupport | None) -> list[Finding]:
    """Channels: how many, and whether native XDP finds queues of its own to send on."""
    own = channels(session, found.name)
    if own is None:
        return [ok("channels", "the driver does not tell")]
    text = _channels_text(own)
    cpus = os.cpu_count() or 1
    if driver(session, found.name) == "virtio_net" and 0 < own.max_combined < own.combined + cpus:
        keep = max(own.max_combined - cpus, 1)
        fix = (
            (command("ethtool", "-L", found.name, "combined", str(keep)),)
            if keep < own.combined
            else ()
        )
        return [
            warning(
                "channels", f"{text}: native XDP wants one more for each of {cpus} CPUs to send on",
                "XDP_TX and redirects then share queues and take a lock, or are refused before Linux 5.13", *fix,
            )
        ]  # fmt: skip
    if (
        found.kind == "veth"
        and support is not None
        and not support.features
        and _queues_fix(session, found)
    ):
        return [
            warning(
                "channels", f"{text}: fewer to receive on than the other end has to send on",
                "the driver then refuses native XDP", *_queues_fix(session, found),
            )
        ]  # fmt: skip
    return [ok("channels", text)]


def _channels_text(own: Channels) -> str:
    if own.combined:
        return f"{own.combined} of {own.max_combined} combined"
    return f"{own.rx} of {own.max_rx} to receive, {own.tx} of {own.max_tx} to send"


def _queues_fix(session: Session, found: Device) -> tuple[str, ...]:
    """More queues here, or where there are none fewer at the other end; nothing where that is out of sight."""
    other = other_end(session, found)
    own, beyond = channels(session, found.name), channels(session, other.name) if other else None
    if other is None or own is None or beyond is None or beyond.tx <= own.rx:
        return ()
    if own.max_rx >= beyond.tx:
        return (command("ethtool", "-L", found.name, "rx", str(beyond.tx)),)
    return (command("ethtool", "-L", other.name, "tx", str(own.rx)),)


def receiver(session: Session, found: Device, support: XdpSupport | None) -> list[Finding]:
    """Whether what is sent by XDP_TX or redirected to a veth arrives: only an end with XDP or GRO takes it."""
    other = other_end(session, found)
    if support is None or not support.features:
        return []
    name = escape(other.name) if other else "in another network namespace"
    if support.features & XdpFeature.NDO_XMIT:
        return [ok("other end", f"{name}: takes what XDP programs send")]
    fix = (command("ethtool", "-K", other.name, "gro", "on"),) if other else ()
    return [
        warning(
            "other end", f"{name}: drops what XDP programs send to it by XDP_TX or redirect",
            "a veth takes such packets only with an XDP program of its own (one that passes all will do), or with GRO "
            "on", *fix,
        )
    ]  # fmt: skip


def programs(session: Session, found: Device) -> list[Finding]:
    """Who runs what on its hooks; foreign programs by their owners' names."""
    try:
        present = list(described(occupants(session, found.ifindex), Records(), None))
    except KernelError:
        raise
    except NetbpfError as error:
        return [warning("programs", f"not told: {error.message}", error.hint or "")]
    if not present:
        return [ok("programs", "none")]
    return [_program(one, found.name) for one in present]


def _program(one: Attachment, name: str) -> Finding:
    hook = one.occupant.hook
    what = f"{hook.value} ({one.occupant.mode.value}): {escape(one.program.name)}, program {one.program.id}"
    if one.managed:
        return ok("programs", f"{what}, attached by netbpf")
    who = f"attached by {one.manager}" if one.manager else "attached by somebody else"
    if hook is not Hook.XDP:
        return ok("programs", f"{what}, {who}; others run beside it")
    return warning(
        "programs", f"{what}, {who}", "an interface has one XDP hook: netbpf attach xdp refuses to take it away",
        command("netbpf", "detach", "xdp", name, "--force"),
    )  # fmt: skip
