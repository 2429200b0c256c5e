"""Variables find their way by name and type, wherever they lie in the new object."""

import json

import pytest

from netbpf.bpf.btf.encode import encode
from netbpf.carry import CarryError
from netbpf.errors import ObjectError, UsageError
from netbpf.manager import settings
from tests.support.compiling import CLANGS
from tests.upgrade.lab import Lab, Value, actions, lines, program


def one(declaration: str, section: str = "") -> str:
    """An object with a variable ``x`` between neighbours that differ from object to object."""
    return program("USE(x)", f"{declaration};")


def moved(lab: Lab, before: str, after: str, raw: bytes, clang: str = CLANGS[0]) -> Value:
    """The value of ``x`` in the new object, where its bytes in the old one were ``raw``."""
    neighbours = "char first = 1; static char odd[3] = {1, 2, 3};"
    old = lab.old(lab.data(program("USE(x); ", f"{before};"), clang=clang))
    (section,) = (name for name, spec in old.loaded.spec.maps.items() if spec.is_data)
    old.write(section, raw.ljust(old.map(section).info.value_size, b"\0"))
    text = program(
        "USE(x); USE(first); USE(odd); USE(zero)", f"{neighbours} {after}; char zero[5];"
    )
    done = lab.upgraded(old, lab.data(text, clang=CLANGS[-1]))
    report = done.finish()
    assert report.notes == ()
    found = done.new.variables()
    assert (found["first"], found["odd"], found["zero"]) == (1, "\x01\x02\x03", "")
    return found["x"]


KEPT = [
    ("__u64 x", "__u64 x", (5).to_bytes(8, "little"), 5),
    ("__u32 x", "__u64 x", b"\xff\xff\xff\xff", 0xFFFFFFFF),
    ("int x", "long x", b"\xfe\xff\xff\xff", -2),
    ("__u16 x", "__u32 x", b"\x01\x02", 0x0201),
    ("__u8 x", "__s16 x", b"\xff", 255),
    ("__u32 x", "int x", b"\x05\0\0\0", 5),
    ("int x", "__u32 x", b"\x05\0\0\0", 5),
    ("int x", "__u64 x", b"\x05\0\0\0", 5),
    ("__u64 x", "__u32 x", b"\xff\xff\xff\xff", 0xFFFFFFFF),
    ("long x", "char x", b"\x80" + 7 * b"\xff", -128),
    ("bool x", "bool x", b"\1", True),
    ("bool x", "__u32 x", b"\1", 1),
    ("__be16 x", "__be16 x", b"\0\x35", 53),
    ("__be16 x", "__be32 x", b"\0\x35", 53),
    ("__u32 x = 3", "__u32 x", b"\x07\0\0\0", 7),
    ("__u32 x", "__u32 x = 3", b"\x07\0\0\0", 7),
    ("static __u32 x", "static __u32 x", b"\x07\0\0\0", 7),
    ("enum e { A, B } x", "enum f { A, B, C } x", b"\1\0\0\0", "B"),
    ("__u32 x", "enum f { A, B, C } x", b"\2\0\0\0", "C"),
    ("enum e { A, B } x", "__u64 x", b"\1\0\0\0", 1),
    ("typedef __u32 t; t x", "typedef __u64 other; other x", b"\1\0\0\0", 1),
    ("char x[4]", "char x[8]", b"abc\0", "abc"),
    ("__u8 x[6]", "__u8 x[6]", b"\2\0\0\0\0\1", "02:00:00:00:00:01"),
    ("struct in6_addr x", "struct in6_addr x", b"\1" + bytes(14) + b"\2", "100::2"),
    ("__u32 x[2]", "__u32 x[4]", b"\1\0\0\0\2\0\0\0", [1, 2, 0, 0]),
    ("__u32 x[2]", "__u64 x[3]", b"\1\0\0\0\2\0\0\0", [1, 2, 0]),
    ("__u8 x[2][2]", "__u16 x[3][3]", b"\1\2\3\4", [[1, 2, 0], [3, 4, 0], [0, 0, 0]]),
    ("struct { int a; short b; } x", "struct { short b; int new; int a; } x", b"\1\0\0\0\2\0",
     {"b": 2, "new": 0, "a": 1}),
    ("struct { int a; short b; } x[2]", "struct { short b; long a; } x[2]",
     b"\1\0\0\0\2\0\0\0\3\0\0\0\4\0", [{"b": 2, "a": 1}, {"b": 4, "a": 3}]),
    ("struct { struct { int a; } in; } x", "struct { char c; struct { int b; long a; } in; } x",
     b"\1\0\0\0", {"c": 0, "in": {"b": 0, "a": 1}}),
    ("struct { __u8 a : 3, b : 5; } x", "struct { char c; __u32 b : 7, a : 9; } x", bytes([0b10110_101]),
     {"c": 0, "b": 0b10110, "a": 0b101}),
    ("struct { int a : 4; } x", "struct { int a; } x", b"\x0f", {"a": -1}),
    ("union { int a; char c; } x", "union { int a; char c; } x", b"\1\2\0\0", {"a": 513, "c": 1}),
    ("struct { int f; union { int a; char c; }; } x", "struct { char o; union { int a; char c; }; int f; } x",
     b"\7\0\0\0\1\2\0\0", {"o": 0, "a": 513, "c": 1, "f": 7}),
    ("struct { void *p; int a; } x", "struct { int a; void *p; } x", bytes(8) + b"\3", {"a": 3, "p": "0x0"}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "raw", "value"), KEPT)
