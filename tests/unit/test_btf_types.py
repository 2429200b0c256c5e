"""Reading BTF: real, built by hand, split, and broken in thousands of ways."""

import functools
import random
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from netbpf.bpf.btf.build import EXTERN, GLOBAL, Builder
from netbpf.bpf.btf.compare import difference
from netbpf.bpf.btf.decode import decoder
from netbpf.bpf.btf.encode import encode
from netbpf.bpf.btf.types import Btf, Kind, Member, Param, SectionVar
from netbpf.bpf.btf.values import format_value
from netbpf.bpf.btf.variables import describe, variables
from netbpf.errors import ObjectError, UsageError
from tests.unit.btf_c import CLANGS, btf_of

SOURCE = """
enum mode { OFF, ON = 5 };
enum wide { WIDE = 0x100000000 };
typedef __u32 counter_t;
struct unknown;
struct inner { __u8 a; __u16 b[3]; };
struct cfg {
	char name[16];
	__u8 mac[6];
	struct in6_addr addr;
	unsigned x : 3, y : 29;
	union { int i; float f; struct { __u16 lo, hi; }; };
	union { __u64 u; __u8 bytes[8]; } named;
	struct inner inner[2];
	enum mode mode;
	enum wide wide;
	const volatile counter_t *pointer;
	struct unknown *unknown;
	int (*call)(int argument, void *);
	__int128 big;
	double d;
	bool on;
	__be16 port;
	int flexible[];
};
TAG("the whole") struct cfg cfg = { .name = "a" };
TAG("counts") __u64 counts[4];
const volatile enum mode mode = ON;
static int hidden;
int work(struct cfg *argument) { return hidden += argument->i + mode + counts[1]; }
"""


@pytest.fixture(params=CLANGS)
def clang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


LINKAGE = {0: "static", 1: "global", 2: "extern"}


def dump(btf: Btf) -> list[str]:
    """What ``bpftool btf dump`` prints, in our own reading of the same bytes."""
    out = []
    for one in btf.types():
        name = one.name or "(anon)"
        lines = [f"[{one.id}] {one.kind.name} '{name}'"]
        match one.kind:
            case Kind.INT:
                encoding = btf.integer(one)
                what = "SIGNED" if encoding.signed else "BOOL" if encoding.boolean else "(none)"
                lines[0] += f" size={one.size_or_type} bits_offset={encoding.offset}"
                lines[0] += f" nr_bits={encoding.bits} encoding={what}"
            case Kind.ARRAY:
                array = btf.array(one)
                lines[0] += (
                    f" type_id={array.type_id} index_type_id={array.index_type_id} nr_elems={array.count}"
                )
            case Kind.STRUCT | Kind.UNION:
                lines[0] += f" size={one.size_or_type} vlen={one.vlen}"
                for member in btf.members(one):
                    bits = f" bitfield_size={member.bitfield_size}" if member.bitfield_size else ""
                    where = f"type_id={member.type_id} bits_offset={member.bit_offset}{bits}"
                    lines.append(f"\t'{member.name or '(anon)'}' {where}")
            case Kind.ENUM | Kind.ENUM64:
                sign = "SIGNED" if one.kind_flag else "UNSIGNED"
                lines[0] += f" encoding={sign} size={one.size_or_type} vlen={one.vlen}"
                suffix = "" if one.kind is Kind.ENUM else "LL" if one.kind_flag else "ULL"
                lines += [
                    f"\t'{label}' val={value}{suffix}" for label, value in btf.enumerators(one)
                ]
            case Kind.FLOAT:
                lines[0] += f" size={one.size_or_type}"
            case Kind.FWD:
                lines[0] += f" fwd_kind={'union' if one.kind_flag else 'struct'}"
            case Kind.FUNC:
                linkage = LINKAGE.get(btf.linkage(one), "?")
                lines[0] += f" type_id={one.size_or_type} linkage={linkage}"
            case Kind.FUNC_PROTO:
                lines[0] += f" ret_type_id={one.size_or_type} vlen={one.vlen}"
                lines += [
                    f"\t'{param.name or '(anon)'}' type_id={param.type_id}"
                    for param in btf.params(one)
                ]
            case Kind.VAR:
                linkage = LINKAGE.get(btf.linkage(one), "?")
                lines[0] += f" type_id={one.size_or_type}, linkage={linkage}"
            case Kind.DATASEC:
                lines[0] += f" size={one.size_or_type} vlen={one.vlen}"
                for entry in btf.section_vars(one):
                    owner = btf.type(entry.type_id)
                    lines.append(
                        f"\ttype_id={entry.type_id} offset={entry.offset} size={entry.size}"
                        f" ({owner.kind.name} '{owner.name}')"
                    )
            case Kind.DECL_TAG:
                lines[0] += f" type_id={one.size_or_type} component_idx={btf.tag_component(one)}"
            case _:
                lines[0] += f" type_id={one.size_or_type}"
        out += lines
    return out


