"""What kind of program a function is: by its section name, by the type of its context, by common habit.

The names of the first table are those of libbpf (docs/program_types.rst); the others are what public objects use.
"""

import re
from dataclasses import dataclass

from netbpf.bpf.btf.types import Btf, Kind
from netbpf.constants import AttachType, Hook, ProgFlag, ProgType


@dataclass(frozen=True, slots=True)
class Declared:
    """What a section name says. ``direction`` is "ingress", "egress" or "" where it says nothing."""

    type: ProgType
    attach_type: AttachType = AttachType.NONE
    flags: int = 0
    direction: str = ""


_XDP = Declared(ProgType.XDP, AttachType.XDP)
_FRAGS = Declared(ProgType.XDP, AttachType.XDP, ProgFlag.XDP_HAS_FRAGS)
_TC = Declared(ProgType.SCHED_CLS)
_KNOWN = {
    "xdp": _XDP,
    "xdp.frags": _FRAGS,
    "xdp/devmap": Declared(ProgType.XDP, AttachType.XDP_DEVMAP),
    "xdp_devmap": Declared(ProgType.XDP, AttachType.XDP_DEVMAP),
    "xdp.frags/devmap": Declared(ProgType.XDP, AttachType.XDP_DEVMAP, ProgFlag.XDP_HAS_FRAGS),
    "xdp/cpumap": Declared(ProgType.XDP, AttachType.XDP_CPUMAP),
    "xdp_cpumap": Declared(ProgType.XDP, AttachType.XDP_CPUMAP),
    "xdp.frags/cpumap": Declared(ProgType.XDP, AttachType.XDP_CPUMAP, ProgFlag.XDP_HAS_FRAGS),
    "tc": _TC,
    "classifier": _TC,
    "tc/ingress": Declared(ProgType.SCHED_CLS, direction="ingress"),
    "tc/egress": Declared(ProgType.SCHED_CLS, direction="egress"),
    "tcx/ingress": Declared(ProgType.SCHED_CLS, direction="ingress"),
    "tcx/egress": Declared(ProgType.SCHED_CLS, direction="egress"),
    "netkit/primary": _TC,
    "netkit/peer": _TC,
    "action": Declared(ProgType.SCHED_ACT),
}
# Sections of other program types: a program in one of them never fits an XDP or TC hook.
_OTHER = {
    "kprobe": ProgType.KPROBE, "kretprobe": ProgType.KPROBE, "uprobe": ProgType.KPROBE, "uretprobe": ProgType.KPROBE,
    "ksyscall": ProgType.KPROBE, "kretsyscall": ProgType.KPROBE, "usdt": ProgType.KPROBE,
    "tp": ProgType.TRACEPOINT, "tracepoint": ProgType.TRACEPOINT, "raw_tp": ProgType.RAW_TRACEPOINT,
    "raw_tracepoint": ProgType.RAW_TRACEPOINT, "tp_btf": ProgType.TRACING, "fentry": ProgType.TRACING,
    "fexit": ProgType.TRACING, "fmod_ret": ProgType.TRACING, "iter": ProgType.TRACING, "lsm": ProgType.LSM,
    "lsm_cgroup": ProgType.LSM, "perf_event": ProgType.PERF_EVENT, "freplace": ProgType.EXT,
    "socket": ProgType.SOCKET_FILTER, "socket_filter": ProgType.SOCKET_FILTER, "sk_reuseport": ProgType.SK_REUSEPORT,
    "sk_skb": ProgType.SK_SKB, "sk_msg": ProgType.SK_MSG, "sk_lookup": ProgType.SK_LOOKUP,
    "sockops": ProgType.SOCK_OPS, "flow_dissector": ProgType.FLOW_DISSECTOR, "cgroup_skb": ProgType.CGROUP_SKB,
    "cgroup": ProgType.CGROUP_SOCK, "lwt_in": ProgType.LWT_IN, "lwt_out": ProgType.LWT_OUT,
    "lwt_xmit": ProgType.LWT_XMIT, "lwt_seg6local": ProgType.LWT_SEG6LOCAL, "lirc_mode2": ProgType.LIRC_MODE2,
    "struct_ops": ProgType.STRUCT_OPS, "syscall": ProgType.SYSCALL, "netfilter": ProgType.NETFILTER,
}  # fmt: skip
_FIRST_WORD = re.compile(r"[a-z0-9_]*?(?=\d*(?:[/.+]|$))")
_CONTEXTS = {"xdp_md": _XDP, "__sk_buff": _TC}
UNKNOWN = Declared(ProgType.UNSPEC)


def declared(section: str, btf: Btf | None, func_type_id: int | None) -> Declared:
    """What a program is; UNKNOWN where neither its section nor its context type tells."""
    name = section.removeprefix("?")  # SEC("?xdp"): libbpf does not load it unless asked
    if name in _KNOWN:
        return _KNOWN[name]
    word = _FIRST_WORD.match(name)
    if word and word[0] in _OTHER:
        return Declared(_OTHER[word[0]])
    by_name = _by_habit(name)
    by_context = _context(btf, func_type_id)
    if by_context is None:
        return by_name
    # The context's type is what the compiler checked; the name may still add a direction or frags.
    return by_name if by_name.type == by_context.type else by_context


def _by_habit(name: str) -> Declared:
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if any(word.startswith("xdp") for word in words):
        return _FRAGS if "frags" in words else _XDP
    direction = next((word for word in ("ingress", "egress") if word in words), "")
    if direction or words & {"tc", "cls", "classifier", "act", "clsact", "tcx", "sched"}:
        return Declared(ProgType.SCHED_CLS, direction=direction)
    return UNKNOWN


def _context(btf: Btf | None, func_type_id: int | None) -> Declared | None:
    if btf is None or func_type_id is None:
        return None
    function = btf.type(func_type_id)
    if function.kind is not Kind.FUNC:
        return None
    prototype = btf.type(function.size_or_type)
    params = btf.params(prototype) if prototype.kind is Kind.FUNC_PROTO else []
    pointer = btf.resolve(params[0].type_id) if params else None
    if pointer is None or pointer.kind is not Kind.PTR:
        return None
    return _CONTEXTS.get(btf.resolve(pointer.size_or_type).name)


def fits(kind: Declared, hook: Hook) -> bool:
    """Whether a program of that kind can be meant for a hook. Programs of devmap and cpumap entries cannot."""
    if kind.type is ProgType.UNSPEC:
        return True
    if kind.attach_type in (AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP):
        return False
    # SCHED_ACT programs have the same context and verdicts, and the kernel loads them as classifiers as well.
    wanted = {ProgType.XDP} if hook is Hook.XDP else {ProgType.SCHED_CLS, ProgType.SCHED_ACT}
    return kind.type in wanted
