"""``btf dump --c``: clang compiles the header without a word, and what it makes of it has the layout of the BTF."""

import random
import subprocess
import tempfile
from pathlib import Path

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ObjectError
from netbpf.manager.sources import builtin, builtin_names
from tests.inspect.btf_layouts import compiled, differences, header_of, used
from tests.support.compiling import CLANGS, OBJECTS, compile_object

NEWEST = CLANGS[-1]
# What a compiler can be asked for, each in a type of its own.
TYPES = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
struct later;
typedef struct later later_t;
typedef int (*callback_t)(struct later *, later_t *, int, ...);
struct first { struct later *next; later_t *other; callback_t call; };
struct later { struct first head; struct later *(*find)(int (*)(void), const u8 *); };
struct bits { u32 a:3; u32 b:30; u64 c:40; u8 d:1; u8 :0; u8 e:7; int f:5; _Bool g:1; u16 h:9; };
struct gap { u8 a; u64 b:4; u8 c; u32 :20; u32 d:2; } ;
struct packed { u8 a; u64 b; u16 c; } __attribute__((packed));
struct packed_bits { u8 a:3; u64 b:50; u16 c:15; u32 d; u8 e:1; } __attribute__((packed));
struct line { u32 a; } __attribute__((aligned(64)));
struct lines { u8 a; struct line b; u8 c; u32 d __attribute__((aligned(16))); u64 e[3]; };
struct inner_packed { struct { u8 a; u32 b; } __attribute__((packed)) x; u8 tail; };
union wide { u32 a; u8 b[6]; } ;
union aligned { u32 a; } __attribute__((aligned(32)));
union tight { u32 a; u8 b[5]; } __attribute__((packed));
struct flexible { u16 count; u64 items[]; };
struct zero { struct flexible f; };
struct empty { };
struct holder { struct empty e; u8 a; const struct { u8 x; union { u16 y; u32 z; }; } ; volatile u16 w; };
enum small { SMALL_A, SMALL_B = 200 } __attribute__((packed));
enum negative { MINUS = -1, LEAST = -2147483647 - 1, MOST = 2147483647 };
enum large { LARGE = 4294967295U };
struct enums { enum small a; enum negative b:4; enum large c; enum { INLINE_A = 7, INLINE_B } d; };
struct arrays { int a[2][3]; const char *const names[4]; int (*p)[5]; void (*calls[2])(struct first); u8 none[0]; };
typedef struct { int x; struct arrays y; } unnamed_t;
typedef union { u64 whole; struct { u32 low, high; }; } parts_t;
struct typedefs { unnamed_t a; parts_t *b; parts_t c; };
struct wide_numbers { u8 a; __int128 b; unsigned __int128 c; float d; double e; };
enum { ALONE = 5, ALONE_TOO } alone;
"""
ENUM64 = "enum far { FAR = 0x8000000000000000ULL, NEAR = 1 }; enum low { LOW = -0x100000000LL, ZERO = 0 };\n"


def made(text: str, clang: str) -> Btf:
    """The BTF of some C that uses each of its types."""
    names = sorted(
        {
            f"{word} {name}"
            for word in ("struct", "union", "enum")
            for name in (
                line.split()[1] for line in text.splitlines() if line.startswith(f"{word} ")
            )
            if name.isidentifier()
        }
    )
    names += [
        line.split()[-1].rstrip(";")
        for line in text.splitlines()
        if line.startswith("typedef struct {")
    ]
    names += [
        line.split()[-1].rstrip(";")
        for line in text.splitlines()
        if line.startswith("typedef union {")
    ]
    variables = "".join(f"{name} v{number};\n" for number, name in enumerate(names))
    return compiled(f"{text}{variables}", clang=clang)


def same(btf: Btf, clang: str) -> None:
    back = compiled(header_of(btf) + used(btf), clang=clang)
    assert differences(btf, back) == []


@pytest.mark.parametrize("clang", CLANGS)
def test_every_kind_of_type_comes_back(clang: str) -> None:
    text = TYPES if clang == "clang-14" else TYPES + ENUM64
    btf = made(text, clang)
    assert len(btf.of_kind(Kind.STRUCT)) > 20
    same(btf, clang)
    assert "\tALONE_TOO = 6,\n" in header_of(btf)


@pytest.mark.parametrize("seed", range(4))
def test_random_layouts_come_back(seed: int) -> None:
    text = random_types(random.Random(seed))
    same(compiled(text, clang=NEWEST), NEWEST)


def random_types(dice: random.Random) -> str:
    """Structs with whatever makes their layout odd, each a member of later ones."""
    lines, known = [], ["char", "short", "int", "long", "_Bool", "char *", "float"]
    for number in range(120):
        members = []
        for at in range(dice.randrange(1, 9)):
            kind = dice.choice(known)
            if dice.random() < 0.35:
                kind = dice.choice(
                    ["unsigned char", "unsigned short", "int", "unsigned long", "_Bool"]
                )
                size = {
                    "unsigned char": 8,
                    "unsigned short": 16,
                    "int": 32,
                    "unsigned long": 64,
                    "_Bool": 1,
                }[kind]
                members.append(f"{kind} m{at}:{dice.randrange(1, size + 1)};")
                continue
            aligned = (
                f" __attribute__((aligned({dice.choice([2, 8, 32])})))"
                if dice.random() < 0.1
                else ""
            )
            array = f"[{dice.randrange(0, 4)}]" if dice.random() < 0.2 else ""
            members.append(f"{kind} m{at}{array}{aligned};")
        if dice.random() < 0.3:
            inner = dice.choice(members).replace(" m", " n")
            members.append(f"{dice.choice(['struct', 'union'])} {{ {inner} }};")
        words = [
            w
            for w, p in (("packed", 0.25), (f"aligned({dice.choice([4, 16, 64])})", 0.15))
            if dice.random() < p
        ]
        attributes = f" __attribute__(({', '.join(words)}))" if words else ""
        word = "union" if dice.random() < 0.2 else "struct"
        lines.append(f"{word} s{number} {{ {' '.join(members)} }}{attributes};")
        known.append(f"{word} s{number}")
    variables = "".join(
        f"{name} v{i};\n" for i, name in enumerate(known) if name[0] in "su" and " s" in name
    )
    return "\n".join(lines) + "\n" + variables


def test_the_kernel() -> None:
    """Of each type the size, of each member the place; those with bitfields as a whole."""
    btf = kernel_btf()
    checks, seen = [], set()
    bits: list[str] = []
    for one in btf.of_kind(Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64):
        if not one.name or one.name in seen:
            continue
        seen.add(one.name)
        if one.kind not in (Kind.STRUCT, Kind.UNION):
            continue
        word = f"{'struct' if one.kind is Kind.STRUCT else 'union'} {one.name}"
        members = btf.members(one)
        checks.append(f'_Static_assert(sizeof({word}) == {one.size_or_type}, "{word}");')
        checks += [
            f'_Static_assert(__builtin_offsetof({word}, {m.name}) == {m.bit_offset // 8}, "{word}");'
            for m in members if m.name and not m.bitfield_size
        ]  # fmt: skip
        if any(m.bitfield_size for m in members) and len(bits) < 150:
            bits.append(f"\t{word} v{len(bits)};\n")
    assert len(checks) > 10_000
    text = header_of(btf, functions=True, relocatable=True)
    for clang in CLANGS:
        compiled_only(text + "\n".join(checks), clang)
    if NEWEST != "clang-14":
        compiled_only(text, NEWEST, "-std=c23")
    back = compiled(text + "union {\n" + "".join(bits) + "} every;\n", clang=NEWEST)
    wrong = [one for one in differences(btf, back) if not one.endswith("is missing")]
    assert wrong == []
    assert len(back.of_kind(Kind.STRUCT)) > 150


def compiled_only(text: str, clang: str, *flags: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "types.c")
        source.write_text(text)
        done = subprocess.run(
            [clang, "-target", "bpf", "-fsyntax-only", "-Wall", "-Werror", *flags, str(source)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[:3000]


@pytest.mark.parametrize(
    "name", [path.name.removesuffix(".bpf.c") for path in sorted(OBJECTS.glob("*.bpf.c"))]
)
def test_objects_of_tests(name: str) -> None:
    btf = ObjectSpec(compile_object(name, clang=NEWEST)).btf
    assert btf
    same(btf, NEWEST)


def test_the_shipped_programs() -> None:
    for name in builtin_names():
        btf = ObjectSpec.open(builtin(name)).btf
        assert btf
        same(btf, NEWEST)


# --- names ---


def test_types_of_one_name_are_told_apart() -> None:
    builder = Builder()
    number, small = builder.integer("int", 4, signed=True), builder.integer("char", 1)
    builder.record("twin", [("a", number)])
    second = builder.record("twin", [("b", small)])
    builder.record("user", [("t", second)])
    builder.typedef("alias", number)
    builder.typedef("alias", small)
    builder.enum("e1", [("SAME", 1)])
    builder.enum("e2", [("SAME", 2), ("alias", 3)])
    text = header_of(builder.build())
    assert "struct twin___2 {\n\tchar b;\n};" in text
    assert "\tstruct twin___2 t;" in text
    assert "typedef char alias___2;" in text
    assert "SAME___2 = 2," in text
    compiled(text + "struct twin___2 x; struct user y; enum e2 z; alias___2 w;", clang=NEWEST)


def test_a_declaration_means_the_definition_of_its_name() -> None:
    builder = Builder()
    builder.ptr(builder.fwd("thing"))
    number = builder.integer("int", 4, signed=True)
    builder.record("thing", [("a", number)])
    builder.ptr(builder.fwd("other", union=True))
    builder.record("other", [("a", number)])
    text = header_of(builder.build())
    assert "struct thing {" in text
    assert "thing___2" not in text
    assert "union other___2;" in text
    compiled(text + "struct thing a; struct other b;", clang=NEWEST)


def test_names_that_are_no_names_of_c() -> None:
    builder = Builder()
    number = builder.integer("u32", 4)
    odd = builder.integer("Weird<int>", 2, signed=True)
    builder.record(
        "Option<u32>",
        [("class", number), ("0", odd), ("a;}\n#error hello", number), ("while", odd)],
    )
    text = header_of(builder.build())
    assert "#error" not in text.replace("_error hello", "")
    assert "struct Option_u32_ {\n\tunsigned int class;\n\tsigned short _0;" in text
    compiled(text + "struct Option_u32_ x;", clang=NEWEST)


def test_the_list_of_arguments_of_another_machine() -> None:
    builder = Builder()
    word = builder.integer("long int", 8, signed=True)
    tag = builder.record("__va_list_tag", [("a", word), ("b", word), ("c", word)])
    mine = builder.typedef("__builtin_va_list", builder.array(tag, 1))
    builder.record("formatted", [("args", mine)])
    text = header_of(builder.build())
    compiled(
        f'{text}_Static_assert(sizeof(struct formatted) == 24, "");struct formatted x;',
        clang=NEWEST,
    )


def test_bitfields_of_old_compilers() -> None:
    builder = Builder()
    three = builder.integer("unsigned int", 4, bits=3)
    whole = builder.integer("unsigned int", 4)
    builder.add(
        Kind.STRUCT, "old", 4, 2,
        rest=b"".join(
            word.to_bytes(4, "little")
            for word in (builder.string("low"), three, 5, builder.string("next"), three, 16)
        ),
    )  # fmt: skip
    text = header_of(builder.build())
    assert whole
    assert text.count(": 3;") == 2
    back = compiled(text + "struct old x;", clang=NEWEST)
    [found] = back.find("old")
    assert [(m.bit_offset, m.bitfield_size) for m in back.members(found)] == [(5, 3), (16, 3)]


# --- what nobody should have to fear ---


def test_types_that_double_and_double_end_in_an_error() -> None:
    builder = Builder()
    inner = builder.integer("int", 4, signed=True)
    for _ in range(30):
        inner = builder.add(
            Kind.UNION, "", 4, 2,
            rest=b"".join(w.to_bytes(4, "little") for w in (0, inner, 0, 0, inner, 0)),
        )  # fmt: skip
    builder.typedef("bomb", inner)
    with pytest.raises(ObjectError, match=r"MiB of C|too much"):
        header_of(builder.build())


def test_functions_of_functions_end_in_an_error() -> None:
    builder = Builder()
    proto = builder.add(Kind.FUNC_PROTO, "", 0)
    for _ in range(30):
        each = builder.ptr(proto)
        proto = builder.add(
            Kind.FUNC_PROTO, "", 0, 2,
            rest=b"".join(w.to_bytes(4, "little") for w in (0, each, 0, each)),
        )  # fmt: skip
    builder.typedef("bomb", builder.ptr(proto))
    with pytest.raises(ObjectError, match="longer than"):
        header_of(builder.build())


def test_damaged_types_only_raise_object_errors() -> None:
    dice = random.Random(6)
    data = made(TYPES, NEWEST).data
    fine = 0
    for _ in range(600):
        hurt = bytearray(data)
        for _ in range(dice.randrange(1, 4)):
            hurt[dice.randrange(24, len(hurt))] = dice.randrange(256)
        try:
            header_of(Btf(bytes(hurt)))
            fine += 1
        except ObjectError:
            pass
    assert fine