def test_a_value_goes_along(lab: Lab, before: str, after: str, raw: bytes, value: Value) -> None:
    assert moved(lab, before, after, raw) == value


def test_every_compiler_means_the_same(lab: Lab) -> None:
    for clang in CLANGS:
        assert moved(lab, "struct { int a; bool b; } x", "struct { bool b; long a; } x", b"\1\0\0\0\1", clang) == {
            "b": True, "a": 1,
        }  # fmt: skip


REFUSED = [
    ("__u64 x", "__u32 x", b"\0\0\0\0\1", "x is 4294967296, which the new type does not have"),
    ("int x", "__u32 x", b"\xff\xff\xff\xff", "x is -1, which the new type does not have"),
    ("__u32 x", "int x", b"\xff\xff\xff\xff", "x is 4294967295, which the new type does not have"),
    ("int x[2]", "__u64 x[2]", b"\0\0\0\0\xfe\xff\xff\xff", "x[1] is -2, which the new type does not have"),
    ("__u8 x", "bool x", b"", "x was u8, is bool"),
    ("int x", "float x", b"", "x was s32, is float"),
    ("int x", "struct { int a; } x", b"", "x was s32, is struct"),
    ("int x[4]", "int x[2]", b"", "x had 4 elements, has 2"),
    ("char x[4]", "char x[2]", b"", "x had 4 elements, has 2"),
    ("enum e { A, B } x", "enum e { B, A } x", b"", "x: A was 0, is 1"),
    ("void *x", "char c; void *x", b"\1", "x is a pointer, which means nothing to another program"),
    ("struct { int a; } x", "struct { short a; } x", b"\0\x80", "x.a is 32768, which the new type does not have"),
    ("struct { int a : 9; } x", "struct { int a : 8; } x", b"\x80", "x.a is 128, which the new type does not have"),
    ("__be16 x", "__u32 x", b"", "x was be16, is u32: one of them is in network byte order"),
    ("union { int a; char c; } x", "union { int a; long c; } x", b"", "x.c was char, is s64"),
    ("struct { union { int a; char c; }; } x", "struct { int a; char c; } x", b"",
     "x.a shares its bytes with other members than before"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "raw", "why"), REFUSED)
