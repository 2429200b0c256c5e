"""The next command after a refusal, with the right names and numbers: read from the interface and those around it."""

import os
import re
from typing import Final, NamedTuple

from netbpf.constants import Mode
from netbpf.errors import KernelError
from netbpf.model import Interface
from netbpf.net.devices import Device, devices, other_end
from netbpf.net.ethtool import channels, driver, features
from netbpf.net.failures import program_label, shown
from netbpf.net.rtnetlink import Session
from netbpf.text import escape, word

# What a veth keeps free in a page for XDP: headroom, struct skb_shared_info, the Ethernet header
# (drivers/net/veth.c veth_xdp_set). The limit is on the MTU of the other end, which fills our buffers.
VETH_RESERVE: Final = 256 + 320 + 14
_LEAST_MTU: Final = 68  # of IPv4
ETHERNET_MTU: Final = 1500
_LIMIT: Final = re.compile(r"(?i)(?<!buf_)(?:max\w*|than|limit\w*|exceeds?|>)\D{0,12}?(\d{2,5})\b")
SKB: Final = "--mode skb works with every driver, at more cost per packet"
# The kernel's names of offloads that join packets, and ethtool -K's names for them.
JOINING: Final = {"rx-lro": "lro", "rx-gro-hw": "gro-hw"}
_ON_TOP: Final = frozenset({"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"})


class Scene(NamedTuple):
    """A refused attachment: ``device`` as it is now, ``action`` in words, ``link`` for a bpf_link."""

    session: Session
    interface: Interface
    device: Device
    mode: Mode
    action: str
    error: KernelError
    link: bool = False

    @property
    def name(self) -> str:
        """The interface's name, as a word of a command."""
        return word(self.interface.name)


class Answer(NamedTuple):
    """Why it was refused, and what to do next."""

    meaning: str
    remedy: str


def driver_words(session: Session, name: str) -> str:
    """``the driver veth``, or ``its driver`` where it does not say."""
    found = driver(session, name)
    return f"the driver {escape(found)}" if found else "its driver"


def no_native(scene: Scene) -> Answer:
    """The driver has no ndo_bpf; what is made of other interfaces has ports that may."""
    ports = [word(one.name) for one in devices(scene.session) if one.master == scene.device.ifindex]
    remedy = SKB
    if ports:
        listed = ",".join(sorted(ports)[:8])
        remedy += f"; or attach to what it is made of: netbpf attach xdp {listed} ..."
    return Answer(f"{driver_words(scene.session, scene.interface.name)} refuses it", remedy)


def too_large(scene: Scene) -> Answer:
    """The MTU, its limit, and the three ways out."""
    found, subject, name = scene.device, "its MTU", scene.name
    mtu, limit = found.mtu, _limit(scene.error.detail, found.mtu)
    if found.kind == "veth":
        limit = os.sysconf("SC_PAGE_SIZE") - VETH_RESERVE
        other = veth_peer(scene)
        if other is not None:
            mtu, subject = other.mtu, f"the MTU of its other end {escape(other.name)}"
            name = word(other.name)
        else:
            mtu, subject, name = 0, "the MTU of its other end", "PEER"
    size = f" ({mtu} bytes)" if mtu else ""
    at_most = f" to at most {limit}" if limit else ""
    return Answer(
        f"{subject}{size} is too large for a program without fragments",
        'build it with SEC("xdp.frags") (Linux 5.18), or use --mode skb, '
        f"or lower {subject}{at_most}: ip link set dev {name} mtu {limit or ETHERNET_MTU}",
    )


def _limit(words: str, mtu: int) -> int:
    """The largest MTU that the kernel's words allow, 0 where they do not say."""
    match = _LIMIT.search(words)
    limit = int(match[1]) if match else 0
    return limit if _LEAST_MTU <= limit < mtu else 0


def veth_peer(scene: Scene) -> Device | None:
    """The other end, if it is in this namespace."""
    return other_end(scene.session, scene.device)


def joining(scene: Scene) -> list[str]:
    """The offloads that join packets and are on, by ethtool's names; empty if that cannot be read."""
    found = features(scene.session, scene.interface.name)
    return [short for name, short in JOINING.items() if name in found and found[name].on]


def switch_off(scene: Scene, names: list[str]) -> str:
    """The command that switches offloads off."""
    return f"ethtool -K {scene.name} {' '.join(f'{name} off' for name in names)}"


