"""What every installed clang says of what BPF does not have, and the hint that netbpf adds."""

from pathlib import Path

import pytest

from netbpf.compiler import compile_source
from netbpf.compiler.hints import clang_hint
from netbpf.compiler.result import Options
from netbpf.errors import CompileError
from tests.support.compiling import CLANGS

CASES = {
    "struct": (
        ("struct s { long a[4]; };\n"
        "__attribute__((noinline)) struct s f(long x) { struct s r = {{x}}; return r; }\n"
        "int g(long x) { return f(x).a[1]; }\n"),
        "pass a pointer to the struct",
    ),
    "arguments": (
        ("__attribute__((noinline)) int f(int a, int b, int c, int d, int e, int h)\n"
        '{ asm volatile(""); return a + b + c + d + e + h; }\n'
        "int g(int x) { return f(x, x + 1, x + 2, x + 3, x + 4, x + 5); }\n"),
        "up to five arguments",
    ),
    "stack": (
        "int f(int n) { volatile char b[600]; for (int i = 0; i < 600; i++) b[i] = n; return b[n & 7]; }\n",
        "512 bytes of stack",
    ),
    "float": ("double f(double a) { return a * 2; }\n", "no floating point"),
    "memcpy": (
        "int f(void *a, void *b, unsigned long n) { __builtin_memcpy(a, b, n); return 0; }\n",
        "no libc",
    ),
    "atomic": (
        "int f(short *p) { return __atomic_exchange_n(p, 3, 0); }\n",
        "32 and 64 bits",
    ),
    "goto": (
        "int f(int a) { static void *t[] = {&&x, &&y}; goto *t[a & 1]; x: return 1; y: return 2; }\n",
        "computed addresses",
    ),
    "assembly": (
        'int f(void) { asm volatile("mov %eax, %ebx"); return 0; }\n',
        "inline assembly has to be BPF's",
    ),
    "header": (
        ("struct md { long data; };\n"
        "int f(struct md *c) { struct ethhdr *e = (void *)c->data; struct iphdr *ip = (void *)(e + 1);\n"
        "return ip->protocol == IPPROTO_TCP && e->h_proto == ETH_P_IP; }\n"),
        "include <linux/if_ether.h>",
    ),
    "types": ("u32 x;\n", "with <linux/types.h> it is __u32"),
    "stdint": ("uint32_t x; bool y;\n", "include <stdint.h>, <stdbool.h>"),
    "legacy map": ("struct bpf_map_def m = { .type = 1 };\n", 'SEC(".maps")'),
    "dialect": (
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nBPF_HASH(x);\n",
        "--frontend bcc",
    ),
    "section": ('int m SEC("maps");\n', "bpf_helpers.h"),
    "section first": ('typedef int x; struct s SEC("maps") m = { 1 };\n', "bpf_helpers.h"),
    "kernel header": ("#include <linux/skbuff.h>\n", "vmlinux.h"),
    "twice": ("struct xdp_md { int x; };\n#include <linux/bpf.h>\n", "not both"),
    "library": ('int f(void) { return printf("x"); } int g(void) { return 1 + ; }\n', "bpf_printk()"),
}  # fmt: skip


@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
@pytest.mark.parametrize("name", CASES)
def test_what_bpf_does_not_have(
    name: str, clang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, hint = CASES[name]
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("prog.bpf.c").write_text(source)
    with pytest.raises(CompileError) as caught:
        compile_source("prog.bpf.c", options=Options(clang=clang))
    assert hint in (caught.value.hint or ""), caught.value.output


# -mcpu=v4 divides; netbpf compiles for v3, and clang 14 crashes where later ones complain.
@pytest.mark.parametrize(
    "said",
    [
        "Error at line 1: Unsupport signed division for DAG: 0x1: i64 = sdiv\n",
        "div.c:1:33: error: unsupported signed division, please convert to unsigned div/mod.\n",
    ],
)
def test_signed_division(said: str) -> None:
    assert "unsigned" in (clang_hint(said) or "")


def test_other_errors_have_no_hint() -> None:
    assert clang_hint("x.c:1:1: error: expected identifier or '('\n") is None
    assert clang_hint("x.c:1:1: warning: unused variable 'BPF stack limit'\n") is None
