"""The names of netbpf's own counters (netbpf/include/netbpf/stats.h), which any program may include."""

from netbpf.constants import Hook, TcAction, XdpAction

VERDICTS_MAP = "netbpf_verdicts"
PROTOCOLS_MAP = "netbpf_protos"

# enum netbpf_proto, in order; what is indented there is a part of the family before it.
PROTOCOLS = (
    "ipv4", "ipv6", "arp", "other",
    "ipv4/tcp", "ipv4/udp", "ipv4/icmp", "ipv4/other",
    "ipv6/tcp", "ipv6/udp", "ipv6/icmpv6", "ipv6/other",
    "vlan",
)  # fmt: skip


def verdict_name(hook: Hook, index: int) -> str:
    """The verdict that an index of ``netbpf_verdicts`` stands for, in small letters: "pass", "drop", "shot"."""
    try:
        action = XdpAction(index) if hook is Hook.XDP else TcAction(index - 1)
    except ValueError:
        return str(index)
    return action.name.lower()


def protocol_name(index: int) -> str:
    """The class that an index of ``netbpf_protos`` stands for; its number where this netbpf does not know it."""
    return PROTOCOLS[index] if 0 <= index < len(PROTOCOLS) else str(index)
