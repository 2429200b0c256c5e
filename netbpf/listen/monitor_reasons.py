"""Why the kernel dropped an skb: the names of the running kernel, and what the most common ones mean.

The numbers differ from one kernel to the next, so names come from the kernel's own BTF. Their meanings are those of
include/net/dropreason-core.h.
"""

from typing import Final

from netbpf.bpf.btf.types import Btf, Kind
from netbpf.constants import Hook
from netbpf.listen.monitor_causes import Words

_PREFIX: Final = "SKB_DROP_REASON_"
_UNSAID: Final = "NOT_SPECIFIED"
_SUBSYSTEM: Final = "SKB_DROP_REASON_SUBSYS_"
# Who drops at which reason: the programs on that hook.
_HOOKS: Final = {"XDP": Hook.XDP, "TC_INGRESS": Hook.TC_INGRESS, "TC_EGRESS": Hook.TC_EGRESS}


class Reasons:
    """Numbers and names of the running kernel."""

    def __init__(self, btf: Btf) -> None:
        self._names = _enumerators(btf, "skb_drop_reason", _PREFIX)
        self._subsystems = _enumerators(btf, "skb_drop_reason_subsys", _SUBSYSTEM)

    def name(self, number: int) -> str:
        """``NO_SOCKET``; ``MAC80211_UNUSABLE 3`` for those of a part that keeps its own; else the number."""
        number &= 0xFFFFFFFF
        if number in self._names:
            return self._names[number]
        part = self._subsystems.get(number >> 16) if number >> 16 else None
        return f"{part} {number & 0xFFFF}" if part else str(number)


def hook_of(reason: str, function: str) -> Hook | None:
    """The hook whose programs drop for a reason. Drivers give none for what XDP drops: their function tells."""
    if reason == _UNSAID and "xdp" in function:
        return Hook.XDP
    return _HOOKS.get(reason)


def _enumerators(btf: Btf, name: str, prefix: str) -> dict[int, str]:
    found = btf.find(name, Kind.ENUM, Kind.ENUM64)
    if not found:
        return {}
    return {number: word.removeprefix(prefix) for word, number in btf.enumerators(found[0])}


def words(reason: str, *, function: str, interface: str, programs: int) -> Words:
    """What a reason means. ``programs`` is how many are on the hook that drops for it."""
    if reason in _HOOKS or hook_of(reason, function):
        return _program(reason, programs)
    if reason == _UNSAID:
        return Words(f"{function or 'the kernel'} dropped it and gave no reason")
    known = _MEANINGS.get(reason)
    if known:
        return Words(known[0], known[1].replace("DEV", interface or "DEV"))
    said = reason.replace("_", " ").lower()
    return Words(f"{function or 'the kernel'} dropped it: {said}")


def _program(reason: str, programs: int) -> Words:
    if reason in ("XDP", _UNSAID):
        return Words(
            "XDP dropped it: the program returned XDP_DROP, or what xdp_exception or xdp_redirect_err tells of"
        )
    direction = "in" if reason == "TC_INGRESS" else "out"
    if programs:
        return Words(f"a TC program dropped it on its way {direction} (TC_ACT_SHOT or similar)")
    return Words(f"a filter of tc(8) dropped it on its way {direction}")


_MEANINGS: Final = {
    "NO_SOCKET": ("nobody listens on the port it was for", "see: ss -lntu"),
    "SOCKET_FILTER": ("the filter of the socket dropped it", ""),
    "SOCKET_RCVBUFF": ("the receive buffer of the socket was full", "its process is too slow, or the buffer small"),
    "SOCKET_BACKLOG": ("the backlog of the socket was full", "its process is too slow"),
    "PKT_TOO_SMALL": ("it was shorter than its headers say", "where a program changes lengths, see that they agree"),
    "HDR_TRUNC": ("its headers were cut off", "where a program changes lengths, see that they agree"),
    "PKT_TOO_BIG": ("it was longer than the MTU", "see the MTU on its way: ip link show DEV"),
    "TCP_CSUM": ("its TCP checksum was wrong", "who changes a packet has to correct it: bpf_l4_csum_replace()"),
    "UDP_CSUM": ("its UDP checksum was wrong", "who changes a packet has to correct it: bpf_l4_csum_replace()"),
    "IP_CSUM": ("its IP checksum was wrong", "who changes a header has to correct it: bpf_l3_csum_replace()"),
    "ICMP_CSUM": ("its ICMP checksum was wrong", "who changes a packet has to correct it: bpf_csum_diff()"),
    "SKB_CSUM": ("its checksum was wrong", "who changes a packet has to correct it"),
    "IP_INHDR": ("its IP header was wrong (version, length)", "who writes headers has to write them right"),
    "OTHERHOST": ("its destination MAC address is not that of DEV", "who forwards has to write that of the next hop"),
    "IP_RPFILTER": ("its answer would go elsewhere (reverse path filter)", "see: sysctl net.ipv4.conf.DEV.rp_filter"),
    "IP_NOPROTO": ("nothing takes its IP protocol", ""),
    "IP_INNOROUTES": ("there is no route for what came in", "see: ip route get"),
    "IP_OUTNOROUTES": ("there is no route for what goes out", "see: ip route get"),
    "IP_INADDRERRORS": ("it is neither for this host nor forwarded", "see: sysctl net.ipv4.conf.DEV.forwarding"),
    "IP_LOCAL_SOURCE": ("its source is an address of this host", ""),
    "IP_INVALID_SOURCE": ("its source address cannot be one", ""),
    "IP_INVALID_DEST": ("its destination address cannot be one", ""),
    "UNICAST_IN_L2_MULTICAST": ("a multicast frame held a unicast packet", ""),
    "UNHANDLED_PROTO": ("nothing takes its EtherType", ""),
    "IPV6DISABLED": ("IPv6 is switched off on DEV", "see: sysctl net.ipv6.conf.DEV.disable_ipv6"),
    "NETFILTER_DROP": ("a rule of nftables or iptables dropped it", "see: nft list ruleset"),
    "NEIGH_FAILED": ("the next hop did not answer (ARP, neighbour discovery)", "see: ip neigh show dev DEV"),
    "NEIGH_QUEUEFULL": ("too many waited for the next hop to answer", "see: ip neigh show dev DEV"),
    "QDISC_DROP": ("the queue discipline dropped it", "see: tc -s qdisc show dev DEV"),
    "QDISC_OVERLIMIT": ("the queue discipline was over its limit", "see: tc -s qdisc show dev DEV"),
    "CPU_BACKLOG": ("the backlog of the CPU was full", "see: sysctl net.core.netdev_max_backlog"),
    "FULL_RING": ("the ring of the device was full: its other side is too slow", ""),
    "DEV_READY": ("DEV is not ready: down, or being taken away", "ip link set DEV up"),
    "DEV_HDR": ("DEV could not make its header", ""),
    "NOMEM": ("there was no memory", "see free memory"),
    "TC_CHAIN_NOTFOUND": ("a filter of tc(8) goes to a missing chain", "see: tc filter show dev DEV ingress"),
    "TC_RECLASSIFY_LOOP": ("filters of tc(8) sent it in circles", "see: tc filter show dev DEV ingress"),
    "RECURSION_LIMIT": ("it went through too many devices that send it on", "see that nothing goes in circles"),
}  # fmt: skip
