"""The hook that a section name spells out in full: what ``netbpf attach auto`` goes by.

The names are libbpf's (docs/program_types.rst in its repository); how each gets to its hook is the kernel's matter
(kernel/bpf/syscall.c, link_create).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from netbpf.constants import AttachType, ProgFlag, ProgType


class Way(StrEnum):
    """How a program gets to its hook."""

    TRACEPOINT = "tracepoint"
    RAW_TRACEPOINT = "raw tracepoint"
    TYPED = "function"  # of the kernel, by its BTF: fentry, fexit, fmod_ret, lsm, tp_btf
    KPROBE = "kprobe"
    KPROBE_MULTI = "kprobes"
    CGROUP = "cgroup"
    NETNS = "network namespace"
    ITERATOR = "iterator"
    HELD = ""  # loaded and pinned: a process or another tool puts it where it belongs
    INTERFACE = "interface"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Target:
    """Program type, attach type and hook of a program. ``name`` is what follows in the section: ``sched/sched_switch``.

    ``btf_name`` is the kernel type or function whose BTF id the program is loaded with, "" for others; ``missing``
    says what a section lacks, or why no tool could attach it by its section alone. For ``Way.HELD`` ``name`` is what a
    process has to have.
    """

    way: Way
    type: ProgType
    attach_type: AttachType = AttachType.NONE
    name: str = ""
    btf_name: str = ""
    flags: int = 0
    returning: bool = False
    missing: str = ""

    @property
    def expected(self) -> AttachType:
        """``expected_attach_type`` of BPF_PROG_LOAD: none for what is attached to a performance event."""
        return AttachType.NONE if self.attach_type is AttachType.PERF_EVENT else self.attach_type


def _cgroup(type_: ProgType, **sections: AttachType) -> dict[str, tuple[ProgType, AttachType]]:
    return {f"cgroup/{name}": (type_, attach) for name, attach in sections.items()}


_A, _P = AttachType, ProgType
_CGROUP = {
    "cgroup_skb/ingress": (_P.CGROUP_SKB, _A.CGROUP_INET_INGRESS),
    "cgroup_skb/egress": (_P.CGROUP_SKB, _A.CGROUP_INET_EGRESS),
    "sockops": (_P.SOCK_OPS, _A.CGROUP_SOCK_OPS),
    **_cgroup(_P.CGROUP_SKB, skb=_A.CGROUP_INET_INGRESS),
    **_cgroup(_P.CGROUP_DEVICE, dev=_A.CGROUP_DEVICE),
    **_cgroup(_P.CGROUP_SYSCTL, sysctl=_A.CGROUP_SYSCTL),
    **_cgroup(_P.CGROUP_SOCKOPT, getsockopt=_A.CGROUP_GETSOCKOPT, setsockopt=_A.CGROUP_SETSOCKOPT),
    **_cgroup(
        _P.CGROUP_SOCK, sock=_A.CGROUP_INET_SOCK_CREATE, sock_create=_A.CGROUP_INET_SOCK_CREATE,
        sock_release=_A.CGROUP_INET_SOCK_RELEASE, post_bind4=_A.CGROUP_INET4_POST_BIND,
        post_bind6=_A.CGROUP_INET6_POST_BIND,
    ),
    **_cgroup(
        _P.CGROUP_SOCK_ADDR, bind4=_A.CGROUP_INET4_BIND, bind6=_A.CGROUP_INET6_BIND,
        connect4=_A.CGROUP_INET4_CONNECT, connect6=_A.CGROUP_INET6_CONNECT, connect_unix=_A.CGROUP_UNIX_CONNECT,
        sendmsg4=_A.CGROUP_UDP4_SENDMSG, sendmsg6=_A.CGROUP_UDP6_SENDMSG, sendmsg_unix=_A.CGROUP_UNIX_SENDMSG,
        recvmsg4=_A.CGROUP_UDP4_RECVMSG, recvmsg6=_A.CGROUP_UDP6_RECVMSG, recvmsg_unix=_A.CGROUP_UNIX_RECVMSG,
        getpeername4=_A.CGROUP_INET4_GETPEERNAME, getpeername6=_A.CGROUP_INET6_GETPEERNAME,
        getpeername_unix=_A.CGROUP_UNIX_GETPEERNAME, getsockname4=_A.CGROUP_INET4_GETSOCKNAME,
        getsockname6=_A.CGROUP_INET6_GETSOCKNAME, getsockname_unix=_A.CGROUP_UNIX_GETSOCKNAME,
    ),
}  # fmt: skip
_TRACING = {
    "fentry": _A.TRACE_FENTRY, "fexit": _A.TRACE_FEXIT, "fmod_ret": _A.MODIFY_RETURN, "tp_btf": _A.TRACE_RAW_TP,
}  # fmt: skip
# A process, or another tool, puts these where they run, by the pin: nothing else says where that would be.
_HELD = {
    "socket": (_P.SOCKET_FILTER, _A.NONE, "socket"),
    "socket_filter": (_P.SOCKET_FILTER, _A.NONE, "socket"),
    "sk_reuseport": (_P.SK_REUSEPORT, _A.SK_REUSEPORT_SELECT, "group of sockets"),
    "sk_reuseport/migrate": (_P.SK_REUSEPORT, _A.SK_REUSEPORT_SELECT_OR_MIGRATE, "group of sockets"),
    "sk_skb": (_P.SK_SKB, _A.NONE, "map of sockets"),
    "sk_skb/stream_parser": (_P.SK_SKB, _A.SK_SKB_STREAM_PARSER, "map of sockets"),
    "sk_skb/stream_verdict": (_P.SK_SKB, _A.SK_SKB_STREAM_VERDICT, "map of sockets"),
    "sk_skb/verdict": (_P.SK_SKB, _A.SK_SKB_VERDICT, "map of sockets"),
    "sk_msg": (_P.SK_MSG, _A.SK_MSG_VERDICT, "map of sockets"),
    "lwt_in": (_P.LWT_IN, _A.NONE, "route"),
    "lwt_out": (_P.LWT_OUT, _A.NONE, "route"),
    "lwt_xmit": (_P.LWT_XMIT, _A.NONE, "route"),
    "lwt_seg6local": (_P.LWT_SEG6LOCAL, _A.NONE, "route"),
    "perf_event": (_P.PERF_EVENT, _A.NONE, "performance event"),
    "lirc_mode2": (_P.LIRC_MODE2, _A.LIRC_MODE2, "infrared device"),
    "syscall": (_P.SYSCALL, _A.NONE, "process that runs it"),
    "netfilter": (_P.NETFILTER, _A.NETFILTER, "netfilter hook"),
    "uprobe": (_P.KPROBE, _A.NONE, "probe of a binary"),
    "uretprobe": (_P.KPROBE, _A.NONE, "probe of a binary"),
    "usdt": (_P.KPROBE, _A.NONE, "probe of a binary"),
}  # fmt: skip
_NETNS = {
    "flow_dissector": (_P.FLOW_DISSECTOR, _A.FLOW_DISSECTOR),
    "sk_lookup": (_P.SK_LOOKUP, _A.SK_LOOKUP),
}
# Kinds that a section alone neither loads nor attaches, whatever tool: what else they need.
_NEED_MORE = {
    "freplace": "the program whose function it replaces", "struct_ops": "a map of operations that is registered",
}  # fmt: skip
_HEAD = re.compile(r"[^/+]+")


def target(section: str) -> Target | None:
    """The hook a section names, or None where it is for a network interface, or says nothing at all."""
    name = section.removeprefix("?")
    for table, way in ((_CGROUP, Way.CGROUP), (_NETNS, Way.NETNS)):
        if name in table:
            return Target(way, *table[name])
    found = _HEAD.match(name)
    head = found[0] if found else ""
    # flow_dissector/name, socket1: some endings say nothing.
    if head == "flow_dissector":
        return Target(Way.NETNS, *_NETNS[head])
    if held := _HELD.get(name) or _HELD.get(head.partition(".")[0].rstrip("0123456789")):
        sleepable = ProgFlag.SLEEPABLE if held[0] is _P.SYSCALL or head.endswith(".s") else 0
        return Target(Way.HELD, held[0], held[1], held[2], flags=int(sleepable))
    rest = name[len(head) :].lstrip("/+")
    return _traced(head, rest)


def _traced(head: str, rest: str) -> Target | None:
    base, _, option = head.partition(".")
    flags = int(ProgFlag.SLEEPABLE) if option == "s" else 0
    if base in ("tp", "tracepoint"):
        lacking = "" if rest.count("/") == 1 else "a tracepoint: tracepoint/CATEGORY/NAME"
        return Target(Way.TRACEPOINT, _P.TRACEPOINT, _A.PERF_EVENT, rest, missing=lacking)
    if base in ("raw_tp", "raw_tracepoint"):
        kind = _P.RAW_TRACEPOINT_WRITABLE if option == "w" else _P.RAW_TRACEPOINT
        return Target(
            Way.RAW_TRACEPOINT, kind, name=rest, missing=_unless(rest, "a tracepoint: raw_tp/NAME")
        )
    if base in _TRACING:
        btf_name = ("btf_trace_" if base == "tp_btf" else "") + rest
        lacking = _unless(rest, f"what to trace: {base}/NAME")
        return Target(Way.TYPED, _P.TRACING, _TRACING[base], rest, btf_name, flags, missing=lacking)
    if base == "lsm":
        return Target(
            Way.TYPED, _P.LSM, _A.LSM_MAC, rest, "bpf_lsm_" + rest, flags,
            missing=_unless(rest, "a security hook: lsm/NAME"),
        )  # fmt: skip
    if base == "lsm_cgroup":
        return Target(
            Way.CGROUP, _P.LSM, _A.LSM_CGROUP, rest, "bpf_lsm_" + rest,
            missing=_unless(rest, "a security hook: lsm_cgroup/NAME"),
        )  # fmt: skip
    if base == "iter":
        return Target(
            Way.ITERATOR, _P.TRACING, _A.TRACE_ITER, rest, "bpf_iter_" + rest, flags,
            missing=_unless(rest, "what to go through: iter/NAME"),
        )  # fmt: skip
    if base in ("kprobe", "kretprobe", "ksyscall", "kretsyscall"):
        return _kprobe(base, option, rest)
    if base in _NEED_MORE:
        return Target(Way.NONE, _P.UNSPEC, name=rest, missing=_NEED_MORE[base])
    return None


def _kprobe(base: str, option: str, rest: str) -> Target:
    returning = base.startswith("kret")
    lacking = _unless(rest, f"a function: {base}/NAME")
    if option == "multi":
        kind = _A.TRACE_KPROBE_MULTI
        return Target(Way.KPROBE_MULTI, _P.KPROBE, kind, rest, returning=returning, missing=lacking)
    name = rest
    if base.endswith("syscall"):
        # libbpf does the same: the kernel's wrappers have a prefix per architecture.
        name = f"syscall:{rest}"
    return Target(Way.KPROBE, _P.KPROBE, _A.PERF_EVENT, name, returning=returning, missing=lacking)


def _unless(name: str, lacking: str) -> str:
    return "" if name else lacking
