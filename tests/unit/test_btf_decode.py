"""Bytes to values, on types that real compilers wrote. The forms are those of netbpf.bpf.btf.values."""

import json
import math
import struct
from typing import Any

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.decode import decode, decode_place, decoder, field_decoder
from netbpf.bpf.btf.names import is_address
from netbpf.bpf.btf.path import locate
from netbpf.bpf.btf.shape import shape
from netbpf.bpf.btf.types import Btf, Kind, Member, SectionVar
from netbpf.bpf.btf.values import format_value
from netbpf.bpf.btf.variables import describe, variables
from netbpf.errors import ObjectError
from tests.unit.btf_c import CLANGS, btf_of, compile_c, section, variable


@pytest.fixture(params=CLANGS)
def clang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def value_of(clang: str, declaration: str, data: bytes, types: str = "") -> Any:
    """What the variable ``x`` of some C declaration is when it holds some bytes."""
    btf = btf_of(clang, f"{types}\n{declaration};")
    return decode(btf, variable(btf, "x"), data)


def initialised(clang: str, source: str, where: str = ".data") -> Any:
    """The values of all variables of a section as the compiler filled it."""
    btf, datasec, content = section(compile_c(clang, source), where)
    return decode(btf, datasec, content)


INTEGERS = [
    ("unsigned char x", b"\xff", 255),
    ("signed char x", b"\xff", -1),
    ("char x", b"A", 65),
    ("char x", b"\x80", -128),
    ("unsigned short x", b"\x01\x02", 0x0201),
    ("short x", b"\xfe\xff", -2),
    ("unsigned int x", b"\xff" * 4, 2**32 - 1),
    ("const volatile int x", b"\xff" * 4, -1),
    ("unsigned long x", b"\xff" * 8, 2**64 - 1),
    ("long long x", bytes(7) + b"\x80", -(2**63)),
    ("unsigned __int128 x", b"\xff" * 16, 2**128 - 1),
    ("__int128 x", b"\xfe" + b"\xff" * 15, -2),
    ("__be16 x", b"\x00\x35", 53),
    ("__be32 x", b"\x01\x02\x03\x04", 0x01020304),
    ("__be64 x", bytes(7) + b"\x07", 7),
    ("__le32 x", b"\x01\x02\x03\x04", 0x04030201),
    ("__u32 saddr", b"\x0a\x00\x00\x01", 0x0100000A),
]


@pytest.mark.parametrize(("declaration", "data", "value"), INTEGERS)
def test_integers(clang: str, declaration: str, data: bytes, value: int) -> None:
    declaration = declaration.replace("saddr", "x")
    assert value_of(clang, declaration, data) == value


@pytest.mark.parametrize(("data", "value"), [(b"\0", False), (b"\1", True), (b"\2", 2)])
def test_bool_is_a_bool_unless_the_byte_is_none(clang: str, data: bytes, value: object) -> None:
    found = value_of(clang, "bool x", data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("declaration", "data", "value"),
    [
        ("float x", struct.pack("<f", 1.5), 1.5),
        ("double x", struct.pack("<d", -0.1), -0.1),
        ("double x", struct.pack("<d", math.inf), "inf"),
        ("double x", struct.pack("<d", -math.inf), "-inf"),
        ("float x", struct.pack("<f", math.nan), "nan"),
    ],
)
def test_floats_fit_json(clang: str, declaration: str, data: bytes, value: object) -> None:
    found = value_of(clang, declaration, data)
    assert found == value
    assert json.loads(json.dumps(found, allow_nan=False)) == value


def test_half_floats() -> None:
    builder = Builder()
    half = builder.floating("_Float16", 2)
    assert decode(builder.build(), half, struct.pack("<e", 0.5)) == 0.5


