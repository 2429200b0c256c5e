"""Rejections about the context: struct xdp_md, struct __sk_buff."""

from collections.abc import Mapping

from netbpf.explain.catalogue.entry import Case, Entry, Facts

# Offsets in struct xdp_md and struct __sk_buff (include/uapi/linux/bpf.h).
_XDP = dict(
    zip(
        range(0, 24, 4),
        "data data_end data_meta ingress_ifindex rx_queue_index egress_ifindex".split(),
        strict=True,
    )
)
_SKB = dict(
    zip(
        range(0, 48, 4),
        "len pkt_type mark queue_mapping protocol vlan_present vlan_tci vlan_proto priority ingress_ifindex ifindex "
        "tc_index".split(),
        strict=True,
    )
) | {
    48: "cb", 68: "hash", 72: "tc_classid", 76: "data", 80: "data_end", 84: "napi_id", 88: "family", 92: "remote_ip4",
    96: "local_ip4", 132: "remote_port", 136: "local_port", 140: "data_meta", 144: "flow_keys", 152: "tstamp",
    160: "wire_len", 164: "gso_segs", 168: "sk", 176: "gso_size", 184: "hwtstamp",
}  # fmt: skip
_FIELDS: Mapping[str, Mapping[int, str]] = {"xdp": _XDP, "tc": _SKB}
_SIZES = {"xdp": 24, "tc": 192}
_ACCESS = r"invalid bpf_context access off=(?P<off>-?\d+) size=(?P<size>\d+)"


def _field(case: Case, facts: Facts) -> dict[str, str]:
    name = _FIELDS.get(case.code.kind, {}).get(int(facts["off"]), "")
    return {
        "field": f"ctx->{name}" if name else f"byte {facts['off']} of the context",
        "name": name,
    }


def _egress(case: Case, facts: Facts) -> Facts | None:
    return (
        {}
        if case.code.kind == "xdp" and facts["off"] == "20" and facts["access"] == "reads"
        else None
    )


def _written(case: Case, facts: Facts) -> Facts | None:
    known = _field(case, facts)
    return known if facts["access"] == "writes" and known["name"] else None


def _any(case: Case, facts: Facts) -> Facts | None:
    known = _field(case, facts)
    off, length, size = int(facts["off"]), int(facts["size"]), _SIZES.get(case.code.kind)
    end = off + length
    known["span"] = f"byte {off}" if length == 1 else f"bytes {off} to {end - 1}"
    if size and (end > size or end <= 0):
        known["problem"] = f"the context has {size} bytes"
    elif known["name"]:
        known["problem"] = (
            f"{known['field']} has another size, or does not exist in {facts['kind']}"
        )
    else:
        known["problem"] = f"no field that {facts['kind']} may use begins there"
    return known


ENTRIES = (
    Entry(
        id="ctx-egress",
        title="The field egress_ifindex outside of devmap programs",
        words="invalid bpf_context access off=20 size=4",
        pattern=_ACCESS,
        reason="ctx->egress_ifindex exists only in programs of a devmap, which run when a packet is sent",
        why="Before a packet is redirected nobody knows where it goes. Programs with section xdp/devmap run in "
        "an entry of a "
        "devmap and see the interface.",
        advice='give the program the section "xdp/devmap", or do without the field',
        code='SEC("xdp/devmap")',
        facts=_egress,
    ),
    Entry(
        id="ctx-read-only",
        title="A field of the context is written that cannot be",
        words="invalid bpf_context access off=12 size=4",
        pattern=_ACCESS,
        reason="{field} cannot be written by {kind}",
        why="XDP programs write nothing of struct xdp_md but rx_queue_index, on hardware; TC programs write "
        "mark, priority, "
        "tc_index, tc_classid, queue_mapping, cb[] and tstamp of struct __sk_buff. The rest is the kernel's.",
        advice="keep the value in a variable or a map; change packets through helpers",
        code="ctx->mark = 1;  /* TC: one of the fields that can be written */",
        facts=_written,
    ),
    Entry(
        id="ctx-access",
        title="The context has no such field, or not of this size",
        words="invalid bpf_context access off=80 size=4",
        pattern=_ACCESS,
        reason="the program {access} {span} of the context, which cannot be: {problem}",
        why="struct xdp_md and struct __sk_buff are no real memory: the kernel replaces accesses to their "
        "fields, each at its "
        "size. Some fields exist for some program types alone.",
        advice="use the fields of struct xdp_md in XDP programs, those of struct __sk_buff in TC programs, at "
        "their size",
        code="__u32 queue = ctx->rx_queue_index;",
        facts=_any,
    ),
    Entry(
        id="ctx-modified",
        title="A moved context pointer is used",
        words="dereference of modified ctx ptr R1 off=4 disallowed",
        pattern=r"dereference of modified ctx ptr|variable ctx access|negative offset ctx ptr|modified ctx ptr",
        reason="the pointer to the context was moved before it is used; only ctx itself and constant offsets work",
        why="Helpers take ctx as it came, and fields are read at offsets that are known when the program is loaded.",
        advice="pass ctx itself, and name fields by constants",
        code="bpf_xdp_adjust_head(ctx, -14);",
    ),
    Entry(
        id="ctx-constant-store",
        title="A constant is stored into the context (kernels before 6.4)",
        words="BPF_ST stores into R1 ctx is not allowed",
        pattern=r"BPF_ST stores into R(?P<reg>\d+) (?:ctx|inv|\w+) is not allowed",
        reason="this kernel takes no instruction that stores a constant into the context",
        why="Compilers for -mcpu=v4 use one; kernels before 6.4 want the constant in a register.",
        advice="compile with -mcpu=v3, or store a variable",
        code='__u32 mark = 1;\nasm volatile("" : "+r"(mark));\nctx->mark = mark;',
    ),
)  # fmt: skip
