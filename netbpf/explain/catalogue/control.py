"""Rejections about loops, size and complexity."""

from netbpf.explain.catalogue.entry import Case, Entry, Facts


def _thousands(_: Case, facts: Facts) -> Facts:
    return {"count": f"{int(facts['n']):,}"}


ENTRIES = (
    Entry(
        id="loop-infinite",
        title="A loop that never ends",
        words="infinite loop detected at insn 0",
        pattern=r"infinite loop detected at insn (?P<insn>\d+)",
        reason="the loop never ends: a round leaves everything as it was",
        why="The verifier came by an instruction again with the very same values, so it would come by for ever.",
        advice="change the loop's variable in each round and end at a constant, or use bpf_loop()",
        code="for (int i = 0; i < 16; i++)\n\t...",
    ),
    Entry(
        id="loop-back-edge",
        title="A loop, on a kernel that takes none",
        words="back-edge from insn 12 to 4",
        pattern=r"back-edge from insn (?P<insn>\d+) to (?P<target>\d+)",
        reason="the program has a loop, and here none are allowed",
        why="Kernels before 5.3, and later ones for users without CAP_BPF, refuse every jump backwards.",
        advice="have the compiler unroll the loop, or run a newer kernel",
        code="#pragma unroll\nfor (int i = 0; i < 16; i++)\n\t...",
    ),
    Entry(
        id="too-complex",
        title="The program is too complex: a million instructions",
        words="BPF program is too large. Processed 1000001 insn",
        pattern=r"BPF program is too (?:large|complex)[.,] ?[Pp]rocessed (?P<n>\d+) insn",
        reason="the verifier gave up after following {limit} instructions; most often a loop without a small, "
        "constant bound",
        why="The verifier follows every path, round by round in loops. A loop whose bound is a variable, or many "
        "branches in "
        "a row, multiply; the limit is 1,000,000 instructions (4,096 for users without CAP_BPF, 131,072 before "
        "Linux 5.2).",
        advice="bound the loop by a small constant, or use bpf_loop() (Linux 5.17), whose body is followed once",
        code="for (int i = 0; i < 64 && i < n; i++)\n\t...\n/* or */ bpf_loop(n, step, &context, 0);",
        facts=lambda _, facts: {"limit": f"{int(facts['n']) - 1:,}"},
    ),
    Entry(
        id="too-many-jumps",
        title="The program is too complex: too many open branches",
        words="The sequence of 8193 jumps is too complex.",
        pattern=r"The sequence of (?P<n>\d+) jumps is too complex",
        reason="{count} branches were still open when the verifier gave up; the limit is 8,192",
        why="Each conditional jump leaves another path to follow later. A loop that branches in each of "
        "thousands of rounds "
        "piles them up.",
        advice="use fewer rounds, take the branch out of the loop, or use bpf_loop() (Linux 5.17)",
        code="bpf_loop(n, step, &context, 0);",
        facts=_thousands,
    ),
    Entry(
        id="too-many-instructions",
        title="The program has too many instructions",
        words="is too large: 1200000 instructions",
        pattern=r"is too large: (?P<n>\d+) instructions",
        reason="the program has {count} instructions, more than the kernel takes",
        why="The limit is 1,000,000 (4,096 before Linux 5.2 and for users without CAP_BPF).",
        advice="split the program with tail calls, or keep functions from being inlined",
        code="static __attribute__((noinline)) int parse(struct xdp_md *ctx)",
        facts=_thousands,
    ),
)  # fmt: skip