def oracle(data: bytes) -> list[str]:
    """The same by bpftool."""
    bpftool = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    assert bpftool, "bpftool is not installed"
    with tempfile.NamedTemporaryFile(suffix=".btf") as file:
        file.write(data)
        file.flush()
        result = subprocess.run(
            [bpftool, "btf", "dump", "file", file.name, "format", "raw"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return result.stdout.splitlines()


def test_real_btf_reads_as_bpftool_reads_it(clang: str) -> None:
    btf = btf_of(clang, SOURCE)
    assert dump(btf) == oracle(btf.data)


def every_kind() -> Builder:
    """BTF with all 19 kinds."""
    b = Builder()
    number, unsigned = b.integer("int", 4, signed=True), b.integer("unsigned int", 4)
    boolean, char = b.integer("_Bool", 1, boolean=True), b.integer("char", 1, signed=True)
    pointer = b.ptr(0)
    inner = b.struct("bits", 4, [Member("a", number, 0, 3), Member("b", unsigned, 3, 29)])
    outer = b.record(
        "outer", [("c", char), ("p", pointer), ("i", inner), ("f", b.floating("double", 8))]
    )
    union = b.union("u", 4, [Member("x", number, 0, 0), Member("", inner, 0, 0)])
    enum = b.enum("mode", [("LOW", -5), ("HIGH", 5)])
    wide = b.enum64("wide", [("MIN", -(2**63)), ("MAX", 2**62)])
    b.enum64("wider", [("ALL", 2**64 - 1)])
    b.enum("flags", [("TOP", 0xFFFFFFFF)])
    b.fwd("gone")
    b.fwd("gone_union", union=True)
    alias = b.typedef("alias", outer)
    qualified = b.const(b.volatile(b.restrict(b.ptr(b.type_tag("rcu", alias)))))
    proto = b.func_proto(number, [Param("ctx", qualified), Param("", 0)])
    function = b.func("run", proto, GLOBAL)
    one, two = b.var("one", b.array(union, 3)), b.var("two", enum, EXTERN)
    b.datasec(".data", 16, [SectionVar(one, 0, 12), SectionVar(two, 12, 4)])
    b.decl_tag("text", outer)
    b.decl_tag("second member", outer, 1)
    b.decl_tag("argument", function, 0)
    b.array(wide, 2)
    b.array(boolean, 0)
    return b


def test_all_kinds_are_written_as_bpftool_reads_them() -> None:
    btf = every_kind().build()
    assert {one.kind for one in btf.types()} == set(Kind) - {Kind.VOID}
    assert dump(btf) == oracle(btf.data)


def test_records_are_laid_out_as_c_does(clang: str) -> None:
    source = "struct s { __u8 a; __u64 b; __u16 c; __u8 d[3]; struct { __u32 x; } e; __int128 f; char g; } s;"
    btf = btf_of(clang, source)
    (real,) = btf.find("s", Kind.STRUCT)
    b = Builder()
    u8, u16, u32, u64 = (b.integer(f"u{size * 8}", size) for size in (1, 2, 4, 8))
    inner = b.record("", [("x", u32)])
    parts = [("a", u8), ("b", u64), ("c", u16), ("d", b.array(u8, 3)), ("e", inner)]
    made = b.record(
        "s",
        [
            *parts,
            ("f", b.integer("__int128", 16, signed=True)),
            ("g", b.integer("char", 1, signed=True)),
        ],
    )
    built = b.build()
    assert built.type(made).size_or_type == real.size_or_type
    places = [(one.name, one.bit_offset) for one in built.members(built.type(made))]
    assert places == [(one.name, one.bit_offset) for one in btf.members(real)]


def test_btf_can_be_continued() -> None:
    start = every_kind().build()
    builder = Builder(start)
    (outer,) = start.find("outer")
    added = builder.record("more", [("first", outer.id), ("list", builder.array(outer.id, 2))])
    btf = builder.build()
    assert dump(btf)[: len(dump(start))] == dump(start)
    assert btf.type(added).name == "more"
    assert btf.size(added) == 3 * start.size(outer.id)


def _member_far_away(b: Builder) -> object:
    return b.struct("s", 1 << 30, [Member("a", 1, 1 << 24, 0), Member("b", 1, 0, 3)])


UNWRITABLE: list[tuple[Callable[[Builder], object], str]] = [
    (lambda b: b.integer("a\0b", 4), "NUL"),
    (lambda b: b.enum("e", [("A", 1 << 32)]), "does not fit 32 bits"),
    (lambda b: b.enum64("e", [("A", 1 << 64)]), "does not fit 64 bits"),
    (lambda b: b.enum("e", [(f"E{n}", n) for n in range(1 << 16)]), "BTF can hold 65535"),
    (lambda b: b.struct("s", 1 << 32, []), "does not fit BTF's 32 bits"),
    (lambda b: b.record("s", [("a", 99)]), "no size that is known"),
    (_member_far_away, "too large for bitfields"),
]


@pytest.mark.parametrize(("make", "message"), UNWRITABLE)
def test_what_cannot_be_written(make: Callable[[Builder], object], message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        make(Builder())


def split() -> tuple[Btf, Btf]:
    """A base, and BTF that continues its ids and strings."""
    builder = Builder()
    builder.typedef("number", builder.integer("int", 4))
    base = builder.build()
    strings = b"module\0"
    first = len(base.strings)
    types = struct.pack("<6I", first, Kind.STRUCT << 24 | 1, 4, 1, 2, 0)
    types += struct.pack("<III", first, Kind.TYPEDEF << 24, 3)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return base, Btf(header + types + strings, base)


def test_split_btf_continues_its_base() -> None:
    base, btf = split()
    assert base.count == 3
    assert (btf.type(3).name, btf.type(2).name, btf.size(4)) == ("module", "number", 4)
    assert [one.name for one in btf.types()] == ["module", "module"]
    assert (
        btf.members(btf.type(3)) == [Member("number", 2, 0, 0)]
        or btf.members(btf.type(3))[0].type_id == 2
    )
    assert [one.id for one in btf.find("module", Kind.TYPEDEF)] == [4]
    with pytest.raises(ObjectError, match="no type 5"):
        btf.type(5)
    with pytest.raises(ObjectError, match="split BTF"):
        Builder(btf)


def test_names_tags_and_loops() -> None:
    btf = every_kind().build()
    (outer,) = btf.find("outer", Kind.STRUCT)
    assert btf.find("outer", Kind.UNION) == []
    assert btf.find("oute") == []
    assert btf.tags(outer.id) == ["text"]
    assert btf.tags(outer.id, 1) == ["second member"]
    (alias,) = btf.find("alias")
    assert btf.resolve(alias.id).id == outer.id
    builder = Builder()
    loop = builder.typedef("loop", builder.next_id)
    ring = builder.array(builder.next_id + 1, 2)
    broken = builder.build()
    for ask in (broken.resolve, broken.size):
        with pytest.raises(ObjectError, match="refers to itself"):
            ask(loop)
    with pytest.raises(ObjectError, match="refers to itself"):
        broken.size(ring)


def broken_header(**change: int) -> bytes:
    fields = {
        "magic": 0xEB9F,
        "version": 1,
        "flags": 0,
        "header": 24,
        "types": 0,
        "types_len": 0,
        "strings": 0,
        "strings_len": 1,
    }
    return struct.pack("<HBBIIIII", *{**fields, **change}.values()) + b"\0"


def one_type(*words: int) -> bytes:
    types = struct.pack(f"<{len(words)}I", *words)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), 1)
    return header + types + b"\0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "BTF of 0 bytes"),
        (broken_header()[:-1], "truncated"),
        (broken_header(magic=0x9FEB), "big-endian"),
        (broken_header(magic=1), "magic number"),
        (broken_header(version=2), "version 2"),
        (broken_header(header=8), "header of 8 bytes"),
        (broken_header(types_len=0xFFFFFFFF), "truncated"),
        (broken_header(strings=0xFFFFFFFF), "truncated"),
        (broken_header(strings_len=0), "string section"),
        (one_type(0, 31 << 24, 0), "kind 31"),
        (one_type(0, Kind.INT << 24, 0), "cut off"),
        (one_type(0), "cut off"),
    ],
)  # fmt: skip
def test_broken_headers_and_ends(data: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=re.escape(message)):
        Btf(data)


