"""Rejections about maps, the stack and other memory."""

from netbpf.explain import values
from netbpf.explain.catalogue.entry import Case, Entry, Facts
from netbpf.explain.catalogue.packet import operand

STACK = 512  # bytes, MAX_BPF_STACK
_STACK_ACCESS = (
    r"invalid (?:indirect )?(?P<how>read from|write to|access to) stack(?: R(?P<reg>\d+))? "
    r"off[= ](?P<off>-?\d+)(?:\+\d+)? size[= ](?P<size>\d+)"
)


def _place(case: Case, facts: Facts) -> Facts:
    off, size = int(facts["off"]), int(facts["len"])
    span = f"byte {off}" if size == 1 else f"bytes {off} to {off + size - 1}"
    register = int(facts["reg"])
    name = values.parts(case.value(register))[1].get("map", "")
    return {"bytes": span, "whose": f"a value of map {name}" if name else "a map value"}


def _index(case: Case, facts: Facts) -> Facts | None:
    """The variable that was added to the pointer; None where the pointer moved by constants alone."""
    kind, fields = values.parts(case.value(int(facts["reg"])))
    if "max value is outside" not in case.words and "unbounded" not in case.words:
        return None
    size = fields.get("vs") or fields.get("sz") or facts.get("size", "")
    what = (
        f"map {fields['map']}"
        if "map" in fields
        else "the map"
        if kind == "map_value"
        else "the memory"
    )
    highest = values.integer(fields.get("umax"))
    limit = f"may be as high as {highest}" if 0 < highest < 0xFFFFFFFF else "has no upper limit"
    return {"index": limit, "size": size or "its", "what": what} | dict(
        case.added(int(facts["reg"]))
    )


def _outside(case: Case, facts: Facts) -> Facts | None:
    off, size = int(facts["off"]), int(facts["size"])
    if off >= -STACK and off + size <= 0:
        return None
    span = f"{size} bytes at {off}"
    writes = facts["how"] == "write to"
    who = (
        f"{case.helper}() {'writes' if writes else 'reads'}"
        if case.helper
        else f"the program {case.access}"
    )
    problem = (
        f"only {max(-off, 0)} bytes are left up to its end"
        if off >= -STACK
        else f"it has {STACK} bytes, from -{STACK} on"
    )
    return {"who": who, "span": span, "problem": problem}


def _uninitialised(case: Case, _: Facts) -> Facts | None:
    return {"who": f"{case.helper}() reads" if case.helper else "the program reads"}


def _negative(case: Case, facts: Facts) -> Facts:
    return {"lowest": f" (as low as {facts['low']})" if facts["low"] else ""} | dict(operand(case))


