"""A large object: C of many programs and functions, compiled once."""

import functools

from tests.support.compiling import compile_c

_HEAD = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "vmlinux_part.h"
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");
__u64 total;
char _license[] SEC("license") = "GPL";
"""
_TASK = "struct task_struct { int pid; int tgid; } __attribute__((preserve_access_index));\n"


@functools.cache
def large_object(programs: int = 20, steps: int = 170) -> bytes:
    """Some 55,000 instructions in ``programs`` programs."""
    source = _HEAD.replace('#include "vmlinux_part.h"\n', _TASK)
    for number in range(programs):
        body = "".join(
            f"k = {step}; v = bpf_map_lookup_elem(&seen, &k); if (v) {{ *v += a; total += {step}; }}\n"
            for step in range(steps)
        )
        source += (
            f"static __noinline int part_{number}(__u64 a) {{ __u32 k; __u64 *v;\n{body} return total; }}\n"
            f'SEC("xdp") int prog_{number}(struct xdp_md *ctx) {{\n'
            f"struct task_struct *t = (void *)bpf_get_current_task();\n"
            f"int pid = 0; bpf_probe_read_kernel(&pid, 4, &t->pid); return part_{number}(pid) & 1; }}\n"
        )
    return compile_c(source, name="large")
