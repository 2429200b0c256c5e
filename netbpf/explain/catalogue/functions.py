"""Rejections about functions: arguments, depth, return values, tail calls."""

from netbpf.explain.catalogue.entry import ORDINALS, Case, Entry, Facts


def _depth(case: Case, facts: Facts) -> Facts:
    names = [case.function(step.insn) for step in case.log.steps if step.text.startswith("call pc")]
    twice = next((name for name in names if names.count(name) > 1), "")
    return {
        "what": f"{twice}() calls itself" if twice else f"calls go {facts['n']} functions deep",
        "twice": twice,
    }


def _recursion(case: Case, facts: Facts) -> Facts | None:
    found = _depth(case, facts)
    return found if found["twice"] else None


def _bad_argument(case: Case, facts: Facts) -> Facts:
    return {"got": facts["value"] or facts["type"], "name": _name(case, facts)}


def _name(case: Case, facts: Facts) -> str:
    if facts["function"]:
        return facts["function"]
    names = [name for _, name in case.code.functions]
    number = int(facts["number"])
    return names[number] if number < len(names) else f"function {number}"


def _in_tail_call(case: Case, _: Facts) -> Facts | None:
    return {} if case.helper == "bpf_tail_call" else None


def _ending(case: Case, facts: Facts) -> Facts:
    who = "the callback" if facts["who"] == "callback" else f"{case.code.program}()"
    seen = facts["seen"].strip()
    pairs = dict(pair.partition("=")[::2] for pair in seen.split() if "=" in pair)
    low, high = pairs.get("smin", ""), pairs.get("smax", "")
    number = (
        low
        if low and low == high
        else f"{low} to {high}"
        if low and high
        else seen or "something else"
    )
    return {"who_returns": who, "number": number}


