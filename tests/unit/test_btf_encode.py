"""Text and Python values to bytes by type, and parts of values by path."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.decode import decode
from netbpf.bpf.btf.encode import assign, assign_text, encode, encode_text
from netbpf.bpf.btf.path import Assignment, Index, Path, locate, parse_assignment
from netbpf.bpf.btf.types import Btf, Member
from netbpf.bpf.btf.values import format_value
from netbpf.errors import NetbpfError, ObjectError, UsageError
from tests.unit.btf_c import CLANGS, btf_of, compile_c, section, variable

TYPES = """
enum mode { OFF, ON, PROTO_UDP = 17 };
enum signed_mode { BELOW = -2, ABOVE = 1 };
enum xdp_action { XDP_ABORTED, XDP_DROP, XDP_PASS };
enum clash { A_DROP = 1, B_DROP = 2 };
struct inner { int c; __u8 d; };
struct cfg {
	__u16 port;
	__be16 be_port;
	__u8 proto;
	enum mode mode;
	char name[8];
	__u8 mac[6];
	__be32 saddr;
	struct in6_addr addr6;
	union { __u32 word; struct { __u16 low, high; }; };
	unsigned a : 3;
	int b : 5;
	enum mode m : 2;
	bool flag : 1;
	struct inner list[2];
	unsigned long long last;
};
struct flexible { __u32 n; __u16 items[]; };
struct prefix4 { __u32 prefixlen; __u8 addr[4]; };
struct prefix6 { __u32 prefixlen; struct in6_addr addr; };
struct on_interface { __u32 len; __u32 ifindex; __be32 src; __u32 port; };
struct prefix_mac { __u32 prefixlen; __u8 addr[6]; } __attribute__((packed));
"""


@pytest.fixture(params=CLANGS)
def clang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Encoder = Callable[..., bytes]


@pytest.fixture
def text(clang: str) -> Encoder:
    """Bytes of a typed text for the variable ``limit`` of some C declaration."""

    def run(declaration: str, value: str, **more: Any) -> bytes:
        btf = btf_of(clang, f"{TYPES}\n{declaration};")
        return encode_text(btf, variable(btf, "limit"), value, name="limit", **more)

    return run


@pytest.fixture
def value(clang: str) -> Encoder:
    """The same for a Python value."""

    def run(declaration: str, value: Any, **more: Any) -> bytes:
        btf = btf_of(clang, f"{TYPES}\n{declaration};")
        return encode(btf, variable(btf, "limit"), value, name="limit", **more)

    return run


GOOD = [
    ("__u8 limit", "255", b"\xff"),
    ("__u8 limit", " 0x0f ", b"\x0f"),
    ("__u8 limit", "0b101", b"\x05"),
    ("__u8 limit", "0o17", b"\x0f"),
    ("__u8 limit", "+7", b"\x07"),
    ("__u8 limit", "true", b"\x01"),
    ("signed char limit", "-128", b"\x80"),
    ("short limit", "-2", b"\xfe\xff"),
    ("__u32 limit", "1_000_000", (10**6).to_bytes(4, "little")),
    ("long limit", "-0x1", b"\xff" * 8),
    ("unsigned __int128 limit", "0x" + "f" * 32, b"\xff" * 16),
    ("__int128 limit", "-1", b"\xff" * 16),
    ("__be16 limit", "53", b"\x00\x35"),
    ("__be32 limit", "1", b"\0\0\0\x01"),
    ("__be32 limit", "10.0.0.1", b"\x0a\0\0\x01"),
    ("__be64 limit", "0x0102", bytes(6) + b"\x01\x02"),
    ("char limit", "'x'", b"x"),
    ("char limit", "x", b"x"),
    ("char limit", "'5'", b"5"),
    ("char limit", "5", b"\x05"),
    ("bool limit", "on", b"\x01"),
    ("bool limit", "False", b"\0"),
    ("bool limit", "1", b"\x01"),
    ("float limit", "1.5", b"\0\0\xc0\x3f"),
    ("double limit", "-inf", bytes(6) + b"\xf0\xff"),
    ("double limit", "0x10", bytes(6) + b"\x30\x40"),
    ("void *limit", "0xff", b"\xff" + bytes(7)),
    ("enum mode limit", "ON", b"\x01\0\0\0"),
    ("enum mode limit", "on", b"\x01\0\0\0"),
    ("enum mode limit", "udp", b"\x11\0\0\0"),
    ("enum mode limit", "99", b"\x63\0\0\0"),
    ("enum signed_mode limit", "BELOW", b"\xfe\xff\xff\xff"),
    ("enum signed_mode limit", "-2", b"\xfe\xff\xff\xff"),
    ("enum xdp_action limit", "drop", b"\x01\0\0\0"),
    ("__u8 limit[6]", "02:00:00:00:00:0A", b"\x02\0\0\0\0\x0a"),
    ("__u8 limit[6]", "02-00-00-00-00-01", b"\x02\0\0\0\0\x01"),
    ("__u8 limit[6]", "0200.0000.0001", b"\x02\0\0\0\0\x01"),
    ("__u8 limit[6]", "[1, 2]", b"\x01\x02\0\0\0\0"),
    ("__u8 limit[4]", "10.0.0.1", b"\x0a\0\0\x01"),
    ("__u8 limit[4]", "0x0a000001", b"\x0a\0\0\x01"),
    ("__u8 limit[4]", "[10, 0, 0, 0x1]", b"\x0a\0\0\x01"),
    ("__u8 limit[4]", '"ab"', b"ab\0\0"),
    ("__u8 limit[16]", "::1", bytes(15) + b"\x01"),
    ("__be32 limit[4]", "::1", bytes(15) + b"\x01"),
    ("struct in6_addr limit", "2001:db8::1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
    ("struct in_addr limit", "10.0.0.1", b"\x0a\0\0\x01"),
    ("char limit[8]", "eth0", b"eth0\0\0\0\0"),
    ("char limit[8]", '"eth0"', b"eth0\0\0\0\0"),
    ("char limit[8]", "[x]", b"[x]\0\0\0\0\0"),
    ("char limit[8]", "eighteen", b"eighteen"),
    ("char limit[8]", "a\\x00b\\\\\\n\\xff", b"a\0b\\\n\xff\0\0"),
    ("char limit[8]", "größe", "größe".encode() + b"\0"),
    ("char limit[2][4]", "[ab, 'c d']", b"ab\0\0c d\0"),
    ("__u32 limit[3]", "[1,2]", b"\1\0\0\0\2\0\0\0\0\0\0\0"),
    ("__u16 limit[2][2]", "[[1, 2], [3, 4,],]", b"\1\0\2\0\3\0\4\0"),
    ("enum mode limit[2]", "[on, 17]", b"\1\0\0\0\x11\0\0\0"),
    ("struct inner limit", "{c: -1, d: 2}", b"\xff\xff\xff\xff\x02\0\0\0"),
    ("struct inner limit", "{c: 1, d: 2, }", b"\x01\0\0\0\x02\0\0\0"),
    ("struct inner limit", "{d=2}", b"\0\0\0\0\x02\0\0\0"),
    ("struct inner limit", '{"c": 1, "d": 2}', b"\x01\0\0\0\x02\0\0\0"),
    ("struct inner limit[2]", "[{d: 1}, {}]", b"\0\0\0\0\1\0\0\0" + bytes(8)),
    ("struct { __u8 mac[6]; __be32 ip; } __attribute__((packed)) limit",
     "{mac: 02:00:00:00:00:01, ip: 10.0.0.1}", b"\x02\0\0\0\0\x01\x0a\0\0\x01"),
    ("struct { __u8 proto; } limit", "{proto: udp}", b"\x11"),
]  # fmt: skip


@pytest.mark.parametrize(("declaration", "typed", "data"), GOOD)
def test_text(text: Encoder, declaration: str, typed: str, data: bytes) -> None:
    assert text(declaration, typed) == data


@pytest.mark.parametrize(
    ("declaration", "given_", "data"),
    [
        ("__u8 limit", 5, b"\x05"),
        ("__u8 limit", True, b"\x01"),
        ("__be16 limit", 53, b"\0\x35"),
        ("bool limit", False, b"\0"),
        ("double limit", 1, bytes(6) + b"\xf0\x3f"),
        ("float limit", 1.5, b"\0\0\xc0\x3f"),
        ("enum mode limit", "ON", b"\x01\0\0\0"),
        ("enum mode limit", 17, b"\x11\0\0\0"),
        ("__u32 limit", b"\x01\x02\x03\x04", b"\x01\x02\x03\x04"),
        ("__u8 limit[6]", "02:00:00:00:00:01", b"\x02\0\0\0\0\x01"),
        ("__u8 limit[6]", b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x01"),
        ("__u8 limit[4]", (10, 0, 0, 1), b"\x0a\0\0\x01"),
        ("struct in_addr limit", {"s_addr": 0x0A000001}, b"\x0a\0\0\x01"),
        ("char limit[4]", '"x"', b'"x"\0'),
        ("char limit[4]", b"ab", b"ab\0\0"),
        ("char limit[4]", [97, 98], b"ab\0\0"),
        ("struct inner limit", {"c": 1, "d": "0x2"}, b"\1\0\0\0\2\0\0\0"),
        ("struct inner limit", "{c: 1}", b"\1\0\0\0\0\0\0\0"),
        ("struct inner limit", memoryview(bytes(8)), bytes(8)),
    ],
)
def test_python_values(value: Encoder, declaration: str, given_: object, data: bytes) -> None:
    assert value(declaration, given_) == data


WRONG = [
    ("__u8 limit", "300", "limit is u8: 300 is out of range 0..255"),
    ("__u8 limit", "-1", "limit is u8: -1 is out of range 0..255"),
    ("signed char limit", "128", "limit is s8: 128 is out of range -128..127"),
    ("__u64 limit", str(2**64), f"limit is u64: {2**64} is out of range 0..{2**64 - 1}"),
    ("__be16 limit", "65536", "limit is be16: 65536 is out of range 0..65535"),
    ("bool limit", "2", "limit is bool: 2 is out of range 0..1"),
    ("bool limit", "maybe", "limit is bool: 'maybe' is neither true nor false"),
    ("__u8 limit", "ten", "limit is u8: 'ten' is no number"),
    ("__u8 limit", "", "limit is u8: '' is no number"),
    ("__u8 limit", "1.5", "limit is u8: '1.5' is no number"),
    ("__u8 limit", "[1]", r"limit is u8: \['1'\] is no number"),
    ("__u8 limit", "9" * 5000, "limit is u8: '9{56}... is no number"),
    ("float limit", "1e39", "limit is float: '1e39' is out of range"),
    ("float limit", "x", "limit is float: 'x' is no number"),
    (
        "enum mode limit",
        "UP",
        r"limit is enum mode {OFF, ON, PROTO_UDP}: 'UP' is none of its values",
    ),
    ("enum mode limit", str(2**32), f"{2**32} is out of range"),
    ("enum mode limit", "-1", "-1 is out of range 0.."),
    ("enum clash limit", "drop", "'drop' could be A_DROP or B_DROP"),
    ("__u8 limit[6]", "02:00", r"limit is u8\[6\]: '02:00' is no MAC address"),
    ("struct in_addr limit", "10.0.0", "limit is struct in_addr: '10.0.0' is no IPv4 address"),
    (
        "struct in6_addr limit",
        "10.0.0.1",
        "limit is struct in6_addr: '10.0.0.1' is no IPv6 address",
    ),
    ("char limit[4]", "hello", r"limit is char\[4\]: 'hello' has 5 bytes, 4 fit"),
    ("char limit[4]", "a\\q", "unknown escape"),
    ("__u32 limit[2]", "[1,2,3]", r"limit is u32\[2\]: 3 elements are too many"),
    ("__u32 limit[2]", "7", r"limit is u32\[2\]: '7' is no list"),
    ("__u32 limit[2]", "[1, x]", r"limit\[1\] is u32: 'x' is no number"),
    ("__u8 limit[4]", "0x0g000000", r"limit is u8\[4\]: '0x0g000000' is no list"),
    ("__u8 limit[4]", "0x0a", r"limit is u8\[4\]: '0x0a' is no list"),
    ("struct inner limit", "5", "limit is struct inner: '5' is no struct"),
    ("struct inner limit", "{c: x}", r"limit\.c is s32: 'x' is no number"),
    ("struct inner limit", "{c: 1", "expected , or }"),
    ("struct inner limit", "{c: 1} x", "nothing may follow"),
    ("struct inner limit", "{c: 1, c: 2}", "'c' stands twice"),
    ("struct inner limit", "{c}", "expected : after 'c'"),
    ("struct inner limit", "{c: }", "a value is missing"),
    ("struct inner limit", '{c: "x}', "quote is not closed"),
    ("struct inner limit", "{'c: 1}", "quote is not closed"),
    ("__u8 limit[4]", "[" * 100, "nested too deeply"),
    ("__u32 limit[2]", "[1 2", "expected , or ]|no number|value is missing"),
]


@pytest.mark.parametrize(("declaration", "typed", "message"), WRONG)
def test_what_does_not_fit_says_the_type_and_its_range(
    text: Encoder, declaration: str, typed: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        text(declaration, typed)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("declaration", "typed", "hint"),
    [
        ("__u8 limit", "017", "write 17 (decimal) or 0o17 (octal)"),
        (
            "__u32 limit",
            "10.0.0.1",
            "10.0.0.1 is 16777226 in network order, 167772161 in host order",
        ),
        ("enum xdp_action limit", "XDP_PAS", "did you mean XDP_PASS"),
        ("struct { __u8 proto; } limit", "{proto: upd}", "did you mean udp"),
        ("__u8 limit[6]", "x", "such as 02:00:00:00:00:01"),
        ("struct inner limit", "5", "set one member: NAME.MEMBER=VALUE"),
        ("char limit[4]", "\\q", "a backslash is written \\\\"),
    ],
)
def test_hints_say_what_to_write(text: Encoder, declaration: str, typed: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        text(declaration, typed)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("declaration", "given_", "message"),
    [
        ("__u8 limit", 1.0, "1.0 is no number"),
        ("__u8 limit", None, "None is no number"),
        ("__u32 limit", b"\x01", "it takes 4 bytes, not 1"),
        ("char limit[4]", b"hello", "it takes 4 bytes, not 5"),
        ("char limit[4]", 5, "5 is no text"),
        ("char limit[4]", "\ud800", "is no text"),
        ("struct inner limit", [1, 2], "is no struct"),
        ("__u8 limit[6]", {"a": 1}, "is no MAC address"),
    ],
)
def test_python_values_of_the_wrong_type(
    value: Encoder, declaration: str, given_: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        value(declaration, given_)


def test_unknown_members_have_near_names(text: Encoder) -> None:
    with pytest.raises(ObjectError, match="limit has no member prot") as caught:
        text("struct cfg limit", "{prot: 1}")
    assert caught.value.hint == "did you mean proto or port or be_port?"


def test_what_is_not_mentioned_stays_in_structs_and_ends_in_arrays(value: Encoder) -> None:
    base = b"\xff" * 8
    assert value("struct inner limit", {"d": 1}, base=base) == b"\xff\xff\xff\xff\x01\xff\xff\xff"
    assert value("__u16 limit[4]", [1], base=base) == b"\x01" + bytes(7)


def test_flexible_arrays_take_what_the_base_has_room_for(text: Encoder) -> None:
    assert (
        text("struct flexible limit", "{n: 2, items: [7, 8]}", base=bytes(8))
        == b"\2\0\0\0\7\0\x08\0"
    )
    with pytest.raises(UsageError, match="3 elements are too many"):
        text("struct flexible limit", "{items: [7, 8, 9]}", base=bytes(8))
    with pytest.raises(ObjectError, match="only 3"):
        text("struct flexible limit", "{}", base=bytes(3))


@pytest.mark.parametrize(
    ("kind", "typed", "data"),
    [
        ("prefix4", "10.0.0.0/8", b"\x08\0\0\0\x0a\0\0\0"),
        ("prefix4", "10.0.0.1", b"\x20\0\0\0\x0a\0\0\x01"),
        ("prefix4", "{prefixlen: 8, addr: 10.0.0.0}", b"\x08\0\0\0\x0a\0\0\0"),
        ("prefix4", "{addr: 10.0.0.0/8}", b"\x08\0\0\0\x0a\0\0\0"),
        ("prefix4", "{addr: 10.0.0.1}", b"\x20\0\0\0\x0a\0\0\x01"),
        ("prefix4", "{addr: 0.0.0.0/0}", bytes(8)),
        ("prefix4", "{prefixlen: 8, addr: 10.0.0.0/8}", b"\x08\0\0\0\x0a\0\0\0"),
        ("prefix4", "{prefixlen: 0}", bytes(8)),
        ("prefix6", "2001:db8::/32", b"\x20\0\0\0\x20\x01\x0d\xb8" + bytes(12)),
        ("prefix6", "{addr: 2001:db8::/32}", b"\x20\0\0\0\x20\x01\x0d\xb8" + bytes(12)),
        (
            "on_interface",
            "{ifindex: 3, src: 10.0.0.0/8}",
            b"\x28\0\0\0\3\0\0\0\x0a\0\0\0" + bytes(4),
        ),
        ("on_interface", "{ifindex: 3}", b"\x20\0\0\0\3" + bytes(11)),
        ("on_interface", "{src: 10.0.0.1}", b"\x40\0\0\0\0\0\0\0\x0a\0\0\1" + bytes(4)),
        ("prefix_mac", "02:00:00:00:00:00/24", b"\x18\0\0\0\x02" + bytes(5)),
    ],
)
def test_keys_of_lpm_tries(text: Encoder, kind: str, typed: str, data: bytes) -> None:
    assert text(f"struct {kind} limit", typed, lpm=True) == data


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("10.0.0.0/33", "prefix length 33 is out of range 0..32"),
        ("10.0.0.0/-1", "prefix length -1 is out of range"),
        ("10.0.0.0/x", "limit is struct prefix4: '10.0.0.0/x' is no prefix"),
        ("::/0", "is no prefix"),
        (
            "{addr: 10.0.0.0/33}",
            "limit.addr: '10.0.0.0/33': prefix length 33 is out of range 0..32",
        ),
        (
            "{prefixlen: 33, addr: 10.0.0.0}",
            "limit.prefixlen: prefix length 33 is out of range 0..32",
        ),
        ("{prefixlen: 9, addr: 10.0.0.0/8}", "limit.prefixlen is '9', and the address says 8"),
        ("{addr: ::/8}", "limit.addr is u8.4.: '::/8' is no"),
        ("{adr: 10.0.0.0/8}", "adr"),
    ],
)
def test_bad_prefixes(text: Encoder, typed: str, message: str) -> None:
    with pytest.raises((UsageError, ObjectError), match=message):
        text("struct prefix4 limit", typed, lpm=True)


def test_what_lies_behind_a_prefix_is_refused(text: Encoder) -> None:
    for typed in ("{src: 10.0.0.0/8, port: 53}", "{ifindex: 3, src: 10.0.0.0/32, port: 53}"):
        with pytest.raises(UsageError, match="behind the prefix of src is not compared"):
            text("struct on_interface limit", typed, lpm=True)


# --- parts by path ---


@pytest.fixture
def cfg(clang: str) -> tuple[Btf, int]:
    btf = btf_of(
        clang,
        f"{TYPES}\nstruct cfg cfg; __u32 ports[4]; __u32 grid[2][3]; struct flexible flexible;",
    )
    return btf, variable(btf, "cfg")


ASSIGNED: list[tuple[str, str, Any]] = [
    ("port", "53", 53),
    ("be_port", "53", 53),
    ("mode", "on", "ON"),
    ("name", "eth0", "eth0"),
    ("name[0]", "'x'", "x"),
    ("mac[5]", "255", "00:00:00:00:00:ff"),
    ("saddr", "10.0.0.1", "10.0.0.1"),
    ("addr6.in6_u.u6_addr8[15]", "1", "::1"),
    ("high", "1", 1),
    ("a", "7", 7),
    ("b", "-16", -16),
    ("m", "ON", "ON"),
    ("flag", "on", True),
    ("list[1].c", "-5", [{"c": 0, "d": 0}, {"c": -5, "d": 0}]),
    ("list[0x1]", "{d: 9}", [{"c": 0, "d": 0}, {"c": 0, "d": 9}]),
    ("last", "1", 1),
]


@pytest.mark.parametrize(("path", "typed", "expected"), ASSIGNED)
def test_one_part_changes_and_nothing_else(
    cfg: tuple[Btf, int], path: str, typed: str, expected: object
) -> None:
    btf, kind = cfg
    data = encode(btf, kind, {})
    before: Any = decode(btf, kind, data)
    changed = bytearray(data)
    assign_text(btf, kind, changed, path, typed)
    after: Any = decode(btf, kind, changed)
    name = path.partition("[")[0].partition(".")[0]
    assert after[name] == expected
    differ = {key for key in after if after[key] != before[key]}
    assert differ <= {name} | (
        {"word", "low", "high"} if name in ("word", "low", "high") else set()
    )


def test_neighbouring_bits_stay(cfg: tuple[Btf, int]) -> None:
    btf, kind = cfg
    data = bytearray(b"\xff" * len(encode(btf, kind, {})))
    assign(btf, kind, data, "b", 0)
    assign(btf, kind, data, "m", 0)
    found: Any = decode(btf, kind, data)
    assert (found["a"], found["b"], found["m"], found["flag"]) == (7, 0, "OFF", True)


BAD_PATHS = [
    ("prt", ObjectError, "cfg has no member prt"),
    ("port.x", UsageError, "cfg.port is u16: it has no member x"),
    ("port[0]", UsageError, "cfg.port is u16: it has no elements"),
    ("list[2]", ObjectError, r"cfg.list is struct inner\[2\]: index 2 is out of range \(0..1\)"),
    ("list[-1]", ObjectError, "index -1 is out of range"),
    ("list[x]", UsageError, "'x' is no index"),
    ("list.c", UsageError, r"cfg.list is struct inner\[2\]: it has no member c"),
    ("a[0]", UsageError, "it has no elements"),
    ("a", UsageError, "cfg.a is u3: 8 is out of range 0..7"),
    ("b", UsageError, "cfg.b is s5: 16 is out of range -16..15"),
    ("m", UsageError, "out of range"),
    ("mac[6]", ObjectError, "index 6 is out of range"),
]


@pytest.mark.parametrize(("path", "error", "message"), BAD_PATHS)
def test_bad_paths_and_values_change_nothing(
    cfg: tuple[Btf, int], path: str, error: type[NetbpfError], message: str
) -> None:
    btf, kind = cfg
    data = bytearray(encode(btf, kind, {}))
    with pytest.raises(error, match=message):
        assign_text(
            btf, kind, data, path, {"a": "8", "b": "16", "m": "udp"}.get(path, "0"), name="cfg"
        )
    assert data == encode(btf, kind, {})


def test_a_list_that_fails_half_way_changes_nothing(cfg: tuple[Btf, int]) -> None:
    btf, _ = cfg
    data = bytearray(b"\xff" * 16)
    with pytest.raises(UsageError):
        assign_text(btf, variable(btf, "ports"), data, Path(), "[1, 2, x]")
    assert data == b"\xff" * 16


def test_places(cfg: tuple[Btf, int]) -> None:
    btf, kind = cfg
    place = locate(btf, kind, "list[1].d", name="cfg")
    assert (place.size, place.bits, place.name) == (1, 0, "cfg.list[1].d")
    bitfield = locate(btf, kind, "b")
    assert (bitfield.bit, bitfield.bits, bitfield.size) == (3, 5, 1)
    assert locate(btf, variable(btf, "grid"), Path((Index("1"), Index("2")))).offset == 20
    flexible = variable(btf, "flexible")
    assert locate(btf, flexible, "items[1]", size=8).offset == 6
    with pytest.raises(ObjectError, match="out of range"):
        locate(btf, flexible, "items[2]", size=8)
    with pytest.raises(ObjectError, match="none, it is empty"):
        locate(btf, flexible, "items[0]")


def test_the_data_must_reach_to_the_place(cfg: tuple[Btf, int]) -> None:
    btf, kind = cfg
    with pytest.raises(ObjectError, match="ends behind the 4 bytes"):
        assign(btf, kind, bytearray(4), "last", 1)


@pytest.mark.parametrize(
    ("typed", "steps"),
    [
        ("limit", ("limit",)),
        ("cfg.port", ("cfg", "port")),
        ("ports[2]", ("ports", Index("2"))),
        ("a.b[1].c", ("a", "b", Index("1"), "c")),
        ("m[1][0x2]", ("m", Index("1"), Index("0x2"))),
        ("rules[10.0.0.0/8].action", ("rules", Index("10.0.0.0/8"), "action")),
        ("rules[{a: [1], b: ']'}]", ("rules", Index("{a: [1], b: ']'}"))),
        ("hash[eth=0]", ("hash", Index("eth=0"))),
        (".bss", (".bss",)),
        ("f@8", ("f@8",)),
    ],
)
def test_paths(typed: str, steps: tuple[object, ...]) -> None:
    path = Path.parse(typed)
    assert path.steps == steps
    assert str(path) == typed
    assert parse_assignment(f"{typed}= a=b ") == Assignment(path, "a=b")


def test_static_variables_of_functions(clang: str) -> None:
    """clang calls them function.variable, in ELF and BTF alike."""
    source = (
        "int f(int x) { static struct { int a, b[2]; } s; s.b[x & 1] += x; return s.b[0] + s.a; }"
    )
    btf, kind, content = section(compile_c(clang, source), ".bss")
    data = bytearray(content)
    assign_text(btf, kind, data, "f.s.b[1]", "7")
    assert decode(btf, kind, data) == {"f.s": {"a": 0, "b": [0, 7]}}
    assert Path.parse("f.s.b[1]").first({"f.s"}) == ("f.s", Path(("b", Index("1"))))
    assert Path.parse("g.s").first({"f.s"}) == ("g", Path(("s",)))
    with pytest.raises(UsageError, match="does not begin with a name"):
        Path((Index("1"),)).first({})


@pytest.mark.parametrize(
    "typed", ["", "[1]", "a..b", "a.", "a[1", "a]", "a[1]b", ".", "a[[1]", "a['x]"]
)
def test_no_paths(typed: str) -> None:
    with pytest.raises(UsageError):
        Path.parse(typed)


@pytest.mark.parametrize("typed", ["limit", "a[1]", "=5", ""])
def test_no_assignments(typed: str) -> None:
    with pytest.raises(UsageError):
        parse_assignment(typed)


# --- everything there and back ---


@st.composite
def types(draw: st.DrawFn, builder: Builder, depth: int = 0) -> tuple[int, int]:
    """Any type without floats, whose bits JSON cannot keep, and bools: (id, size)."""
    kinds = ["int", "be", "enum", "pointer", "char"] + ["array", "struct", "union", "bits"] * (
        depth < 3
    )
    kind = draw(st.sampled_from(kinds))
    name = draw(st.sampled_from(["x", "saddr", "ip6", "proto", "src"]))
    if kind == "int":
        size = draw(st.sampled_from([1, 2, 4, 8, 16]))
        return builder.integer("int", size, signed=draw(st.booleans())), size
    if kind == "be":
        size = draw(st.sampled_from([2, 4, 8]))
        return builder.typedef(f"__be{size * 8}", builder.integer("unsigned", size)), size
    if kind == "enum":
        values = draw(st.dictionaries(st.sampled_from("ABCDE"), st.integers(-9, 99)))
        size = draw(st.sampled_from([1, 2, 4, 8]))
        make = builder.enum64 if size == 8 else builder.enum
        return make("e", list(values.items()), size=size), size
    if kind == "pointer":
        return builder.ptr(0), 8
    if kind == "char":
        count = draw(st.integers(0, 9))
        return builder.array(builder.integer("char", 1, signed=True), count), count
    if kind == "array":
        count = draw(st.sampled_from([0, 1, 2, 4, 6, 16]))
        if draw(st.booleans()):
            return builder.array(builder.integer("unsigned char", 1), count), count
        element, size = draw(types(builder, depth + 1))
        return builder.array(element, count), size * count
    if kind == "bits":
        whole = builder.integer("int", 8, signed=draw(st.booleans()))
        members, position = [], 0
        for index, bits in enumerate(draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))):
            members.append(Member(f"b{index}", whole, position, bits))
            position += bits
        return builder.struct("bits", 16, members), 16
    members, position, widest = [], 0, 0
    for index in range(draw(st.integers(1, 4))):
        inner, size = draw(types(builder, depth + 1))
        members.append(Member(f"{name}{index}", inner, 0 if kind == "union" else position * 8, 0))
        position, widest = position + size, max(widest, size)
    if kind == "union":
        return builder.union("u", widest, members), widest
    return builder.struct("s", position, members), position


@settings(max_examples=400)
@given(st.data())
def test_every_value_goes_back_to_its_bytes(data: st.DataObject) -> None:
    """As a Python value, through JSON-like text, over other bytes and over none."""
    builder = Builder()
    kind, size = data.draw(types(builder))
    btf = builder.build()
    raw = data.draw(st.binary(min_size=size, max_size=size))
    other = data.draw(st.binary(min_size=size, max_size=size))
    value = decode(btf, kind, raw)
    assert encode(btf, kind, value, base=raw) == raw
    assert decode(btf, kind, encode(btf, kind, value)) == value
    assert decode(btf, kind, encode(btf, kind, value, base=other)) == value
    assert decode(btf, kind, encode_text(btf, kind, format_value(value))) == value


FUZZED = Builder()
KINDS = [FUZZED.integer("unsigned char", 1), FUZZED.enum("mode", [("OFF", 0), ("ON", 1)])]
KINDS += [FUZZED.array(one, 4) for one in KINDS] + [
    FUZZED.array(FUZZED.integer("char", 1), 4),
    FUZZED.floating("float", 4),
]
KINDS.append(FUZZED.record("all", [(f"m{index}", one) for index, one in enumerate(KINDS)]))
FUZZED_BTF = FUZZED.build()


@settings(max_examples=2000)
@given(st.sampled_from(KINDS), st.text() | st.text(alphabet="[]{}:,=\"'\\0x1m .", max_size=12))
def test_no_text_makes_more_than_an_error(kind: int, typed: str) -> None:
    try:
        data = encode_text(FUZZED_BTF, kind, typed, name="x")
    except (UsageError, ObjectError) as error:
        shown = error.message
    else:
        assert len(data) == FUZZED_BTF.size(kind)
        shown = format_value(decode(FUZZED_BTF, kind, data))
    assert shown.isprintable()
