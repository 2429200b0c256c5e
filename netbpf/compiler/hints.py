"""What clang's errors mean for BPF, where its own words leave a person alone. Wordings of clang 10 to 20."""

import re

from netbpf.compiler.headers import missing_header

_HINTS = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (
            r"VarArgs or StructRet|aggregate returns are not supported",
            ("BPF functions return one number: pass a pointer to the struct, or make the function "
            "static __always_inline"),
        ),
        (r"variadic functions are not supported", "BPF functions take a fixed number of arguments, up to five"),
        (
            r"defined with too many args|stack arguments are not supported|too many arg(?:ument)?s",
            ("BPF functions take up to five arguments: pass a struct by pointer, or make the function "
            "static __always_inline"),
        ),
        (
            r"BPF stack limit",
            "a program has 512 bytes of stack: keep large variables in a per-CPU array of one entry",
        ),
        (
            r"built-in function '__(?:add|sub|mul|div|fix|float|ext|trunc|eq|ne|lt|gt|le|ge|un)\w*[sdt]f\w*'",
            "BPF has no floating point: calculate with integers, scaled where needed",
        ),
        (
            r"built-in function '(?:memcpy|memset|memmove|memcmp)'",
            ("BPF has no libc: copies need a size that is constant and not large, "
            "otherwise write the loop, or use bpf_probe_read_kernel()"),
        ),
        (r"A call to built-in function '", "BPF has no libc and no compiler's library: write it static inline"),
        (
            r"[Uu]nsupport(?:ed)? signed division",
            "BPF before -mcpu=v4 divides unsigned numbers only: make both __u32 or __u64",
        ),
        (r"[Uu]nsupported atomic operation", "BPF has atomic operations of 32 and 64 bits"),
        (r"Cannot select: .*\bbrind\b", "BPF cannot jump to computed addresses: use switch or if instead of goto *"),
        (
            r"invalid register/token name|unrecognized instruction mnemonic|invalid operand for instruction",
            "inline assembly has to be BPF's; a header for the host, such as those of libc, may have brought it in",
        ),
        (
            r"(?:call to undeclared|implicitly declaring) library function",
            "BPF has no libc: print with bpf_printk() of <bpf/bpf_helpers.h>, copy with __builtin_memcpy()",
        ),
        (
            r"call to undeclared function 'bpf_|implicit declaration of function 'bpf_",
            "helpers are declared in <bpf/bpf_helpers.h>; those that are newer than the header are not in it",
        ),
        (
            r"call to undeclared function 'SEC'|expected .* before|unknown type name '__(?:u|s|be|le)\d+'",
            "include <linux/types.h> or <linux/bpf.h> first, then <bpf/bpf_helpers.h>",
        ),
    )
)  # fmt: skip


def clang_hint(output: str) -> str | None:
    """What to do about the errors in clang's output, or None where its words have to do."""
    errors = "\n".join(
        line for line in output.splitlines() if "rror" in line or "declaring" in line
    )
    return missing_header(output) or next(
        (hint for pattern, hint in _HINTS if pattern.search(errors)), None
    )