ENTRIES = (
    Entry(
        id="tail-call-callback",
        title="A tail call from a callback",
        words="verifier bug: callback unexpected regs 1",
        pattern=r"callback unexpected regs|tail_call is only allowed in functions that return 'int'|"
        r"tail_calls? (?:are|is) not allowed in (?:programs with bpf-to-bpf calls|callbacks?)|cannot tail call "
        r"within callback",
        reason="a tail call is not possible here: in a callback, or in a function that does not return int",
        why="A tail call replaces the running function. A callback of bpf_loop or of a timer has to return to "
        "its caller. Before "
        "Linux 5.10 programs with functions of their own could not make tail calls at all.",
        advice="set a flag in the callback, and make the tail call after it has returned",
        code="bpf_loop(n, step, &context, 0);\nif (context.found)\n\tbpf_tail_call(ctx, &jumps, context.index);",
        facts=_in_tail_call,
    ),
    Entry(
        id="tail-call-stack",
        title="A tail call from a function, with too much stack below",
        words="tail_calls are not allowed when call stack of previous frames is 304 bytes. Too large",
        pattern=r"tail_calls are not allowed when call stack of previous frames is (?P<bytes>\d+) bytes",
        reason="a function makes a tail call while its callers use {bytes} bytes of stack; 256 are allowed",
        why="The callers' stack stays in use through a chain of up to 33 tail calls.",
        advice="make the tail call in the program itself, or keep the callers' large variables in a map",
        code="struct {\n\t__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);\n\t__uint(max_entries, 1);\n\t...",
    ),
    Entry(
        id="recursion",
        title="A function that calls itself",
        words="the call stack of 9 frames is too deep",
        pattern=r"the call stack of (?P<n>\d+) frames is too deep",
        reason="{what}; at most 8 functions may be active at a time",
        why="Every call takes a frame, and there are 8.",
        advice="turn the recursion into a loop with a constant bound",
        code="for (int depth = 0; depth < 8; depth++)\n\t...",
        facts=_recursion,
    ),
    Entry(
        id="call-depth",
        title="Functions call each other too deep",
        words="the call stack of 9 frames is too deep",
        pattern=r"the call stack of (?P<n>\d+) frames is too deep",
        reason="{what}; at most 8 may be active at a time",
        why="Every call takes a frame, and there are 8, the program's own included.",
        advice="have some of the functions inlined",
        code="static __always_inline int parse(struct xdp_md *ctx)",
        facts=_depth,
    ),
    Entry(
        id="function-argument-type",
        title="A global function takes an argument the verifier cannot check",
        words="arg#0 reference type('UNKNOWN ') size cannot be determined: -22",
        pattern=r"[Aa]rg#(?P<arg>\d+) (?:reference )?type.*(?:size cannot be determined|is not supported)|"
        r"R(?P<register>\d+) is not a (?:pointer to|scalar)",
        reason="the {which} argument of {function_called}() is of a type that a global function cannot take",
        why="Global functions are checked once, by the types of their arguments: numbers, the context, and "
        "pointers to types "
        "of a known size. void * has none.",
        advice="make the function static, or point to a struct",
        code="static __attribute__((noinline)) int first(void *bytes)",
        facts=lambda case, facts: {
            "which": ORDINALS.get(int(facts["arg"] or 0) + 1, "last"), "function_called": _called(case)
        },
    ),
    Entry(
        id="function-argument",
        title="A global function is called with a wrong argument",
        words="R1 type=scalar expected=fp\nCaller passes invalid args into func#1 ('sum')",
        pattern=r"R(?P<reg>\d+) type=(?P<type>\S*) expected=.*\n(?:.*\n)*?Caller passes invalid args into "
        r"func#(?P<number>\d+)"
        r"(?: \('(?P<function>\w*)'\))?",
        reason="the {ordinal} argument of {name}() is {got}, which its type does not allow",
        why="A global function is checked for all callers by its types, and each caller is held to them.",
        advice="pass what the function declares, or make the function static",
        code="struct pair pair = {};\nreturn sum(&pair);",
        facts=_bad_argument,
    ),
    Entry(
        id="function-return-type",
        title="A global function returns no number",
        words="Global function address() doesn't return scalar. Only those are supported.",
        pattern=r"Global function (?P<function>\w+)\(\) doesn't return scalar",
        reason="the global function {function}() returns no number; only numbers (and void, since Linux 6.8) can be",
        why="A global function is checked by itself, so nothing would be known about a pointer it returns.",
        advice="make it static",
        code="static __attribute__((noinline)) void *find(struct xdp_md *ctx)",
    ),
    Entry(
        id="return-range",
        title="The return value is out of range",
        words="At callback return the register R0 has smin=5 smax=5 should have been in [0, 1]",
        pattern=r"At (?P<who>[\w ]+?) (?:return|exit) the register R0 has (?P<seen>.*?) ?should have been in "
        r"(?P<range>.*)",
        reason="{who_returns} returns {number}, and may only return a value in {range}",
        why="Callbacks of bpf_loop return 0 to go on and 1 to stop; cgroup programs 0 to drop and 1 to pass. XDP "
        "and TC programs may "
        "return any number.",
        advice="return one of the values that are allowed",
        code="return 0;",
        facts=_ending,
    ),
    Entry(
        id="types-missing",
        title="The object has no types (BTF)",
        words="missing btf func_info",
        pattern=r"missing btf func_info|missing btf_id|function \w+ .*without BTF|No BTF info for",
        reason="the program uses callbacks or global functions, which need type information (BTF), and the "
        "object has none",
        why="clang writes BTF with -g. netbpf also leaves types away that the kernel refuses.",
        advice="compile with -g",
        code="clang -g -O2 -target bpf -c prog.bpf.c -o prog.bpf.o",
    ),
)  # fmt: skip


def _called(case: Case) -> str:
    """The function of the program that the refused instruction calls."""
    text = case.step.text if case.step else ""
    offset = text.removeprefix("call pc")
    if case.step and offset != text and offset.lstrip("+-").isdigit():
        return case.function(case.step.insn + 1 + int(offset))
    return "the function"
