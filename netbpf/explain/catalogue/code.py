"""Rejections of code that clang does not write: made by hand, cut off, or for another kernel."""

from netbpf.explain.catalogue.entry import Case, Entry, Facts


def _end(case: Case, _: Facts) -> Facts:
    """The last line, where there is one function; with several the kernel does not say which one it means."""
    one = len(case.code.functions) == 1 and case.code.lines
    return {"insn": str(case.code.lines[-1].at)} if one else {}


ENTRIES = (
    Entry(
        id="unreachable",
        title="Code that can never run",
        words="unreachable insn 2",
        pattern=r"unreachable insn (?P<insn>\d+)",
        reason="instruction {insn} can never be reached",
        why="Every instruction must be reachable. clang removes dead code; inline assembly and naked functions "
        "may leave some, and "
        "so does a function that never returns to what stands behind its call.",
        advice="remove the code behind the exit or the jump",
        code="return XDP_PASS;  /* nothing behind it */",
    ),
    Entry(
        id="jump-outside",
        title="A jump leads out of the program",
        words="jump out of range from insn 1 to 102",
        pattern=r"jump out of range from insn (?P<insn>\d+) to (?P<target>-?\d+)",
        reason="instruction {insn} jumps to {target}, which is outside of its function",
        why="Jumps stay within their function. Calls go to the first instruction of another.",
        advice="jump to a label in the same function",
        code='asm volatile goto("if r1 == 0 goto %l[out]" : : : : out);',
    ),
    Entry(
        id="falls-off",
        title="A function does not end",
        words="last insn is not an exit or jmp",
        pattern=r"last insn is not an exit or jmp|no instruction with index",
        reason="the code runs past the end of a function: its last instruction is neither exit nor a jump",
        why="clang leaves the end away where it believes that it cannot be reached: behind a call of a noreturn "
        "function, behind "
        "__builtin_unreachable(), or after undefined behaviour.",
        advice="return at the end; look for undefined behaviour such as a missing return",
        code="return XDP_PASS;",
        facts=_end,
    ),
    Entry(
        id="ld-abs",
        title="BPF_LD_ABS in a program type that does not have it",
        words="BPF_LD_[ABS|IND] instructions not allowed for this program type",
        pattern=r"BPF_LD_\[ABS\|IND\] instructions not allowed for this program type",
        reason="BPF_LD_ABS and BPF_LD_IND, the packet loads of classic BPF, are not allowed in {kind}",
        why="load_byte(), load_half() and load_word() of old samples become these instructions. They exist for "
        "socket filters and "
        "TC programs.",
        advice="read the packet through data and data_end",
        code="eth = (void *)(long)ctx->data;\nif ((void *)(eth + 1) > data_end)\n\treturn XDP_PASS;",
    ),
    Entry(
        id="bad-map-fd",
        title="An instruction names a map that is none",
        words="fd 9999 is not pointing to valid bpf_map",
        pattern=r"fd (?P<fd>-?\d+) is not pointing to valid bpf_map|unrecognized bpf_ld_imm64 insn|"
        r"bpf_map_fd .*does not exist|invalid map_fd|the map .* does not exist",
        reason="an instruction refers to a map by a descriptor that is no map",
        why="Objects name maps by relocations, and a loader puts descriptors in. This code was loaded without "
        "that, or by a loader "
        "that does not know the kind of reference.",
        advice="load the object file itself, and declare maps in section .maps",
        code='struct { ... } counters SEC(".maps");',
    ),
    Entry(
        id="bad-instruction",
        title="An instruction that the kernel does not know",
        words="unknown opcode ff",
        pattern=r"unknown opcode|unknown insn|uses reserved fields|invalid BPF_LD_IMM64 insn|invalid "
        r"bpf_ld_imm64 insn|"
        r"jump into the middle of ldimm64|R(?P<number>\d+) is invalid|invalid (?:BPF_)?ALU|"
        r"BPF_(?:ALU|ALU64|END|NEG|MOV|JA|CALL|EXIT|LDX|ST|STX|XADD|ATOMIC) (?:uses|class)",
        reason="the kernel does not know an instruction of the program, or not in this form",
        why="Newer instruction sets need newer kernels: -mcpu=v3 needs Linux 5.1 (atomics 5.12), -mcpu=v4 needs "
        "Linux 6.6. A damaged "
        "file looks the same.",
        advice="compile for an older instruction set",
        code="clang -O2 -g -target bpf -mcpu=v2 -c prog.bpf.c -o prog.bpf.o",
    ),
)  # fmt: skip