@pytest.mark.parametrize(
    ("data", "value"),
    [(0, "OFF"), (1, "ON"), (-3 & 0xFFFFFFFF, "NEGATIVE"), (7, 7), (-1 & 0xFFFFFFFF, None)],
)
def test_enums_by_name_and_others_by_number(clang: str, data: int, value: object) -> None:
    types = "enum mode { OFF, ON, SAME = 1, NEGATIVE = -3 };"
    found = value_of(clang, "enum mode x", data.to_bytes(4, "little"), types)
    if value is None:  # clang 14 does not say that an enum is signed
        value = 0xFFFFFFFF if clang == "clang-14" else -1
    assert found == value


def test_enums_of_64_bits(clang: str) -> None:
    """clang before 15 cuts their values to 32 bits: a number is right, a name would be a lie."""
    types = "enum big { SMALL = 1, BIG = 0x100000000 };"
    found = value_of(clang, "enum big x", (2**32).to_bytes(8, "little"), types)
    assert found == (2**32 if clang == "clang-14" else "BIG")
    found = value_of(clang, "enum big x", bytes(8), types)
    assert found == 0


def test_pointers_are_hex(clang: str) -> None:
    assert value_of(clang, "void *x", b"\xef\xbe\xad\xde" + bytes(4)) == "0xdeadbeef"
    assert value_of(clang, "struct unknown *x", bytes(8)) == "0x0"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"eth0\0\0\0\0", "eth0"),
        (b"eighteen", "eighteen"),
        (bytes(8), ""),
        ("größe".encode().ljust(8, b"\0"), "größe"),
        (b"a\0b\0\0\0\0\0", "a\\x00b"),
        (b"\xff\xfe\0\0\0\0\0\0", "\\xff\\xfe"),
        (b"C:\\x\0\0\0\0", "C:\\\\x"),
        (b"\x1b[31m\0\0\0", "\x1b[31m"),
    ],
)
def test_text(clang: str, data: bytes, value: str) -> None:
    assert value_of(clang, "char x[8]", data) == value
    assert value_of(clang, "const volatile char x[8]", data) == value


def test_text_in_rows(clang: str) -> None:
    assert initialised(clang, 'char x[2][4] = {"ab", "cde"};') == {"x": ["ab", "cde"]}