# --- mutations ---


def use_all(data: bytes, other: Btf) -> int:
    """Ask everything that can be asked of some BTF; the number of questions that got an answer."""
    answered = 0
    refused = []

    def ask(question: Callable[[], object]) -> None:
        nonlocal answered
        try:
            question()
            answered += 1
        except ObjectError as error:
            refused.append(error.message)

    try:
        btf = Btf(data)
    except ObjectError:
        return 0
    ask(lambda: dump(btf))
    ask(lambda: variables(btf, ".data"))
    ask(lambda: variables(btf, ".bss"))
    for number in range(btf.count):
        ask(functools.partial(btf.size, number))
        ask(functools.partial(describe, btf, number))
        ask(functools.partial(there_and_back, btf, number))
        ask(functools.partial(difference, btf, number, other, min(number, other.count - 1)))
    ask(lambda: btf.tags(1))
    ask(lambda: btf.find("cfg"))
    assert all(message.isprintable() for message in refused)
    return answered


def there_and_back(btf: Btf, number: int) -> None:
    read, size = decoder(btf, number, lpm=bool(number & 1)), btf.size(number)
    if size > 1 << 16:
        return
    for data in (bytes(size), b"\x7f" * size):
        value = read(data)
        assert format_value(value).isprintable()
        try:
            encode(btf, number, value, lpm=bool(number & 1))
        except UsageError:
            continue  # a bool of 0x7f