def test_what_cannot_keep_its_value_is_refused(
    lab: Lab, before: str, after: str, raw: bytes, why: str
) -> None:
    old = lab.old(one(before))
    old.write(".bss", raw.ljust(old.map(".bss").info.value_size, b"\0"))
    new = program("USE(x); USE(other)", f"long other; {after};")
    with pytest.raises(CarryError) as caught:
        lab.plan(old, new)
    assert caught.value.differences == ((".bss", why),)
    assert caught.value.message == f"the new object cannot take over .bss: {why}"
    assert caught.value.hint == "start anew: --reset .bss"
    assert actions(lab.plan(old, new, reset=[".bss"])) == {".bss": "reset"}


def test_every_difference_is_named(lab: Lab) -> None:
    old = lab.old(
        program("USE(a); USE(b); USE(m)", "long *a; long b[2]; MAP(m, HASH, 8, __u32, __u32);")
    )
    new = program("USE(a); USE(b); USE(m)", "int a; long b; MAP(m, HASH, 8, __u64, char);")
    with pytest.raises(CarryError) as caught:
        lab.plan(old, new)
    assert [name for name, _ in caught.value.differences] == [".bss", ".bss", "m", "m"]
    assert caught.value.hint == "start anew: --reset .bss --reset m"
    assert caught.value.message == (
        "the new object cannot take over .bss: a was long *, is s32; .bss: b was s64[2], is s64; m: its key had 4 "
        "bytes, has 8; m: its value was u32, is char"
    )


def test_what_a_plan_says(lab: Lab) -> None:
    old = lab.old(program(
        "USE(kept); USE(wide); USE(gone); USE(cfg); USE(ring)",
        "long kept; int wide; int gone; struct { int a, out; } cfg; int ring[2];",
    ))  # fmt: skip
    values = {"kept": 1, "wide": 2, "gone": 3}
    raw = bytearray(old.raw(".bss"))
    shape = old.open(".bss")
    assert shape.section
    assert shape.btf
    raw[:] = encode(shape.btf, shape.section.id, {**values, "cfg": {"a": 4, "out": 5}}, base=raw)
    old.write(".bss", bytes(raw))
    planned = lab.plan(old, program(
        "USE(kept); USE(wide); USE(fresh); USE(cfg); USE(ring)",
        "char fresh; long kept = 9; long wide; struct { int a, in; } cfg; int ring[4];",
    ))  # fmt: skip
    assert actions(planned) == {".data": "variables", ".bss": "variables"}
    assert set(lines(planned)) == {
        "kept moved from .bss to .data, with its value", "wide: s32 → s64", "gone is gone: was 3", "fresh is new",
        "cfg.in is new", "cfg.out is gone: was 5", "ring grew from 2 to 4 elements",
    }  # fmt: skip
    told = json.loads(json.dumps(planned.as_dict()))
    assert {detail["change"] for one in told["maps"] for detail in one["details"]} == {
        "moved", "widened", "vanished", "new", "grown",
    }  # fmt: skip


def test_the_same_section_goes_on_as_it_is(lab: Lab) -> None:
    old = lab.old(program("USE(a); USE(b)", "long a; int b = 1;"))
    planned = lab.plan(old, program("USE(a); USE(b)", "long a; static int b = 2;"))
    assert actions(planned) == {".bss": "carried", ".data": "carried"}
    assert planned.carried[".bss"].info.id == old.map(".bss").info.id


def test_a_section_that_nobody_uses_any_more_is_reported(lab: Lab) -> None:
    old = lab.old(program("USE(a)", "long a;"))
    old.write(".bss", (7).to_bytes(8, "little"))
    planned = lab.plan(old, program())
    assert actions(planned) == {".bss": "dropped"}
    assert lines(planned) == ["a is gone: was 7"]


def test_a_section_that_is_still_there_goes_on_though_no_code_names_it(lab: Lab) -> None:
    """So a rollback finds what it had."""
    old = lab.old(program("USE(a)", "long a;"))
    planned = lab.plan(old, program("", "long a;"))
    assert actions(planned) == {".bss": "carried"}
    assert planned.extra == (".bss",)


