"""Rejections about packet data."""

from netbpf.explain import story, values
from netbpf.explain.catalogue.entry import Case, Entry, Facts

_ACCESS = (
    r"invalid access to packet, off=(?P<off>-?\d+) size=(?P<size>\d+), "
    r"R(?P<reg>\d+)\(id=(?P<id>\d+),off=-?\d+,r=(?P<checked>\d+)\)"
)
_NUMBER_AS_POINTER = (
    r"R(?P<reg>\d+) (?:invalid mem access '(?:scalar|inv)'|type=(?:scalar|inv) expected=|!read_ok)"
)
_PACKET = ("pkt", "pkt_meta", "pkt_end")


def _span(case: Case, facts: Facts) -> dict[str, str]:
    off, size = int(facts["off"]), int(facts["size"])
    who = f"{case.helper}() {facts['access']}" if case.helper else f"the program {facts['access']}"
    span = f"byte {off}" if size == 1 else f"bytes {off} to {off + size - 1}"
    return {
        "who": who,
        "bytes": span,
        "them": "it" if size == 1 else "them",
        "end": f"{off + size} bytes",
    }


def _unchecked(case: Case, facts: Facts) -> Facts | None:
    return _span(case, facts)


def _variable(case: Case, facts: Facts) -> Facts | None:
    if not int(facts["id"]) or int(facts["checked"]):
        return None
    return _span(case, facts) | dict(case.added(int(facts["reg"])))


def _off_by_one(case: Case, facts: Facts) -> Facts | None:
    checked = int(facts["checked"])
    return (
        _span(case, facts)
        if checked and int(facts["off"]) + int(facts["size"]) == checked + 1
        else None
    )


def _short(case: Case, facts: Facts) -> Facts | None:
    return _span(case, facts) if int(facts["checked"]) else None


def _stale(case: Case, facts: Facts) -> Facts | None:
    """A register that held a packet pointer until something moved the packet."""
    found = case.origins(int(facts["reg"]))
    if not found:
        return None
    base = found[-1]
    if base.value:
        if values.parts(base.value)[0] not in _PACKET:
            return None
    elif not base.step.text.startswith(f"r{base.register} = *(u32 *)("):
        return None  # logs before Linux 5.18 do not say what the load gave: it reads a field of the context
    inner = story.last_call(case.log, base.position, case.position, story.MOVES_PACKET)
    frame = case.log.steps[case.position].frame
    own = [
        (at, name) for at, name in case.calls(base.position) if case.log.steps[at].frame == frame
    ]
    if inner is not None and case.log.steps[inner].frame == frame:
        at, name = inner, case.log.steps[inner].helper
        mover = f"{name}()"
    elif own and not case.log.steps[own[-1][0]].helper:
        at, name = own[-1]
        mover = f"{name}(), which changes the packet,"
    else:
        return None
    return {
        "mover": mover,
        "then": str(case.log.steps[at].insn),
        "then_what": f"{name}() invalidates it",
    }