@pytest.mark.parametrize("seed", range(8))
def test_mutated_btf_gives_answers_or_object_errors(seed: int) -> None:
    """Single bytes, whole words, lengths and pieces of real BTF changed; 4000 times in all."""
    original = btf_of(CLANGS[-1], SOURCE) if seed % 2 else every_kind().build()
    chance = random.Random(seed)
    words = [
        0,
        1,
        2,
        0xFF,
        0x7FFFFFFF,
        0x80000000,
        0xFFFFFFFF,
        0x04000001,
        0x0400FFFF,
        0x8400FFFF,
        0x03000000,
    ]
    answered = 0
    for _ in range(500):
        data = bytearray(original.data)
        for _ in range(chance.choice([1, 1, 2, 4, 16])):
            place = chance.randrange(24 if chance.random() < 0.9 else 0, len(data) - 4)
            match chance.randrange(5):
                case 0:
                    data[place] ^= 1 << chance.randrange(8)
                case 1:
                    data[place] = chance.randrange(256)
                case 2:
                    struct.pack_into("<I", data, place & ~3, chance.choice(words))
                case 3:
                    struct.pack_into("<I", data, place & ~3, chance.randrange(original.count + 2))
                case _:
                    length = chance.randrange(1, 64)
                    data[place : place + length] = data[chance.randrange(len(data)) :][:length]
                    del data[len(original.data) :]
            if len(data) < len(original.data):
                data += bytes(len(original.data) - len(data))
        answered += use_all(bytes(data), original)
    assert answered > 10_000  # most mutations leave most types as they were


@pytest.mark.parametrize("step", [1, 7])
def test_btf_cut_short_is_an_object_error(clang: str, step: int, tmp_path: Path) -> None:
    data = btf_of(clang, SOURCE).data
    for length in range(0, len(data), step):
        with pytest.raises(ObjectError):
            Btf(data[:length])
