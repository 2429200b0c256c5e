"""Why a driver or the kernel's core does not take an XDP program: the kernel's words, and what they mean.

``REFUSALS`` is the catalogue; docs/why-not-attach.md is made from it. The words are those of net/core/dev.c and of
the drivers, Linux 4.19 to 6.18; they change slowly, and what is not known is passed on as the kernel says it.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from netbpf.constants import Mode
from netbpf.errors import HookBusyError, NetbpfError, NotSupportedError, ObjectError
from netbpf.net import remedies
from netbpf.net.remedies import Answer, Scene


@dataclass(frozen=True, slots=True)
class Refusal:
    """One way of refusing: the kernel's ``words`` in full or in part, who says them, what they mean, what helps.

    ``remedy`` and ``meaning`` are general, for the page; ``answer`` puts them into words for one case.
    """

    words: tuple[str, ...]
    by: str
    meaning: str
    remedy: str
    answer: Callable[[Scene], Answer] | None = None
    error: type[NetbpfError] = NotSupportedError
    pattern: str = ""

    def fits(self, words: str) -> bool:
        """Whether the kernel's words are these."""
        if self.pattern:
            return re.search(self.pattern, words) is not None
        return any(one.casefold() in words.casefold() for one in self.words)

    def explained(self, scene: Scene, words: str) -> NetbpfError:
        """The error for one case."""
        general = Answer(self.meaning, self.remedy.replace("`", "").replace("eth0", scene.name))
        meaning, remedy = self.answer(scene) if self.answer else general
        said = f": {words}" if words else ""
        return self.error(f"cannot {scene.action}: {meaning}{said}", hint=remedy)


REFUSALS: Final = (
    Refusal(
        ("Underlying driver does not support XDP in native mode",),
        "every driver without XDP: lo, bridge, dummy, vlan, many of USB and of WLAN",
        "the driver has no native XDP",
        "`--mode skb`, which works with every driver at more cost per packet; of a bridge, attach to its ports",
        remedies.no_native,
    ),
    Refusal(
        ("Peer MTU is too large to set XDP",
         "MTU too large for linear frames and XDP prog does not support frags",
         "XDP: mtu too large", "MTU too large to enable XDP without frags",
         "Jumbo frames are not supported by XDP, current MTU 9000",
         "the current MTU is larger than the maximum allowed MTU"),
        "veth, i40e, ice, netvsc, mana, virtio_net, mvneta, ena and most others",
        "a packet may be larger than the one buffer that a program without fragments gets",
        'build it with `SEC("xdp.frags")` (Linux 5.18), or `--mode skb`, or lower the MTU: '
        "`ip link set dev eth0 mtu N`; of a veth pair it is the MTU of the other end",
        remedies.too_large,
        pattern=r"(?i)\bmtu\b|\bjumbo\b",
    ),
    Refusal(
        ("Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first",
         "XDP: not support LRO", "XDP not supported with HWLRO",
         "can't set XDP while HW-GRO/LRO is on, disable them first"),
        "virtio_net, netvsc, mtk_eth_soc, mlx5 (in the kernel's log)",
        "the network card joins packets (LRO, GRO_HW) before the program could see them",
        "`ethtool -K eth0 lro off`, `ethtool -K eth0 gro-hw off`; where that is fixed in a virtual machine, its host "
        "has to do it (QEMU: `guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off`)",
        remedies.joined,
        pattern=r"LRO\b|GRO_HW|HW-GRO|GUEST_CSUM",
    ),
    Refusal(
        ("XDP expects number of rx queues not less than peer tx queues",),
        "veth",
        "the other end of the veth pair sends on more queues than this end receives on",
        "`ethtool -L eth0 rx N`, or on the other end `ethtool -L peer tx N`",
        remedies.veth_queues,
    ),
    Refusal(
        ("Too few free TX rings available",
         "there is no enough space for allocating XDP queues",
         "ethtool rx/tx channels must be combined to support XDP",
         "Could not allocate Tx resources for XDP",
         "Reserving 8 XDP TXQs leaves under 1 for stack (total 8)"),
        "virtio_net before Linux 5.13, ena, bnxt, ice, enetc",
        "native XDP needs queues of its own to send on, and all are in use",
        "`ethtool -L eth0 combined N` with at most half of what `ethtool -l eth0` shows as maximum, or `--mode skb`",
        remedies.few_channels,
        pattern=r"(?i)tx rings|xdp (?:tx)?queues|channels must be|tx resources for xdp|xdp txqs|number of configured",
    ),
    Refusal(
        ("Cannot attach when an upper device already has a program",),
        "the kernel, for ports of a bridge or bond and below a VLAN",
        "there is an XDP program on the device above",
        "take that one off, or attach there",
        remedies.upper,
        HookBusyError,
    ),
    Refusal(
        ("Slave has XDP program loaded, please unload before enslaving",),
        "bond",
        "a port of the bond has an XDP program of its own",
        "take it off: `netbpf detach xdp PORT --force`; the bond gives its program to all of its ports",
        remedies.port_taken,
        HookBusyError,
    ),
    Refusal(
        ("No native XDP support for the current bonding mode",),
        "bond",
        "native XDP works in the modes balance-rr, active-backup, balance-xor and 802.3ad, and not with the hash "
        "policy vlan+srcmac",
        "change the mode of the bond, or `--mode skb`",
    ),
    Refusal(
        ("Slave device does not support XDP",),
        "bond",
        "a driver of one of the bond's ports has no native XDP",
        "`--mode skb`, or leave that port out",
    ),
    Refusal(
        ("unable to install XDP to device using tcp-data-split",
         "unable to propagate XDP to device using tcp-data-split"),
        "the kernel, since Linux 6.14",
        "the card puts headers and data into separate buffers, which needs a program that takes fragments",
        '`ethtool -G eth0 tcp-data-split off`, or build it with `SEC("xdp.frags")`',
    ),
    Refusal(
        ("unable to install XDP to device using memory provider",
         "unable to propagate XDP to device using memory provider"),
        "the kernel, since Linux 6.12",
        "a queue of the card receives into the memory of an application (devmem TCP, io_uring zero copy), where no "
        "program can read",
        "end that application",
    ),
    Refusal(
        ("BPF_XDP_DEVMAP programs can not be attached to a device",),
        "the kernel",
        "it is a program for the entries of a devmap, by its section xdp/devmap",
        "attach the program that redirects, and name targets with `--redirect`; for an interface it has to be in "
        'SEC("xdp")',
        error=ObjectError,
    ),
    Refusal(
        ("BPF_XDP_CPUMAP programs can not be attached to a device",),
        "the kernel",
        "it is a program for the entries of a cpumap, by its section xdp/cpumap",
        "attach the program that redirects, and name targets with `--redirect`; for an interface it has to be in "
        'SEC("xdp")',
        error=ObjectError,
    ),
    Refusal(
        ("Program bound to different device",
         "Using offloaded program without HW_MODE flag is not supported",
         "using device-bound program without HW_MODE flag is not supported"),
        "the kernel",
        "the program was loaded for another device, or for the hardware of one",
        "load it again for this interface, with `--mode hw` if it is for the hardware",
    ),
    Refusal(
        ("Cannot set XDP when peer is detached",),
        "veth",
        "its other end is being deleted",
        "make the pair anew: `ip link add eth0 type veth peer name eth1`",
    ),
    Refusal(
        ("XDP expects header/data in single page, any_header_sg required",),
        "virtio_net",
        "the host of this virtual machine puts headers into buffers of their own",
        "update the host (virtio 1.0), or `--mode skb`",
    ),
)  # fmt: skip

