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
            (r"redefinition of '(?:bpf_\w+|xdp_md|__sk_buff|\w+hdr|in6?_addr)'"
            r"|redefinition of enumerator '(?:BPF|XDP)_|typedef redefinition .*__kernel_"),
            "two headers define it: include either vmlinux.h or the kernel's <linux/...> headers, not both",
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


# Those that come before the headers that declare a name.
_FIRST = (
    (
        re.compile(r"(?:call to undeclared|implicitly declaring) library function"),
        "BPF has no libc: print with bpf_printk() of <bpf/bpf_helpers.h>, copy with __builtin_memcpy()",
    ),
    (
        re.compile(r"incomplete type 'struct bpf_map_def'"),
        'libbpf 1.0 has dropped struct bpf_map_def: declare the map with __uint() and __type() in SEC(".maps")',
    ),
)
# Clang does not name what it did not expect: it is in the line of the source, which follows.
_IN_SOURCE = (
    (
        re.compile(
            r"error: .*\n.*\bBPF_(?:HASH|ARRAY|TABLE|PERF_OUTPUT|PROG_ARRAY|PERCPU_ARRAY|HISTOGRAM)\("
        ),
        "this is BCC's dialect: --frontend bcc",
    ),
    (
        re.compile(
            r"error: expected (?:parameter declarator|';' after top level declarator)\n.*\bSEC\("
        ),
        "SEC() is a macro of <bpf/bpf_helpers.h>: include <linux/bpf.h> first, then that",
    ),
)

# What is declared where: names that a compiler does not know, and the header that has them.
_DECLARED = tuple(
    (re.compile(pattern), header)
    for pattern, header in (
        (r"struct ethhdr|ETH_(?:P_\w+|ALEN|HLEN)", "linux/if_ether.h"),
        (r"struct iphdr", "linux/ip.h"),
        (r"struct ipv6hdr", "linux/ipv6.h"),
        (r"struct tcphdr", "linux/tcp.h"),
        (r"struct udphdr", "linux/udp.h"),
        (r"struct icmphdr|ICMP_\w+", "linux/icmp.h"),
        (r"struct icmp6hdr|ICMPV6_\w+", "linux/icmpv6.h"),
        (r"struct in_addr|IPPROTO_(?:IP|ICMP|TCP|UDP|GRE|ESP|AH|SCTP|IPIP|IPV6)", "linux/in.h"),
        (r"struct in6_addr|IPPROTO_ICMPV6", "linux/in6.h"),
        (r"TC_ACT_\w+", "linux/pkt_cls.h"),
        (r"struct (?:xdp_md|__sk_buff)|XDP_(?:PASS|DROP|TX|ABORTED|REDIRECT)|BPF_(?:F|MAP_TYPE)_\w+|BPF_ANY",
         "linux/bpf.h"),
        (r"bpf_(?:ntohs|htons|ntohl|htonl|be64_to_cpu|cpu_to_be64)", "bpf/bpf_endian.h"),
        (r"BPF_CORE_READ\w*|bpf_core_\w+", "bpf/bpf_core_read.h"),
        (r"BPF_(?:PROG|KPROBE|KRETPROBE|KSYSCALL)|PT_REGS_\w+", "bpf/bpf_tracing.h"),
        (r"bool|true|false", "stdbool.h"),
        (r"u?int(?:8|16|32|64)_t", "stdint.h"),
        (r"NULL|size_t|offsetof", "stddef.h"),
    )
)  # fmt: skip
_UNKNOWN = re.compile(
    r"(?:undeclared identifier|undeclared function|implicit declaration of function|unknown type name"
    r"|incomplete (?:definition of )?type) '([^'\n]+)'"
)
_KERNEL_TYPES = frozenset({"u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64"})


def _undeclared(errors: str) -> str | None:
    """The headers that declare what clang does not know, None where that is not known here either."""
    unknown = [name.removesuffix(" *").strip() for name in _UNKNOWN.findall(errors)]
    found = dict.fromkeys(
        header for name in unknown for known, header in _DECLARED if known.fullmatch(name)
    )
    if not found:
        if short := next((name for name in unknown if name in _KERNEL_TYPES), None):
            return f"{short} is of vmlinux.h; with <linux/types.h> it is __{short}"
        return None
    listed = ", ".join(f"<{header}>" for header in found)
    macros = [name for name in unknown if re.match(r"(?:ETH|TC_ACT|BPF_F)_", name)]
    beside = f" (vmlinux.h has no macros: with it, #define {macros[0]})" if macros else ""
    return f"include {listed}{beside}"


def clang_hint(output: str) -> str | None:
    """What to do about the errors in clang's output, or None where its words have to do."""
    errors = "\n".join(
        line for line in output.splitlines() if "rror" in line or "declaring" in line
    )
    return (
        missing_header(output)
        or next((hint for pattern, hint in _FIRST if pattern.search(errors)), None)
        or next((hint for pattern, hint in _IN_SOURCE if pattern.search(output)), None)
        or _undeclared(errors)
        or next((hint for pattern, hint in _HINTS if pattern.search(errors)), None)
    )