ADDRESSES = [
    ("unsigned char x[6]", b"\x02\0\0\0\0\x01", "02:00:00:00:00:01"),
    ("__u8 x[2][6]", bytes(11) + b"\x01", ["00:00:00:00:00:00", "00:00:00:00:00:01"]),
    ("signed char x[6]", bytes(5) + b"\xff", [0, 0, 0, 0, 0, -1]),
    ("struct in_addr x", b"\x0a\0\0\x01", "10.0.0.1"),
    ("struct in6_addr x", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01", "2001:db8::1"),
    ("__u8 x[4]", b"\x0a\0\0\x01", [10, 0, 0, 1]),
    ("__u8 x[16]", bytes(15) + b"\x01", [0] * 15 + [1]),
    ("struct { __be32 saddr; } x", b"\x0a\0\0\x01", {"saddr": "10.0.0.1"}),
    ("struct { __be32 seq; } x", b"\x0a\0\0\x01", {"seq": 0x0A000001}),
    ("struct { __u32 saddr; } x", b"\x0a\0\0\x01", {"saddr": 0x0100000A}),
    ("struct { __u8 src_ip[4]; } x", b"\x0a\0\0\x01", {"src_ip": "10.0.0.1"}),
    ("struct { __u8 ip6[16]; } x", bytes(15) + b"\x01", {"ip6": "::1"}),
    (
        "struct { __be32 addrs[2]; } x",
        b"\x0a\0\0\x01\x0a\0\0\x02",
        {"addrs": ["10.0.0.1", "10.0.0.2"]},
    ),
    ("struct { __be32 dst6[4]; } x", bytes(15) + b"\x01", {"dst6": "::1"}),
    ("struct { __be32 dst[4]; } x", bytes(15) + b"\x01", {"dst": ["0.0.0.0"] * 3 + ["0.0.0.1"]}),
    ("struct { __u8 salt[4]; } x", b"\1\2\3\4", {"salt": [1, 2, 3, 4]}),
    ("struct { in_port_t p; } x", b"\0\x35", {"p": 53}),
    ("struct { in_addr_t p; } x", b"\x0a\0\0\x01", {"p": "10.0.0.1"}),
]


@pytest.mark.parametrize(("declaration", "data", "value"), ADDRESSES)
def test_addresses_where_type_and_name_are_sure(
    clang: str, declaration: str, data: bytes, value: object
) -> None:
    types = "typedef __be16 in_port_t; typedef __be32 in_addr_t;"
    assert value_of(clang, declaration, data, types) == value


def test_the_name_of_a_variable_map_or_typedef_counts(clang: str) -> None:
    btf = btf_of(
        clang, "typedef __be32 ipv4_addr; __be32 gateway; ipv4_addr y; __be32 z; __be32 srcIP;"
    )
    data = b"\x0a\0\0\x01"
    assert decode(btf, variable(btf, "gateway"), data) == "10.0.0.1"
    assert decode(btf, variable(btf, "srcIP"), data) == "10.0.0.1"
    assert decode(btf, variable(btf, "y"), data) == "10.0.0.1"
    assert decode(btf, variable(btf, "z"), data) == 0x0A000001
    assert decode(btf, variable(btf, "z"), data, name="blocked_ips") == "10.0.0.1"


@pytest.mark.parametrize(
    "name",
    "addr saddr daddr ip ip4 ipv6 src_ip dstIP vip addrs addresses addr_2 ip_start ip_min_be src dst6 v4 v6addr"
    " nexthop gateway gw peer_address local_addr_key ip_src key_ip4 remoteAddr6".split(),
)
def test_names_of_addresses(name: str) -> None:
    assert is_address(name)


@pytest.mark.parametrize(
    "name",
    "seq salt hash ip_hash ip_count addr_len skip chip ship proto port mac vlan id v5 x 2 t net key _ a1".split(),
)
def test_names_of_other_things(name: str) -> None:
    assert not is_address(name)
    assert not is_address("")


PREFIXES = [
    ("__u8 addr[4]", b"\x0a\0\0\0", "10.0.0.0/8"),
    ("__u32 data", b"\x0a\0\0\0", "10.0.0.0/8"),
    ("__be32 data", b"\x0a\0\0\0", "10.0.0.0/8"),
    ("struct in_addr a", b"\x0a\0\0\0", "10.0.0.0/8"),
    ("union { __u8 b[4]; __be32 w; }", b"\x0a\0\0\0", "10.0.0.0/8"),
    ("__u8 data[16]", b"\x20\x01\x0d\xb8" + bytes(12), "2001:db8::/8"),
    ("__u32 data[4]", b"\x20\x01\x0d\xb8" + bytes(12), "2001:db8::/8"),
    ("struct in6_addr a", b"\x20\x01\x0d\xb8" + bytes(12), "2001:db8::/8"),
    ("__u8 mac[6]", b"\x02" + bytes(5), "02:00:00:00:00:00/8"),
    ("__u16 vlan; __u16 port", bytes(4), {"prefixlen": 8, "vlan": 0, "port": 0}),
    ("__u32 zone; __be32 addr", bytes(8), {"prefixlen": 8, "zone": 0, "addr": "0.0.0.0"}),
    ("struct { union { __u8 b[4]; __u16 w[2]; } u; } s", b"\x0a\0\0\0", "10.0.0.0/8"),
    ("struct { __u16 a, b; } s", bytes(4), {"prefixlen": 8, "s": {"a": 0, "b": 0}}),
    ("union { __u32 w; __u16 h; }", bytes(4), {"prefixlen": 8, "w": 0, "h": 0}),
    ("float f", bytes(4), {"prefixlen": 8, "f": 0.0}),
    ("__u64 cgroup", bytes(12), {"prefixlen": 8, "cgroup": 0}),
]


@pytest.mark.parametrize(("members", "data", "value"), PREFIXES)
def test_keys_of_lpm_tries(clang: str, members: str, data: bytes, value: object) -> None:
    packed = "" if "cgroup" in members else "__attribute__((packed))"
    btf = btf_of(clang, f"struct {{ __u32 prefixlen; {members}; }} {packed} x;")
    raw = b"\x08\0\0\0" + data
    assert decode(btf, variable(btf, "x"), raw, lpm=True) == value
    assert isinstance(decode(btf, variable(btf, "x"), raw), dict)


def test_a_prefix_behind_the_kernels_own_header(clang: str) -> None:
    btf = btf_of(
        clang,
        "struct lpm { __u32 prefixlen; __u8 data[0]; }; struct { struct lpm h; __u8 a[4]; } x;",
    )
    assert decode(btf, variable(btf, "x"), b"\x20\0\0\0\x0a\0\0\x01", lpm=True) == "10.0.0.1/32"


def test_structs_keep_the_order_and_skip_padding(clang: str) -> None:
    source = "struct cfg { __u8 a; __u64 b; __u16 c; struct { int d; } e; } x = {1, 2, 3, {-4}};"
    found = initialised(clang, source)
    assert found == {"x": {"a": 1, "b": 2, "c": 3, "e": {"d": -4}}}
    assert list(found["x"]) == ["a", "b", "c", "e"]


def test_anonymous_members_stand_among_the_others(clang: str) -> None:
    source = """
    struct { int a; union { int b; struct { short lo, hi; }; }; struct { int c; }; } x = {1, {0x20001}, {3}};
    """
    assert initialised(clang, source) == {"x": {"a": 1, "b": 0x20001, "lo": 1, "hi": 2, "c": 3}}


def test_unions_show_all_views(clang: str) -> None:
    source = "union { __u32 word; __u8 bytes[4]; float f; } x = {0x3f800000};"
    assert initialised(clang, source) == {
        "x": {"word": 0x3F800000, "bytes": [0, 0, 0x80, 0x3F], "f": 1.0}
    }


def test_arrays_in_arrays(clang: str) -> None:
    source = "int x[2][3] = {{1, 2, 3}, {4, 5, -6}}; struct { __u8 k; } y[2] = {{1}, {2}};"
    assert initialised(clang, source) == {"x": [[1, 2, 3], [4, 5, -6]], "y": [{"k": 1}, {"k": 2}]}


def test_arrays_of_what_needs_converting(clang: str) -> None:
    source = (
        "enum m { OFF, ON }; enum m e[2] = {ON, OFF}; bool b[2] = {1, 0}; __int128 w[2] = {1, -1};"
    )
    assert initialised(clang, source) == {"e": ["ON", "OFF"], "b": [True, False], "w": [1, -1]}


BITS = """
enum mode { OFF, ON };
struct { unsigned a : 3; int b : 5; enum mode m : 2; bool f : 1; unsigned long long c : 40; signed char t; }
x = {5, -16, ON, 1, 0xabcdef0123, -1};
"""


def test_bitfields(clang: str) -> None:
    expected = {"a": 5, "b": -16, "m": "ON", "f": True, "c": 0xABCDEF0123, "t": -1}
    assert initialised(clang, BITS) == {"x": expected}


def test_one_field_alone(clang: str) -> None:
    """Readers of one member need not decode its neighbours."""
    btf, datasec, content = section(compile_c(clang, BITS), ".data")
    fields = shape(btf, datasec).fields["x"].shape.fields
    assert {name: field_decoder(one)(content) for name, one in fields.items()} == {
        "a": 5, "b": -16, "m": "ON", "f": True, "c": 0xABCDEF0123, "t": -1,
    }  # fmt: skip
    with pytest.raises(ObjectError, match="cannot be read from 2 bytes"):
        field_decoder(fields["c"])(content[:2])


def test_one_part_by_its_path(clang: str) -> None:
    btf, datasec, content = section(compile_c(clang, BITS), ".data")
    for path, expected in [("x.b", -16), ("x.m", "ON"), ("x.f", True), ("x.a", 5), ("x.t", -1)]:
        place = locate(btf, datasec, path)
        assert decode_place(place, content) == expected
        with pytest.raises(ObjectError, match="cannot be read from"):
            decode_place(place, content[: place.offset])
    btf = btf_of(clang, "struct { int n[2][2]; __u8 mac[6]; } x;")
    kind, raw = variable(btf, "x"), bytes(range(24))
    whole: Any = decode(btf, kind, raw)
    assert decode_place(locate(btf, kind, "n[1][0]"), raw) == whole["n"][1][0]
    assert decode_place(locate(btf, kind, "n[1]"), raw) == whole["n"][1]
    assert decode_place(locate(btf, kind, "mac[5]"), raw) == raw[21]
    assert decode_place(locate(btf, kind, "mac"), raw) == whole["mac"]


def test_flexible_arrays_have_what_lies_behind_the_struct(clang: str) -> None:
    btf = btf_of(clang, "struct { __u16 n; __u16 data[]; } x; struct { int n; char text[]; } y;")
    assert decode(btf, variable(btf, "x"), b"\x02\0") == {"n": 2, "data": []}
    assert decode(btf, variable(btf, "x"), b"\x02\0\x05\0\x06\0\x07") == {"n": 2, "data": [5, 6]}
    assert decode(btf, variable(btf, "y"), bytes(4) + b"hi\0\0") == {"n": 0, "text": "hi"}


def test_padding_is_no_element_of_a_flexible_array(clang: str) -> None:
    btf = btf_of(clang, "struct { __u64 a; __u32 n; __u8 items[]; } x;")
    data = bytes(12) + b"\1\2\3\4"
    assert decode(btf, variable(btf, "x"), data) == {"a": 0, "n": 0, "items": []}
    assert decode(btf, variable(btf, "x"), data + b"\5") == {
        "a": 0,
        "n": 0,
        "items": [1, 2, 3, 4, 5],
    }


def test_a_variable_may_be_larger_than_its_type(clang: str) -> None:
    source = "struct list { __u32 n; __u32 items[]; } x = {2, {7, 8}}; int after = 9;"
    assert initialised(clang, source) == {"x": {"n": 2, "items": [7, 8]}, "after": 9}


def test_sections_by_name_with_descriptions(clang: str) -> None:
    source = """
    TAG("how many") TAG("packets") __u32 limit = 5;
    __u8 mac[6] = {2, 0, 0, 0, 0, 1};
    static int hidden = 3;
    int peek(void) { return *(volatile int *)&hidden; }
    """
    spec = compile_c(clang, source)
    assert spec.btf
    found = {one.name: one for one in variables(spec.btf, ".data")}
    assert found["limit"].descriptions == ("how many", "packets")
    assert (found["limit"].size, found["limit"].linkage) == (4, 1)
    assert (found["hidden"].linkage, found["mac"].size) == (0, 6)
    assert initialised(clang, source) == {"limit": 5, "mac": "02:00:00:00:00:01", "hidden": 3}
    with pytest.raises(ObjectError, match=r"no section \.bss"):
        variables(spec.btf, ".bss")


NAMES = [
    ("__u8 x", "u8"),
    ("const volatile long x", "s64"),
    ("char x", "char"),
    ("bool x", "bool"),
    ("__be16 x", "be16"),
    ("double x", "double"),
    ("__u32 x[4]", "u32[4]"),
    ("int x[2][3]", "s32[2][3]"),
    ("char x[16]", "char[16]"),
    ("__u8 x[6]", "u8[6]"),
    ("struct cfg { int a; } x", "struct cfg"),
    ("struct cfg { int a; } x[2]", "struct cfg[2]"),
    ("union u { int a; } x", "union u"),
    ("enum mode { OFF, ON } x", "enum mode {OFF, ON}"),
    ("enum { A, B, C, D, E, F, G, H } x", "enum {A, B, C, D, E, F, ...}"),
    ("void *x", "void *"),
    ("const char **x", "char **"),
    ("struct gone *x", "struct gone *"),
    ("struct in6_addr x", "struct in6_addr"),
]


@pytest.mark.parametrize(("declaration", "name"), NAMES)
def test_types_by_name(clang: str, declaration: str, name: str) -> None:
    btf = btf_of(clang, f"{declaration};")
    assert describe(btf, btf.type(variable(btf, "x")).size_or_type) == name


def test_too_few_bytes(clang: str) -> None:
    btf = btf_of(clang, "struct { __u64 a, b; } x;")
    read = decoder(btf, variable(btf, "x"))
    with pytest.raises(ObjectError, match="16 bytes cannot be read from 15 bytes"):
        read(bytes(15))
    assert read(bytes(24)) == {"a": 0, "b": 0}
    assert read(memoryview(bytes(16))) == read(bytearray(16))


def test_a_type_is_compiled_once(clang: str) -> None:
    btf = btf_of(clang, "struct { __u64 a, b; } x;")
    assert decoder(btf, variable(btf, "x")) is decoder(btf, variable(btf, "x"))


@pytest.mark.parametrize("declaration", ["struct { struct gone *p; } *x", "int (*x)(void)"])
def test_what_a_pointer_points_to_need_not_exist(clang: str, declaration: str) -> None:
    assert value_of(clang, declaration, bytes(8)) == "0x0"


# --- types that compilers do not write today ---


def test_bitfields_in_the_encoding_before_linux_5_0() -> None:
    builder = Builder()
    three = builder.integer("int", 4, signed=True, bits=3)
    upper = builder.integer("int", 4, bits=4, offset=4)
    record = builder.struct("old", 4, [Member("a", three, 2, 0), Member("b", upper, 8, 0)])
    btf = builder.build()
    word = (0b101 << 2) | (0b1001 << 12)
    assert decode(btf, record, word.to_bytes(4, "little")) == {"a": -3, "b": 9}
    assert decode(btf, upper, b"\x90\0\0\0") == 9


def test_a_name_used_twice_in_a_section() -> None:
    """Static variables of two functions."""
    builder = Builder()
    u32 = builder.integer("unsigned int", 4)
    one, two = builder.var("count", u32, 0), builder.var("count", u32, 0)
    data = builder.datasec(".bss", 8, [SectionVar(one, 0, 4), SectionVar(two, 4, 4)])
    btf = builder.build()
    assert decode(btf, data, bytes([1, 0, 0, 0, 2, 0, 0, 0])) == {"count": 1, "count@4": 2}
    assert [one.name for one in variables(btf, data)] == ["count", "count@4"]


def _member_outside(b: Builder) -> int:
    return b.struct("s", 4, [Member("a", b.integer("int", 4), 8, 0)])


def _in_itself(b: Builder) -> int:
    return b.struct("s", 4, [Member("a", b.next_id, 0, 0)])


def _typedef_loop(b: Builder) -> int:
    return b.typedef("t", b.next_id)


def _array_loop(b: Builder) -> int:
    return b.array(b.next_id + 1, 1)  # the index type takes the first id


def _huge_array(b: Builder) -> int:
    return b.array(b.array(b.integer("int", 4), 0xFFFFFFFF), 0xFFFFFFFF)


def _unions_without_end(b: Builder) -> int:
    kind = b.integer("int", 4)
    for _ in range(20):
        kind = b.union("u", 4, [Member(f"m{n}", kind, 0, 0) for n in range(64)])
    return kind


def _anonymous_without_end(b: Builder) -> int:
    kind = b.struct("s", 4, [Member(f"m{n}", b.integer("int", 4), 0, 0) for n in range(3)])
    return b.union("u", 4, [Member("", kind, 0, 0), Member("", kind, 0, 0)])


def _too_deep(b: Builder) -> int:
    kind = b.integer("int", 4)
    for _ in range(40):
        kind = b.struct("s", 4, [Member("m", kind, 0, 0)])
    return kind


def _anonymous_too_many(b: Builder) -> int:
    number = b.integer("char", 1)
    parts = [
        b.struct("s", 1, [Member(f"m{part}_{n}", number, 0, 0) for n in range(0xFFFF)])
        for part in range(3)
    ]
    return b.struct("s", 1, [Member("", part, 0, 0) for part in parts])


def _bitfield_of_struct(b: Builder) -> int:
    inner = b.record("i", [("a", b.integer("int", 4))])
    return b.struct("s", 8, [Member("a", inner, 0, 3)])


def _wide_integer(b: Builder) -> int:
    return b.integer("int", 64, bits=255)


def _odd_enum(b: Builder) -> int:
    return b.enum("e", [("A", 1)], size=3)


def _function(b: Builder) -> int:
    return b.func("f", b.func_proto(0))


def _variable_outside(b: Builder) -> int:
    return b.datasec(".bss", 4, [SectionVar(b.var("x", b.integer("int", 4)), 4, 4)])


def _variable_too_small(b: Builder) -> int:
    return b.datasec(".bss", 4, [SectionVar(b.var("x", b.integer("int", 4)), 0, 2)])


def _no_variable(b: Builder) -> int:
    return b.datasec(".bss", 4, [SectionVar(b.integer("int", 4), 0, 4)])


HOSTILE = [
    (_member_outside, "lies outside"), (_in_itself, "contains itself"), (_typedef_loop, "refers to itself"),
    (_array_loop, "contains itself"), (_huge_array, "too large"), (_unions_without_end, "too large"),
    (_anonymous_without_end, "two members called"),
    (_anonymous_too_many, "too many members"), (_too_deep, "nests deeper"), (_bitfield_of_struct, "no bitfield"),
    (_wide_integer, "integer of 255 bits"), (_odd_enum, "enum of 3 bytes"), (_function, "has no value"),
    (_variable_outside, "lies outside"), (_variable_too_small, "lies outside"), (_no_variable, "else than variables"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), HOSTILE)
def test_types_that_make_no_sense(make: Any, message: str) -> None:
    builder = Builder()
    kind = make(builder)
    with pytest.raises(ObjectError, match=message):
        decoder(builder.build(), kind)


def test_depth_counts_from_the_top_whatever_was_asked_before() -> None:
    """Each step alone is shallow, because the types inside are known already."""
    builder = Builder()
    _too_deep(builder)
    btf = builder.build()
    for kind in range(1, 33):
        assert shape(btf, kind).size == 4
    with pytest.raises(ObjectError, match="nests deeper"):
        shape(btf, 33)


def test_functions_and_symbols_of_the_kernel_take_no_space() -> None:
    builder = Builder()
    number = builder.integer("int", 4)
    function = builder.func("kfunc", builder.func_proto(0), 2)
    symbol, here = builder.var("ksym", 0, 2), builder.var("x", number)
    entries = [SectionVar(function, 0, 0), SectionVar(symbol, 0, 0), SectionVar(here, 0, 4)]
    data = builder.datasec(".ksyms", 4, entries)
    assert decode(builder.build(), data, b"\5\0\0\0") == {"x": 5}
    with pytest.raises(ObjectError, match="type 1 is no section"):
        variables(builder.build(), number)


def test_elements_without_size_cost_nothing() -> None:
    builder = Builder()
    kind = builder.array(builder.struct("empty", 0, []), 0xFFFFFFFF)
    assert decode(builder.build(), kind, b"") == []


def test_forward_declarations_have_no_value() -> None:
    builder = Builder()
    kind = builder.fwd("gone")
    btf = Btf(builder.to_bytes())
    assert btf.type(kind).kind is Kind.FWD
    with pytest.raises(ObjectError, match="FWD gone"):
        decoder(btf, kind)
    assert describe(btf, kind) == "struct gone"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"port": 53, "on": True, "f": 1.5}, "{port: 53, on: true, f: 1.5}"),
        (["10.0.0.0/8", "2001:db8::1", "udp"], "[10.0.0.0/8, 2001:db8::1, udp]"),
        (["02:00:00:00:00:01", "0xff"], "[02:00:00:00:00:01, 0xff]"),
        (["", "53", "true", "a b", 'q"'], '["", "53", "true", "a b", "q\\""]'),
        ("\x1b[31m\x9b\u202e\ud800", '"\\u001b[31m\\u009b\\u202e\\ud800"'),
        ({"odd key": None}, '{"odd key": null}'),
    ],
)  # fmt: skip
def test_values_for_people(value: Any, text: str) -> None:
    found = format_value(value)
    assert found == text
    assert found.isprintable()