ENTRIES = (
    Entry(
        id="packet-pointer-stale",
        title="A packet pointer is used after the packet was changed",
        words="R7 invalid mem access 'scalar'",
        pattern=_NUMBER_AS_POINTER,
        reason="the pointer into the packet was taken before {mover} and is not valid any more",
        why="Helpers that grow, shrink or rewrite a packet may move it to other memory. The verifier forgets "
        "every pointer "
        "into the packet, and every check against data_end, when one of them is called: bpf_xdp_adjust_head, "
        "bpf_xdp_adjust_tail, bpf_xdp_adjust_meta, bpf_skb_store_bytes, bpf_skb_pull_data, bpf_l3_csum_replace, ... "
        "and any function of yours that may call one.",
        advice="after the call read ctx->data and ctx->data_end again, and compare again",
        code="data = (void *)(long)ctx->data;\ndata_end = (void *)(long)ctx->data_end;\n"
        "eth = data;\nif ((void *)(eth + 1) > data_end)\n\treturn XDP_PASS;",
        facts=_stale,
    ),
    Entry(
        id="packet-variable-offset",
        title="A packet pointer moved by a variable is not checked again",
        words="invalid access to packet, off=14 size=2, R1(id=1,off=14,r=0)",
        pattern=_ACCESS,
        reason="{who} the packet at an offset only known at run time, and has not compared that place with data_end",
        why="A check covers bytes at constant distances from the pointer that was compared. Adding a variable, "
        "such as the "
        "length of an IP header, gives a new pointer about which nothing is known yet.",
        advice="compare the new pointer with data_end after adding to it",
        code="port = (void *)ip + ip->ihl * 4;\nif ((void *)(port + 1) > data_end)\n\treturn XDP_PASS;",
        facts=_variable,
    ),
    Entry(
        id="packet-off-by-one",
        title="The check against data_end is off by one",
        words="invalid access to packet, off=13 size=1, R2(id=0,off=13,r=13)",
        pattern=_ACCESS,
        reason="{who} {bytes} of the packet, one byte more than the {checked} that were compared with data_end",
        why="data_end points behind the last byte. `p + n > data_end` in the branch that returns means that n "
        "bytes from p "
        "may be used, the last of them p[n - 1].",
        advice="check for {end}: the pointer that is compared lies behind the last byte that is used",
        code="if (data + LAST + 1 > data_end)  /* to use data[LAST] */\n\treturn XDP_PASS;",
        facts=_off_by_one,
    ),
    Entry(
        id="packet-short-check",
        title="The check against data_end covers fewer bytes than are used",
        words="invalid access to packet, off=26 size=4, R1(id=0,off=26,r=14)",
        pattern=_ACCESS,
        reason="{who} {bytes} of the packet, of which only {checked} bytes were compared with data_end",
        why="The packet may end behind any header: each header needs a check of its own, or one check up to the "
        "last byte "
        "that is used.",
        advice="check this header too before using it",
        code="if ((void *)(ip + 1) > data_end)\n\treturn XDP_PASS;",
        facts=_short,
    ),
    Entry(
        id="packet-unchecked",
        title="Packet data is used without comparing with data_end",
        words="invalid access to packet, off=12 size=2, R1(id=0,off=12,r=0)",
        pattern=_ACCESS,
        reason="{who} {bytes} of the packet without comparing with data_end whether the packet has {them}",
        why="A packet may be shorter than its headers say. The verifier lets a program touch only bytes that it "
        "has compared "
        "with data_end on the very path that leads to the access.",
        advice="compare with data_end first, and leave where the packet is too short",
        code="if ((void *)(eth + 1) > data_end)\n\treturn XDP_PASS;",
        facts=_unchecked,
    ),
    Entry(
        id="packet-unbounded-offset",
        title="A number without bounds is added to a packet pointer",
        words="math between pkt pointer and register with unbounded min value is not allowed",
        pattern=r"math between (?P<what>pkt\w*) pointer and register with unbounded (?:min|max) value is not allowed|"
        r"value -?\d+ makes (?P<what_too>pkt\w*) pointer be out of bounds",
        reason="the number added to the packet pointer is unbounded: it may be negative or huge",
        why="The verifier follows the range of each number. A packet pointer may move by 0 to 65,535 bytes; a "
        "number read from "
        "a packet or a map is unknown until it is limited.",
        advice="use an unsigned number, and limit it before adding it",
        code="offset &= 0x3ff;  /* or: if (offset > 1023) return XDP_PASS; */\ndata += offset;",
        facts=lambda case, _: operand(case),
    ),
    Entry(
        id="packet-end-arithmetic",
        title="Calculating with data_end",
        words="R1 pointer arithmetic on pkt_end prohibited",
        pattern=r"R(?P<reg>\d+) pointer arithmetic on pkt_end prohibited",
        reason="the program adds to or subtracts from data_end, which can only be compared",
        why="data_end is a mark for comparisons: p > data_end, p + n > data_end. A difference such as data_end - "
        "data is no "
        "length the verifier could use.",
        advice="move the other side of the comparison: data + n > data_end instead of data > data_end - n",
        code="if (data + n > data_end)\n\treturn XDP_PASS;",
    ),
    Entry(
        id="packet-end-access",
        title="Reading or writing at data_end",
        words="R1 invalid mem access 'pkt_end'",
        pattern=r"R(?P<reg>\d+) invalid mem access 'pkt_end'",
        reason="the program {access} memory at data_end, which is behind the last byte of the packet",
        why="data_end points behind the packet. The last byte is found from the front, with a checked offset.",
        advice="start from data and check the offset against data_end",
        code="if (data + n + 1 > data_end)\n\treturn XDP_PASS;\nbyte = *(__u8 *)(data + n);",
    ),
    Entry(
        id="packet-write-forbidden",
        title="This hook may not write to packets",
        words="cannot write into packet",
        pattern=r"cannot write into packet",
        reason="{kind} at this hook may read packets but not write to them",
        why="Packet data is writable for XDP, TC and a few others. Cgroup, socket filter, flow dissector and "
        "lightweight "
        "tunnel input programs look at packets that others see too.",
        advice="write the packet in an XDP or TC program",
        code='SEC("tc")  /* or SEC("xdp") */',
    ),
)  # fmt: skip


def operand(case: Case) -> Facts:
    """The register that the refused instruction adds to another, as the one the story is about."""
    text = case.step.text if case.step else ""
    register = text.rpartition(" r")[2]
    return {"reg": register} if register.isdigit() else {}
