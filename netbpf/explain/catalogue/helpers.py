"""Rejections about calls of helpers and kernel functions."""

from netbpf.constants import MapType
from netbpf.explain import values
from netbpf.explain.catalogue.entry import Case, Entry, Facts

POISON = 195896080  # 0xbad2310: what CO-RE relocations leave where the kernel lacks something
_SCALAR = r"(?:scalar|inv|unknown)"


def _argument(case: Case, facts: Facts) -> Facts | None:
    if not case.helper and case.step and "call" not in case.step.text:
        return None
    wanted = " or ".join(
        list(dict.fromkeys(values.kind(one) for one in facts["expected"].split(", ")))[:4]
    )
    got = facts["value"] or values.words(facts["got"])
    return {"got_words": got, "wanted": wanted, "helper": case.helper or "the function"}


def _map_type(_: Case, facts: Facts) -> Facts:
    try:
        return {"kind_of_map": MapType(int(facts["type"])).name.lower()}
    except ValueError:
        return {"kind_of_map": facts["type"]}


def _range(case: Case, facts: Facts) -> Facts:
    return {"range": facts["value"] or "unknown", "helper": case.helper or "the helper"}


ENTRIES = (
    Entry(
        id="core-missing",
        title="The kernel lacks a field or type that the program uses",
        words="invalid func unknown#195896080",
        pattern=rf"unknown#{POISON}|invalid CO-RE relocation",
        reason="the program uses a field, type or enumerator that this kernel does not have",
        why="A CO-RE relocation that finds nothing turns its instruction into a call that does not exist. It "
        "does no harm "
        "where the program asks first. netbpf names the field.",
        advice="ask before using it",
        code="if (bpf_core_field_exists(task->field))\n\tvalue = BPF_CORE_READ(task, field);",
    ),
    Entry(
        id="helper-wrong-type",
        title="A helper that this program type does not have",
        words="program of this type cannot use helper bpf_skb_load_bytes#26",
        pattern=r"program of this type cannot use helper (?P<name>\w+)#|unknown func (?P<name_too>bpf_\w+)#\d+",
        reason="{kind} cannot call {name_any}()",
        why="Each program type has its own helpers: bpf_skb_* work on struct __sk_buff in TC programs, bpf_xdp_* on "
        "struct xdp_md in XDP programs. bpf-helpers(7) and the kernel's documentation list them; an older kernel "
        "has fewer.",
        advice="bpf-helpers(7) lists what each program type can call, and since when",
        code="bpf_xdp_load_bytes(ctx, offset, &value, sizeof(value));  /* XDP, Linux 5.18 */",
        facts=lambda _, facts: {"name_any": facts["name"] or facts["name_too"]},
    ),
    Entry(
        id="helper-unknown",
        title="A helper that this kernel does not know",
        words="invalid func unknown#211",
        pattern=r"(?:invalid func|unknown func|invalid function call.*) unknown#(?P<number>-?\d+)|invalid func "
        r"(?P<number_too>-?\d+)",
        reason="the program calls helper {number_any}, which this kernel does not know",
        why="Helpers are numbered. Numbers that are higher than what the kernel knows come from newer headers.",
        advice="run a newer kernel, or ask with bpf_core_enum_value_exists() whether the helper is there",
        code="if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))\n\tbpf_loop(n, step, &context, 0);",
        facts=lambda _, facts: {"number_any": facts["number"] or facts["number_too"]},
    ),
    Entry(
        id="helper-gpl",
        title="A helper that needs a GPL licence",
        words="cannot call GPL-restricted function from non-GPL compatible program",
        pattern=r"cannot call GPL[- ](?:restricted|only) function from (?:non-GPL compatible|proprietary) program",
        reason="{name}() may only be called by programs with a GPL-compatible licence",
        why="The kernel reads the licence from section license. GPL, GPL v2, Dual BSD/GPL, Dual MIT/GPL and Dual "
        "MPL/GPL count "
        "as compatible.",
        advice="declare a GPL-compatible licence if that is what the program is under, or do without the helper",
        code='char _license[] SEC("license") = "Dual BSD/GPL";',
        facts=lambda case, _: {"name": case.helper or "the helper"},
    ),
    Entry(
        id="kfunc-not-allowed",
        title="A kernel function that this program type may not call",
        words="calling kernel function bpf_dynptr_from_skb is not allowed",
        pattern=r"calling kernel function (?P<name>\w*) ?is not allowed|"
        r"calling (?:invalid )?kernel function(?: (?P<name_too>\w+))? (?:is not allowed|from)",
        reason="{kind} may not call the kernel function {name_any}()",
        why="Kernel functions (kfuncs) are registered for program types; the same name may exist for others.",
        advice="use the variant for this program type",
        code="bpf_dynptr_from_xdp(ctx, 0, &pointer);  /* XDP */\nbpf_dynptr_from_skb(ctx, 0, &pointer);  /* TC */",
        facts=lambda case, facts: {"name_any": facts["name"] or facts["name_too"] or case.helper},
    ),
    Entry(
        id="helper-wrong-map",
        title="A helper is given a map of the wrong type",
        words="cannot pass map_type 2 into func bpf_redirect_map#51",
        pattern=r"cannot pass map_type (?P<type>\d+) into func (?P<name>\w+)#",
        reason="{name}() does not work on maps of type {kind_of_map}",
        why="Redirects take devmaps, cpumaps and xskmaps; tail calls prog arrays; ring buffer helpers ring "
        "buffers; lookups most "
        "others.",
        advice="declare the map with the type that the helper works on",
        code="__uint(type, BPF_MAP_TYPE_DEVMAP);  /* for bpf_redirect_map */",
        facts=_map_type,
    ),
    Entry(
        id="size-negative",
        title="A size may be negative",
        words="R3 min value is negative, either use unsigned or 'var &= const'",
        pattern=r"R(?P<reg>\d+) min value is negative, either use unsigned or 'var &= const'",
        reason="the size given to {helper}() may be negative: the verifier knows {range}",
        why="A signed variable that is only limited from above may still be negative.",
        advice="make the size unsigned",
        code="__u32 size = ...;\nif (size > sizeof(bytes))\n\treturn XDP_PASS;",
        facts=_range,
    ),
    Entry(
        id="size-unbounded",
        title="A size has no upper bound",
        words="R2 unbounded memory access, use 'var &= const' or 'if (var < const)'",
        pattern=r"R(?P<reg>\d+) unbounded memory access, use",
        reason="the size given to {helper}() has no upper bound",
        why="The buffer has a fixed size, so the size must be limited before the call, in the register that is "
        "passed.",
        advice="limit it to the size of the buffer",
        code="if (size > sizeof(bytes))\n\treturn XDP_PASS;",
        facts=_range,
    ),
    Entry(
        id="size-zero",
        title="A size may be 0",
        words="R2 invalid zero-sized read: u64=[0,16]",
        pattern=r"R(?P<reg>\d+) invalid zero-sized read|invalid zero-sized (?:read|write)",
        reason="the size given to {helper}() may be 0: the verifier knows {range}",
        why="Many helpers want at least one byte. The lower limit counts as much as the upper one.",
        advice="leave where the size is 0",
        code="if (size == 0 || size > sizeof(bytes))\n\treturn XDP_PASS;",
        facts=lambda case, facts: _range(case, {"value": ""} | dict(facts)),
    ),
    Entry(
        id="constant-expected",
        title="An argument must be a constant",
        words="R2 is not a known constant",
        pattern=r"R(?P<reg>\d+) is not a known const|R(?P<reg_too>\d+) must be a known constant|must be a known "
        r"constant",
        reason="the {ordinal} argument of {helper}() must be a constant, and it is {value}",
        why="Such arguments decide how large memory is, so they must be known when the program is loaded.",
        advice="pass a number known to the compiler, such as sizeof",
        code="event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);  /* of variable size: bpf_ringbuf_output */",
        facts=lambda _, facts: {"ordinal": facts.get("ordinal") or "size", "value": facts.get("value") or "a variable"},
    ),
    Entry(
        id="callback-missing",
        title="A callback is no function of the program",
        words="R2 type=scalar expected=func",
        pattern=r"R(?P<reg>\d+) type=\S* expected=func$",
        reason="the {ordinal} argument of {helper}() must be a function of this program, and it is {value}",
        why="Callbacks are static functions, named in the call itself.",
        advice="name a static function",
        code="static int step(__u32 index, void *context) { return 0; }\n...\nbpf_loop(n, step, &context, 0);",
    ),
    Entry(
        id="helper-argument",
        title="An argument is of the wrong kind",
        words="R1 type=fp expected=map_ptr",
        pattern=r"R(?P<reg>[0-9]) type=(?P<got>\S*) expected=(?P<expected>.*)",
        reason="the {ordinal} argument of {helper}() is {got_words}; it takes {wanted}",
        why="The verifier knows of each argument what it has to be: a map, memory of a known size, the context, "
        "a socket.",
        advice="look up the order and kinds of the arguments in bpf-helpers(7)",
        code="bpf_map_update_elem(&map, &key, &value, BPF_ANY);",
        facts=_argument,
    ),
)  # fmt: skip