# --- names that repeat ---


def statics(first: str, second: str, before: str = "") -> str:
    """Two functions with static variables of one name."""
    return program("USE(first); one(); two()", f"""{before} long first;
static __attribute__((noinline)) void one(void) {{ static {first}; USE(x); }}
static __attribute__((noinline)) void two(void) {{ static {second}; USE(x); }}
""")  # fmt: skip


def test_static_variables_of_functions_are_told_apart(lab: Lab) -> None:
    old = lab.old(statics("int x", "int x"))
    found = [name for name in old.variables() if name != "first"]
    assert len(found) == 2
    raw = bytearray(old.raw(".bss"))
    shape = old.open(".bss")
    assert shape.section
    assert shape.btf
    values = dict(zip(found, (11, 22), strict=True))
    old.write(".bss", encode(shape.btf, shape.section.id, values, base=raw))
    done = lab.upgraded(
        old, statics("long x", "long x", "char c[3];").replace("USE(first)", "USE(first); USE(c)")
    )
    done.finish()
    new = done.new.variables()
    assert sorted(value for name, value in new.items() if name.partition("@")[0] in
                  {one.partition("@")[0] for one in found}) == [11, 22]  # fmt: skip


# --- constants ---


def test_a_setting_is_kept_and_other_defaults_are_new(lab: Lab) -> None:
    spec = lab.data(program(
        "USE(limit); USE(other); USE(cfg)",
        "const volatile int limit = 3, other = 4; const volatile struct { int port, size; } cfg = {53, 100};",
    ))  # fmt: skip
    settings.apply(spec, ["limit=30", "cfg.port=5353"])
    old = lab.old(spec)
    new = program(
        "USE(limit); USE(other); USE(cfg)",
        "const volatile char pad = 1; const volatile long other = 40, limit = 5; "
        "const volatile struct { int size, port; } cfg = {200, 80};",
    )
    planned = lab.plan(old, new)
    assert actions(planned) == {".rodata": "new"}
    assert lines(planned) == [
        "limit = 30: setting kept",
        "cfg = {port: 5353, size: 100}: setting kept",
    ]
    done = lab.upgraded(old, planned.spec)
    assert done.new.variables() | {"pad": 1} == {
        "limit": 30, "other": 40, "pad": 1, "cfg": {"size": 200, "port": 5353},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("const volatile int other = 1;", "limit was set to 300; the new object has no such constant"),
        ("const volatile char other = 1, limit = 1;", "limit is 300, which the new type does not have"),
    ],
)  # fmt: skip
def test_a_setting_never_goes_silently(lab: Lab, new: str, why: str) -> None:
    spec = lab.data(program("USE(limit)", "const volatile int limit = 3;"))
    settings.apply(spec, ["limit=300"])
    old = lab.old(spec)
    text = program("USE(other)" + ("; USE(limit)" if "limit" in new else ""), new)
    with pytest.raises(CarryError) as caught:
        lab.plan(old, text)
    assert caught.value.differences == ((".rodata", why),)
    planned = lab.plan(old, text, reset=[".rodata"])
    assert actions(planned) == {".rodata": "reset"}


def test_a_setting_can_be_given_up_where_nothing_takes_it(lab: Lab) -> None:
    spec = lab.data(program("USE(limit)", "const volatile int limit = 3;"))
    settings.apply(spec, ["limit=300"])
    old = lab.old(spec)
    with pytest.raises(CarryError, match="limit was set to 300") as caught:
        lab.plan(old, program())
    assert caught.value.hint == "start anew: --reset .rodata"
    assert actions(lab.plan(old, program(), reset=[".rodata"])) == {".rodata": "dropped"}


