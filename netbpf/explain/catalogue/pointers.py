"""Rejections about registers, pointers and arithmetic."""

from netbpf.explain import values
from netbpf.explain.catalogue.entry import Case, Entry, Facts
from netbpf.explain.catalogue.packet import operand

_OPERATORS = {
    "*=": "multiplies", "/=": "divides", "%=": "divides", "<<=": "shifts", ">>=": "shifts", "s>>=": "shifts",
    "&=": "masks", "|=": "changes the bits of", "^=": "changes the bits of", "-=": "subtracts from",
}  # fmt: skip


def _clobbered(case: Case, facts: Facts) -> Facts | None:
    found = case.origins(int(facts["reg"]))
    if not found or not found[0].step.text.startswith("call ") or facts["reg"] == "0":
        return None
    callee = next((name for at, name in reversed(case.calls()) if at == found[0].position), "")
    return {"callee": f"{callee}()" if callee else "a function"}


def _exit(case: Case, _: Facts) -> Facts | None:
    return {} if case.step and case.step.text == "exit" else None


def _where_from(case: Case, facts: Facts) -> Facts:
    """How a number came to be taken for an address."""
    found = case.origins(int(facts["reg"]))
    if not found:
        return {"where": ""}
    base = found[-1]
    text = base.step.text
    if base.step.helper:
        return {"where": f"; it is what {base.step.helper}() returned"}
    if " *)(r" in text and "=" in text:
        register = text.rpartition(" *)(r")[2].split()[0].rstrip(")")
        kind = (
            values.parts(case_value(case, register, base.position))[0] if register.isdigit() else ""
        )
        place = {
            "map_value": "a map value", "pkt": "the packet", "ctx": "a field of the context", "fp": "the stack",
        }.get(kind.removesuffix("_or_null"))  # fmt: skip
        return {"where": f"; it was read from {place}, which holds numbers" if place else ""}
    return {"where": ""}


def case_value(case: Case, register: str, position: int) -> str:
    """What the log last said a register held before a step."""
    from netbpf.explain import story

    return story.value_before(case.log, int(register), position)


def _kind_of(_: Case, facts: Facts) -> Facts:
    return {"what": facts["value"] or values.words(facts["what"])}


def _offset(case: Case, facts: Facts) -> Facts:
    number = facts["number"] or facts["number_too"] or facts["number_three"]
    return {"number_words": f" ({number})" if number else ""} | dict(operand(case))


def _leak(_: Case, facts: Facts) -> Facts:
    where = "the context" if facts["where"] == "ctx" else f"a {facts['where']}"
    return {"how": f"into {where}" if facts["where"] else f"as {facts['as_what']}"}