def joined(scene: Scene) -> Answer:
    """LRO, GRO_HW and, of virtio, the checksum offload that implies them."""
    words = scene.error.detail
    found = features(scene.session, scene.interface.name)
    wanted = dict(JOINING) | ({"rx-checksum": "rx"} if "CSUM" in words else {})
    on = [short for name, short in wanted.items() if name in found and found[name].on]
    fixed = [
        wanted[name] for name in wanted if name in found and found[name].on and found[name].fixed
    ]
    what = "packets are joined by the card (LRO, GRO_HW) before a program could see them"
    if fixed:
        return Answer(
            f"{what}, and {' and '.join(fixed)} cannot be switched off here",
            "the host of this virtual machine has to (QEMU: "
            "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off), or use --mode skb",
        )
    said = [short for mark, short in (("LRO", "lro"), ("GRO", "gro-hw")) if mark in words]
    return Answer(what, f"{switch_off(scene, on or said or ['lro'])}; or use --mode skb")


def veth_queues(scene: Scene) -> Answer:
    """Every queue the other end sends on needs one here that receives."""
    own, other = channels(scene.session, scene.interface.name), veth_peer(scene)
    rx = own.rx if own else 1
    beyond = channels(scene.session, other.name) if other else None
    if own is None or other is None or beyond is None:
        return Answer(
            f"its other end sends on more queues than the {rx} it receives on",
            f"on the other end: ethtool -L PEER tx {rx}; or use --mode skb",
        )
    lower = f"ethtool -L {word(other.name)} tx {rx}"
    more = f"ethtool -L {scene.name} rx {beyond.tx}"
    queues = f"{rx} queue{'s' if rx > 1 else ''}"
    return Answer(
        f"it receives on {queues}, and its other end {escape(other.name)} sends on {beyond.tx}",
        f"{more}; or use --mode skb" if own.max_rx >= beyond.tx else f"{lower}; or use --mode skb",
    )


def _channels_to_keep(scene: Scene) -> int:
    """How many combined channels to keep: virtio_net takes one for each CPU, others as many as there are."""
    found = channels(scene.session, scene.interface.name)
    if found is None or not found.max_combined:
        return 0
    if driver(scene.session, scene.interface.name) == "virtio_net":
        return max(found.max_combined - (os.cpu_count() or 1), 0)
    return found.max_combined // 2


def few_channels(scene: Scene) -> Answer:
    """Queues for sending are missing."""
    found = channels(scene.session, scene.interface.name)
    in_use = ""
    if found is not None:
        most = found.max_combined or found.max_tx
        in_use = f" ({found.combined or found.tx} of {most} in use)"
    number = _channels_to_keep(scene)
    what = f"native XDP needs queues of its own to send on, and too few are free{in_use}"
    if "must be combined" in scene.error.detail:
        number = number or 1
        return Answer(
            "its queues to receive and to send are separate, and native XDP needs combined ones",
            f"ethtool -L {scene.name} rx 0 tx 0 combined {number}; or use --mode skb",
        )
    if number:
        return Answer(what, f"ethtool -L {scene.name} combined {number}; or use --mode skb")
    return Answer(
        what, "use --mode skb, or give it more queues (in a virtual machine, its host does)"
    )


def above(scene: Scene) -> Device | None:
    """A device over this one, at any height, with an XDP program: a bridge or bond it is a port of, a VLAN on it."""
    present = devices(scene.session)
    seen, todo = {scene.device.ifindex}, [scene.device]
    while todo:
        lower = todo.pop()
        for one in present:
            over = one.ifindex == lower.master or (
                one.kind in _ON_TOP and one.peer == lower.ifindex
            )
            if over and one.ifindex not in seen:
                if one.xdp:
                    return one
                seen.add(one.ifindex)
                todo.append(one)
    return None


def upper(scene: Scene) -> Answer:
    """The kernel takes programs above or below, not both (net/core/dev.c dev_xdp_attach)."""
    found = above(scene)
    if found is None:
        return Answer(
            "a device above it, perhaps in another namespace, has an XDP program",
            "take that one off, or attach there: netbpf status --all-netns",
        )
    program = found.xdp[0]
    return Answer(
        f"{program_label(program.prog_id)} ({program.mode}) is on {escape(found.name)}, which "
        f"{shown(scene.interface)} is part of",
        f"take it off: netbpf detach xdp {word(found.name)} --force; or attach to {word(found.name)}",
    )


def port_taken(scene: Scene) -> Answer:
    """A bond puts its program onto each port, so none may have one."""
    for one in devices(scene.session):
        if one.master == scene.device.ifindex and one.xdp:
            return Answer(
                f"its port {escape(one.name)} has {program_label(one.xdp[0].prog_id)}",
                f"take it off: netbpf detach xdp {word(one.name)} --force",
            )
    return Answer("a port of the bond has an XDP program", "netbpf status shows which; take it off")