# To a bpf_link the kernel gives no words, but what veth means is told by its errno (veth_xdp_set).
_VETH: Final = {
    errno.ERANGE: "Peer MTU is too large to set XDP",
    errno.ENOSPC: "XDP expects number of rx queues not less than peer tx queues",
    errno.ENOTCONN: "Cannot set XDP when peer is detached",
}
_ABOVE: Final = "Cannot attach when an upper device already has a program"


class Silent(NamedTuple):
    """What is known where a driver refuses without a word."""

    facts: str
    hint: str | None


def known(scene: Scene) -> NetbpfError | None:
    """The error for a refusal that is in the catalogue, None for another one."""
    words = scene.error.detail
    guess = words
    if not words and scene.device.kind == "veth":
        guess = _VETH.get(scene.error.errno, "")
    if not words and scene.error.errno == errno.EEXIST and remedies.above(scene):
        guess = _ABOVE
    if not guess and scene.error.errno == errno.ERANGE:
        guess = "MTU"
    for one in REFUSALS:
        if guess and one.fits(guess):
            return one.explained(scene, words)
    return None


def silent(scene: Scene) -> Silent:
    """What may be the matter, where a driver has put its reason into the kernel's log, or a link has no words."""
    if scene.link and not scene.error.detail:
        return Silent("", "attach without --link: then the kernel says why")
    if scene.mode is not Mode.NATIVE:
        return Silent("", None)
    facts, ways = [], []
    if not scene.error.detail:
        ways.append("dmesg | tail may show the driver's reason")
        if joining := remedies.joining(scene):
            facts.append(f"{' and '.join(joining)} {'is' if len(joining) == 1 else 'are'} on")
            ways.append(f"try {remedies.switch_off(scene, joining)}")
        if scene.device.mtu > remedies.ETHERNET_MTU:
            facts.append(f"its MTU is {scene.device.mtu}")
            ways.append(f"try ip link set dev {scene.name} mtu {remedies.ETHERNET_MTU}")
    ways.append(remedies.SKB)
    return Silent("; ".join(facts), "; ".join(ways))