ENTRIES = (
    Entry(
        id="no-return-value",
        title="The program ends without a return value",
        words="R0 !read_ok",
        pattern=r"R0 !read_ok",
        reason="the program ends without having set its return value",
        why="r0 is the verdict. A C function without a return statement on some path leaves it unset.",
        advice="return a verdict on every path",
        code="return XDP_PASS;",
        facts=_exit,
    ),
    Entry(
        id="register-clobbered",
        title="A register is used that a call destroyed",
        words="R1 !read_ok",
        pattern=r"R(?P<reg>\d+) !read_ok",
        reason="r{reg} lost its value in the call of {callee}, and is used afterwards",
        why="Calls destroy r1 to r5. Compilers know; inline assembly has to say so.",
        advice="keep the value in r6 to r9 across the call; in inline assembly list the clobbered registers",
        code='asm volatile("call %0" : : "i"(BPF_FUNC_ktime_get_ns) : "r0", "r1", "r2", "r3", "r4", "r5");',
        facts=_clobbered,
    ),
    Entry(
        id="register-uninitialised",
        title="A value is used that was never set",
        words="R5 !read_ok",
        pattern=r"R(?P<reg>\d+) !read_ok",
        reason="r{reg} is used but never got a value on this path",
        why="A variable is read before it is set, or a function reads an argument that its caller does not pass: "
        "callbacks of "
        "bpf_loop get two, those of bpf_for_each_map_elem four.",
        advice="give the variable a value where it is declared, and give callbacks the arguments the helper passes",
        code="__u32 value = 0;\nstatic int step(__u32 index, void *context)  /* bpf_loop: these two */",
    ),
    Entry(
        id="scalar-dereference",
        title="A number is used as an address",
        words="R1 invalid mem access 'scalar'",
        pattern=r"R(?P<reg>\d+) invalid mem access '(?:scalar|inv)'",
        reason="the program {access} memory through a value that is a number to the verifier, not a pointer{where}",
        why="Pointers keep their kind only while they stay pointers: not when they are kept in a map or a "
        "packet, cut to 32 bits, "
        "masked, or taken out of a kernel structure.",
        advice="take the pointer where it comes from; read kernel memory with bpf_probe_read_kernel() or "
        "BPF_CORE_READ()",
        code="value = bpf_map_lookup_elem(&map, &key);  /* a pointer, once checked for NULL */",
        facts=_where_from,
    ),
    Entry(
        id="pointer-plus-pointer",
        title="Two pointers are added",
        words="R2 pointer += pointer prohibited",
        pattern=r"R(?P<reg>\d+) pointer \+= pointer prohibited",
        reason="the program adds two pointers",
        why="The sum of two addresses is no address. Often a length was computed the wrong way round.",
        advice="add a number to a pointer; the distance of two pointers is their difference",
        code="length = data_end - data;\nnext = data + offset;",
    ),
    Entry(
        id="pointer-arithmetic",
        title="A pointer is multiplied, shifted or masked",
        words="R1 pointer arithmetic with <<= operator prohibited",
        pattern=r"R(?P<reg>\d+) (?:pointer arithmetic with (?P<operator>\S+) operator|bitwise operator "
        r"(?P<bitwise>\S+) on pointer) "
        r"prohibited",
        reason="the program {does} a pointer; pointers can only be added to and subtracted from",
        why="The verifier could not say any more where the result points. Casting a pointer to __u32 and back is "
        "a shift to the "
        "left and one to the right.",
        advice="calculate with an offset and add it to the pointer last; cast pointers to long",
        code="offset = index * sizeof(struct entry);\nentry = base + offset;",
        facts=lambda _, facts: {"does": _OPERATORS.get(facts["operator"] or facts["bitwise"], "calculates with")},
    ),
    Entry(
        id="pointer-32bit",
        title="A pointer is cut to 32 bits",
        words="R1 32-bit pointer arithmetic prohibited",
        pattern=r"R(?P<reg>\d+) 32-bit pointer arithmetic prohibited",
        reason="the program calculates with the lower 32 bits of a pointer",
        why="A pointer has 64 bits; a calculation in an int or __u32 loses half of it.",
        advice="use void * or unsigned long for addresses",
        code="void *data = (void *)(long)ctx->data;",
    ),
    Entry(
        id="pointer-offset",
        title="A pointer is moved too far",
        words="math between map_value pointer and 2147483647 is not allowed",
        pattern=r"math between (?P<what>\w+) pointer and (?P<number>-?\d+) is not allowed|"
        r"(?P<what_too>\w+) pointer offset (?P<number_too>-?\d+) is not allowed|"
        r"value (?P<number_three>-?\d+) makes (?P<what_three>\w+) pointer be out of bounds|"
        r"math between (?P<what_four>\w+) pointer and register with unbounded",
        reason="the offset added to the pointer{number_words} is beyond what can be valid",
        why="Offsets may not exceed 2^29 in either direction, whatever comes later.",
        advice="limit the offset before adding it to the pointer",
        code="if (offset > LARGEST)\n\treturn XDP_PASS;\npointer += offset;",
        facts=_offset,
    ),
    Entry(
        id="pointer-kind",
        title="Arithmetic on a pointer that must stay as it is",
        words="R1 pointer arithmetic on map_ptr prohibited",
        pattern=r"R(?P<reg>\d+) pointer arithmetic on (?P<what>\w+) prohibited",
        reason="the program moves a pointer that must be used as it is: {what}",
        why="Maps, functions, sockets and the like are handles.",
        advice="pass the pointer as it came",
        code="bpf_map_lookup_elem(&map, &key);",
        facts=_kind_of,
    ),
    Entry(
        id="pointer-compare",
        title="A pointer is compared with a number",
        words="R1 pointer comparison prohibited",
        pattern=r"R(?P<reg>\d+) pointer comparison prohibited",
        reason="the program compares a pointer with something other than NULL or data_end",
        why="Programs that are loaded without CAP_PERFMON may not learn addresses, not even by comparing.",
        advice="compare pointers with NULL or data_end only, or load with CAP_PERFMON",
        code="if (data + n > data_end)\n\treturn XDP_PASS;",
    ),
    Entry(
        id="pointer-leak",
        title="An address leaves the program",
        words="R6 leaks addr into map",
        pattern=r"R(?P<reg>\d+) leaks addr (?:into (?P<where>\w+)|as (?P<as_what>[\w ]+))",
        reason="the program gives away an address of the kernel, {how}",
        why="Programs that are loaded without CAP_PERFMON may not show addresses to user space.",
        advice="store or return a number, not the pointer, or load with CAP_PERFMON",
        code="*value = event->id;  /* not the pointer itself */",
        facts=_leak,
    ),
    Entry(
        id="mixed-pointers",
        title="One access for two kinds of pointers",
        words="same insn cannot be used with different pointers",
        pattern=r"same insn cannot be used with different pointers",
        reason="the same instruction gets two kinds of pointers, depending on the path",
        why="The kernel rewrites accesses to the context and to sockets, so an instruction has to be for one "
        "kind alone. "
        "Compilers merge branches that look the same.",
        advice="access each kind in its own branch, and keep the compiler from merging them",
        code='if (from_map)\n\tresult = value->count;\nelse {\n\tresult = ctx->rx_queue_index;\n\tasm '
        'volatile("" : "+r"(result));\n}',
    ),
    Entry(
        id="division-by-zero",
        title="A division by the constant 0",
        words="div by zero",
        pattern=r"div by zero",
        reason="the program divides by the constant 0",
        why="A division by a variable that is 0 gives 0 at run time; by a constant it is an error.",
        advice="look for a macro or setting that is 0",
        code="if (divisor)\n\tn /= divisor;",
    ),
    Entry(
        id="shift-too-far",
        title="A shift by 64 bits or more",
        words="invalid shift 64",
        pattern=r"invalid shift (?P<bits>-?\d+)",
        reason="the program shifts by {bits} bits, which a register of 64 (or 32) bits does not have",
        why="Such a shift is undefined in C, too.",
        advice="shift by less than the width of the type",
        code="n <<= bits & 63;",
    ),
    Entry(
        id="frame-pointer",
        title="The frame pointer is written",
        words="frame pointer is read only",
        pattern=r"frame pointer is read only|cannot write into reg: R10",
        reason="the program writes r10, the frame pointer, which is read-only",
        why="r10 points to the end of the stack frame. Only inline assembly gets this wrong.",
        advice="copy r10 to another register and change that",
        code='asm volatile("r2 = r10; r2 += -8" ::: "r2");',
    ),
    Entry(
        id="pointer-access",
        title="Memory is accessed through a pointer that is none",
        words="R1 invalid mem access 'func'",
        pattern=r"R(?P<reg>\d+) invalid mem access '(?P<what>\w+)'",
        reason="the program {access} memory through something that cannot be accessed so: {what}",
        why="Such values are handles for helpers.",
        advice="pass it to the helper that takes it",
        code="bpf_map_lookup_elem(&map, &key);",
        facts=_kind_of,
    ),
)  # fmt: skip