ENTRIES = (
    Entry(
        id="map-value-null",
        title="What a map lookup returns is used without a check for NULL",
        words="R0 invalid mem access 'map_value_or_null'",
        pattern=r"R(?P<reg>\d+) (?:invalid mem access '|pointer arithmetic on )map_value_or_null",
        reason="{from_source} may be NULL, and is used without a check",
        why="bpf_map_lookup_elem returns NULL where the map has no such key; for arrays that is any index past "
        "the end, which "
        "the verifier cannot exclude where the key is a variable.",
        advice="compare it with NULL right after the lookup",
        code="value = bpf_map_lookup_elem(&map, &key);\nif (!value)\n\treturn XDP_PASS;",
    ),
    Entry(
        id="maybe-null-argument",
        title="An argument may be NULL",
        words="R3 type=map_value_or_null expected=fp, pkt, map_value, mem",
        pattern=r"R(?P<reg>\d+) type=(?P<got>\w+)_or_null expected=|Possibly NULL pointer passed to (?:\w+ "
        r")?arg(?P<arg>\d+)",
        reason="the {ordinal} argument of {helper}() may be NULL here: {from_source} is not checked",
        why="Helpers that take a pointer want one that is known not to be NULL.",
        advice="compare it with NULL before the call",
        code="if (!value)\n\treturn XDP_PASS;",
        facts=lambda case, facts: {"ordinal": {"0": "first", "1": "second", "2": "third"}.get(facts["arg"], "")}
        if facts["arg"] else {},
    ),
    Entry(
        id="maybe-null",
        title="A pointer that may be NULL is used without a check",
        words="R0 invalid mem access 'sock_or_null'",
        pattern=r"R(?P<reg>\d+) (?:invalid mem access '|pointer arithmetic on )(?P<got>\w+)_or_null",
        reason="{whose} may be NULL, and is used without a check",
        why="Lookups and reservations fail at times and return NULL then. So may pointer arguments of global "
        "functions: "
        "the verifier checks such a function by itself, for every caller there could be.",
        advice="compare it with NULL first",
        code="if (!pointer)\n\treturn 0;",
        facts=lambda case, facts: {
            "whose": facts["from_source"] if facts["source"] else
            f"the {facts['ordinal'] or 'pointer'} argument of {case.function(case.step.insn)}()" if case.step
            and not case.origins(int(facts["reg"])) else f"r{facts['reg']}"
        },
    ),
    Entry(
        id="map-value-index",
        title="The index into a map value or an array has no limit",
        words="R0 unbounded memory access, make sure to bounds check any such access",
        pattern=r"R(?P<reg>\d+) (?:unbounded memory access, make sure to bounds check any|"
        r"max value is outside of the (?:allowed memory|array) range)",
        reason="the index into {what} {index}, and the access must stay within {size} bytes",
        why="The verifier computes how far an index can reach. It has to be limited on every path to the access, by "
        "a comparison or a mask, and the compiler must use the register that was limited.",
        advice="limit the index to the array before using it",
        code="if (index >= ARRAY_LENGTH)\n\treturn XDP_PASS;\n/* or, for a power of two: */ index &= "
        "ARRAY_LENGTH - 1;",
        facts=_index,
    ),
    Entry(
        id="map-value-outside",
        title="An access goes past the end of a map value",
        words="invalid access to map value, value_size=16 off=16 size=1\n"
        "R1 min value is outside of the allowed memory range",
        pattern=r"invalid access to map value, value_size=(?P<size>\d+) off=(?P<off>-?\d+) size=(?P<len>\d+)\n"
        r"R(?P<reg>\d+) ",
        reason="the program {access} {bytes} of {whose}, which has {size} bytes",
        why="A map value has exactly the size that the map was declared with.",
        advice="declare a larger value, or use another offset",
        code="__type(value, struct value);  /* the map's declaration: as large as what is used */",
        facts=_place,
    ),
    Entry(
        id="memory-outside",
        title="An access goes past the end of reserved memory",
        words="invalid access to memory, mem_size=4 off=4 size=4\nR0 min value is outside of the allowed memory range",
        pattern=r"invalid access to memory, mem_size=(?P<size>\d+) off=(?P<off>-?\d+) size=(?P<len>\d+)\n"
        r"R(?P<reg>\d+) ",
        reason="the program {access} {bytes} of memory that has {size} bytes",
        why="Memory from bpf_ringbuf_reserve, of a dynptr slice or behind a pointer argument has the size that "
        "was asked for.",
        advice="ask for as many bytes as are used",
        code="event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);",
        facts=_place,
    ),
    Entry(
        id="map-value-negative",
        title="An index may be negative",
        words="value -2147483648 makes map_value pointer be out of bounds",
        pattern=r"value (?P<low>-\d+) makes \w+ pointer be out of bounds|"
        r"R(?P<reg>\d+) min value is negative, either use unsigned index",
        reason="the index may be negative{lowest}, which would be before the start of the memory",
        why="Signed variables can be negative as far as the verifier knows, and a check from above does not "
        "change that.",
        advice="make the index unsigned, or check that it is not below 0 as well",
        code="__u32 index = ...;  /* unsigned: one comparison limits it */\nif (index >= ARRAY_LENGTH)\n\treturn "
        "XDP_PASS;",
        facts=_negative,
    ),
    Entry(
        id="read-only-map",
        title="A constant or a read-only map is written to",
        words="write into map forbidden, value_size=4 off=0 size=4",
        pattern=r"(?P<how>write into|read from) map forbidden",
        reason="the program writes to {whose}, which is read-only for programs",
        why="`const volatile` variables live in .rodata, which is frozen before the program is loaded; maps with "
        "BPF_F_RDONLY_PROG are the same. Settings are constants for the program, which lets the verifier drop "
        "dead branches.",
        advice="make the variable non-const to keep it in .bss or .data, or write to another map",
        code="__u32 limit = 5;  /* instead of: const volatile __u32 limit = 5; */",
        facts=lambda case, _: {"whose": _read_only(case)},
    ),
    Entry(
        id="stack-outside",
        title="An access lies outside of the stack or of a variable on it",
        words="invalid write to stack R10 off=-520 size=8",
        pattern=_STACK_ACCESS
        + r"|invalid stack (?:type R\d+ )?off=(?P<off_too>-?\d+) (?:access_)?size=(?P<size_too>\d+)",
        reason="{who} {span} of the stack: {problem}",
        why="A program has 512 bytes of stack, counted down from r10. A helper that is told a size larger than "
        "the buffer runs past it.",
        advice="make the buffer as large as the size, or the size as small as the buffer",
        code="bpf_skb_load_bytes(ctx, 0, bytes, sizeof(bytes));",
        facts=lambda case, facts: _outside(case, dict(facts) | {
            "off": facts["off"] or facts["off_too"], "size": facts["size"] or facts["size_too"]
        }),
    ),
    Entry(
        id="stack-uninitialised",
        title="Stack memory is read that was never written",
        words="invalid read from stack R2 off=-8 size=4",
        pattern=_STACK_ACCESS,
        reason="{who} {size} bytes of stack at {off} that were never written",
        why="Padding counts: a struct whose members are all set may have holes that are not. The verifier "
        "demands every byte of "
        "keys and buffers that a helper reads, always before Linux 6.3, since then of programs loaded without "
        "CAP_PERFMON.",
        advice="set the whole variable to zero when declaring it",
        code="struct key key = {};  /* or, with padding: __builtin_memset(&key, 0, sizeof(key)); */",
        facts=_uninitialised,
    ),
    Entry(
        id="stack-variable",
        title="The stack is used at a variable index",
        words="invalid unbounded variable-offset read from stack R2",
        pattern=r"(?:invalid (?:unbounded )?variable-offset .*stack R(?P<reg>\d+)|variable stack "
        r"(?:access|read|write))",
        reason="the index into an array on the stack is not limited",
        why="An index into the stack needs limits from both sides, as any other; and every byte it may hit must "
        "be written "
        "already.",
        advice="limit the index, or keep the array in a map",
        code="if (index >= sizeof(bytes))\n\treturn XDP_PASS;",
    ),
    Entry(
        id="stack-combined",
        title="Functions that call each other need more than 512 bytes of stack",
        words="combined stack size of 2 calls is 608. Too large",
        pattern=r"combined stack size of (?P<calls>\d+) calls is (?P<bytes>\d+)\. Too large",
        reason="{calls} functions that call each other use {bytes} bytes of stack together; there are 512",
        why="All functions on one chain of calls share 512 bytes. clang warns only of a single function that "
        "takes more.",
        advice="all functions on a chain of calls share 512 bytes of stack: keep large variables in a per-CPU array",
        code="struct {\n\t__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);\n\t__uint(max_entries, 1);\n\t__type(key, __u32);\n"
        '\t__type(value, struct scratch);\n} scratch SEC(".maps");',
    ),
    Entry(
        id="stack-spill",
        title="A pointer on the stack is written or read in part",
        words="invalid size of register spill",
        pattern=r"invalid size of register (?:spill|fill)|attempt to corrupt spilled pointer on stack|corrupted "
        r"spill memory",
        reason="the program keeps a pointer on the stack and writes or reads only a part of its 8 bytes",
        why="Pointers on the stack stay pointers only as whole 8-byte slots.",
        advice="do not overwrite parts of a variable that holds a pointer; look for casts and unions",
        code="void *pointer = ...;  /* 8 bytes, never accessed through __u32 * */",
    ),
    Entry(
        id="misaligned",
        title="An access is not aligned",
        words="misaligned stack access off 0+0+-12 size 8",
        pattern=r"misaligned (?P<what>\w+ )?access off .*size (?P<size>\d+)",
        reason="the {what}access of {size} bytes is not aligned to {size} bytes",
        why="Stack, maps and context are accessed at multiples of the size; packets too on machines that cannot "
        "do otherwise.",
        advice="align the variable, or copy it byte by byte",
        code="__u64 value __attribute__((aligned(8)));\n__builtin_memcpy(&value, bytes, sizeof(value));",
    ),
    Entry(
        id="atomic-memory",
        title="An atomic operation on packet or context",
        words="BPF_ATOMIC stores into R1 pkt is not allowed",
        pattern=r"BPF_(?:ATOMIC|XADD) (?:stores|loads|access)? ?(?:into|from|to) R(?P<reg>\d+) (?P<what>\w+) is "
        r"not allowed",
        reason="atomic operations work on maps and the stack, not on {where}",
        why="One CPU alone handles a packet, so plain operations do.",
        advice="use a plain operation here",
        code="*counter += 1;  /* instead of __sync_fetch_and_add(counter, 1) */",
        facts=lambda _, facts: {
            "where": {"ctx": "the context", "pkt": "the packet"}.get(facts["what"], facts["what"])
        },
    ),
    Entry(
        id="map-pointer-access",
        title="A map itself is used as if it were its value",
        words="only read from bpf_array is supported",
        pattern=r"only read from bpf_\w+ is supported|invalid mem access 'map_ptr'",
        reason="the program {access} the map itself instead of a value in it",
        why="The name of a map stands for the kernel's object. Values come from a lookup.",
        advice="look the value up and use what is returned",
        code="value = bpf_map_lookup_elem(&map, &key);\nif (value)\n\t*value = 1;",
    ),
)  # fmt: skip


def _read_only(case: Case) -> str:
    """The map whose value the refused instruction writes to."""
    kinds = [values.parts(case.value(register)) for register in range(1, 10)]
    names = [fields.get("map", "") for kind, fields in kinds if kind == "map_value"]
    known = next((name for name in names if name.endswith("rodata")), names[0] if names else "")
    return (
        "a constant (.rodata)" if known.endswith("rodata") else f"map {known}" if known else "a map"
    )