def test_a_member_that_was_set_never_goes_silently(lab: Lab) -> None:
    spec = lab.data(program("USE(cfg)", "const volatile struct { int a, b; } cfg = {1, 2};"))
    settings.apply(spec, ["cfg.b=3"])
    old = lab.old(spec)
    with pytest.raises(CarryError, match=r"cfg\.b was set; the new object has no such member"):
        lab.plan(old, program("USE(cfg)", "const volatile struct { int a; } cfg = {1};"))


def test_constants_that_were_not_set_may_change_at_will(lab: Lab) -> None:
    old = lab.old(program("USE(limit)", "const volatile long limit = 3;"))
    done = lab.upgraded(old, program("USE(limit)", "const volatile char limit = 'x';"))
    assert done.new.variables() == {"limit": ord("x")}
    assert lines(done.plan) == []


def test_a_variable_that_becomes_a_constant_says_so(lab: Lab) -> None:
    old = lab.old(program("USE(limit); USE(n)", "int limit = 3; int n = 1;"))
    old.write(".data", b"\x09\0\0\0\1\0\0\0")
    done = lab.upgraded(
        old, program("USE(limit); USE(n)", "const volatile int limit = 5; int n = 1;")
    )
    assert (
        "limit = 9: setting kept, moved from .data to .rodata, where it cannot change any more"
        in lines(done.plan)
    )
    assert done.new.variables() == {"limit": 9, "n": 1}


def test_a_constant_that_becomes_a_variable_keeps_its_setting(lab: Lab) -> None:
    spec = lab.data(program("USE(limit); USE(n)", "const volatile int limit = 3; int n = 1;"))
    settings.apply(spec, ["limit=30"])
    done = lab.upgraded(lab.old(spec), program("USE(limit); USE(n)", "int limit = 5; long n = 2;"))
    done.finish()
    assert done.new.variables() == {"limit": 30, "n": 1}


# --- what cannot be moved ---


def test_a_timer_stays_where_it_is(lab: Lab) -> None:
    value = "struct v {{ {} struct bpf_timer t; }};"
    text = "MAP(m, ARRAY, 4, __u32, struct v);"
    old = lab.old(program("USE(m)", value.format("int a;") + text))
    assert actions(lab.plan(old, program("USE(m)", value.format("int a;") + text))) == {
        "m": "carried"
    }
    with pytest.raises(CarryError, match=r"its value\.t is a timer, which cannot be copied"):
        lab.plan(old, program("USE(m)", value.format("int a;") + text.replace("4", "8")))


def test_a_reset_of_something_else_is_a_mistake(lab: Lab) -> None:
    old = lab.old(program("USE(a)", "long a;"))
    with pytest.raises(UsageError, match=r"--reset \.bs: neither program has a map \.bs") as caught:
        lab.plan(old, program("USE(a)", "long a;"), reset=[".bs"])
    assert caught.value.hint == "did you mean .bss?"


# --- without types ---


def test_without_types_symbols_decide(lab: Lab) -> None:
    text = program("USE(a); USE(b)", "long a; int b;")
    old = lab.old(lab.data(text, debug=False))
    planned = lab.plan(old, lab.data(text.replace("return 2", "return 1"), debug=False))
    assert actions(planned) == {".bss": "carried"}
    assert lines(planned) == [
        ".bss has no BTF; names, places and sizes of its variables are the same"
    ]
    for other in ("long a; int b, c;", "int a; long b;"):
        text = program("USE(a); USE(b)", other)
        with pytest.raises(ObjectError, match="have no types"):
            lab.plan(old, lab.data(text, debug=False))


def test_one_with_types_and_one_without_go_by_symbols(lab: Lab) -> None:
    text = program("USE(a)", "long a;")
    old = lab.old(text)
    planned = lab.plan(old, lab.data(text, debug=False))
    assert actions(planned) == {".bss": "carried"}
    assert lines(planned) == [
        ".bss has no BTF; names, places and sizes of its variables are the same"
    ]
