"""Whether the data of one program serves another."""

import itertools

import pytest

from netbpf.bpf.btf.compare import difference, same_layout
from tests.unit.btf_c import CLANGS, btf_of, variable


@pytest.fixture(params=list(itertools.product(CLANGS, CLANGS)), ids="-".join)
def clangs(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Every compiler's old object against every compiler's new one."""
    old, new = request.param
    return str(old), str(new)


SAME = [
    ("__u32 x", "unsigned int x"),
    ("const volatile __be32 x", "__u32 x"),
    ("struct a { int i; } x", "typedef struct { const int i; } t; t x"),
    ("void *x", "struct gone { int a; } *x"),
    ("enum e { A, B } x", "enum f { A, B, C } x"),
    ("enum e { A = -1 } x", "enum e { A = -1 } x"),
    (
        "struct { struct { int a; }; union { int b; float c; }; } x",
        "struct { int a; union { int b; float c; }; } x",
    ),
    ("struct { int a : 3, b : 5; } x", "struct { int a : 3, b : 5; } x"),
    ("__u8 x[6]", "unsigned char x[6]"),
    ("struct { __be32 saddr; } x", "struct { __u32 saddr; } x"),
    ("struct in6_addr x", "struct in6_addr x"),
    ("char x[4]", "signed char x[4]"),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_same(clangs: tuple[str, str], old: str, new: str) -> None:
    a, b = btf_of(clangs[0], old + ";"), btf_of(clangs[1], new + ";")
    assert difference(a, variable(a, "x"), b, variable(b, "x")) is None
    assert same_layout(a, variable(a, "x"), b, variable(b, "x"))


DIFFERENT = [
    ("__u32 x", "__u64 x", "cfg was u32, is u64"),
    ("__u32 x", "int x", "cfg was u32, is s32"),
    ("__u32 x", "float x", "cfg was u32, is float"),
    ("float x", "double x", "cfg had 4 bytes, has 8"),
    ("bool x", "__u8 x", "cfg was bool, is u8"),
    ("int x[2]", "int x[3]", "cfg had 2 elements, has 3"),
    ("int x[2]", "long x[2]", "cfg[] was s32, is s64"),
    ("struct { __u16 port; } x", "struct { __u32 port; } x", "cfg.port was u16, is u32"),
    ("struct { int a, b; } x", "struct { int b, a; } x", "cfg.a was at byte 0 (4 bytes), is at byte 4 (4 bytes)"),
    ("struct { int a, b; } x", "struct { int a; } x", "cfg.b is gone"),
    ("struct { int a; } x", "struct { int a, b; } x", "cfg.b is new"),
    ("struct { int a; } x", "struct { int a; } __attribute__((aligned(8))) x", "cfg had 4 bytes, has 8"),
    ("struct { int a : 3; } x", "struct { int a : 4; } x", "cfg.a was at bit 0 (3 bits), is at bit 0 (4 bits)"),
    ("struct { int a; } x", "union { int a; } x", "cfg was struct, is union"),
    ("enum e { A, B } x", "enum e { B, A } x", "cfg: A was 0, is 1"),
    ("struct { struct { char n[4]; } i; } x", "struct { struct { char n[5]; } i; } x", "cfg.i.n had 4 elements, has 5"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "what"), DIFFERENT)
def test_different(clangs: tuple[str, str], old: str, new: str, what: str) -> None:
    a, b = btf_of(clangs[0], old + ";"), btf_of(clangs[1], new + ";")
    found = difference(a, variable(a, "x"), b, variable(b, "x"), name="cfg")
    assert found == what
    assert not same_layout(a, variable(a, "x"), b, variable(b, "x"))
    assert difference(a, variable(a, "x"), a, variable(a, "x")) is None
