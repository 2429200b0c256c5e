"""Values without BTF, and the literals people type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netbpf.bpf.btf.literal import mac, number, parse_literal
from netbpf.bpf.btf.raw import decode_raw, encode_raw
from netbpf.errors import UsageError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x2a", "0x2a"),
        (b"\x2a\0", "0x002a"),
        (b"\x2a\0\0\0", "0x0000002a"),
        (b"\x2a" + bytes(7), "0x000000000000002a"),
        (b"\x0a\0\x01", "0a 00 01"),
        (bytes(range(16)), "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"),
        (b"", ""),
    ],
)
def test_hex_says_what_the_bytes_are(data: bytes, text: str) -> None:
    assert decode_raw(data) == decode_raw(memoryview(data)) == text


@given(st.binary(min_size=1, max_size=40))
def test_hex_goes_back_to_its_bytes(data: bytes) -> None:
    assert encode_raw(decode_raw(data), len(data)) == data


@pytest.mark.parametrize(
    ("value", "size", "data"),
    [
        ("42", 4, b"\x2a\0\0\0"),
        (42, 4, b"\x2a\0\0\0"),
        ("-1", 2, b"\xff\xff"),
        ("0x2a", 3, b"\x2a\0\0"),
        ("10.0.0.1", 4, b"\x0a\0\0\x01"),
        ("02:00:00:00:00:01", 6, b"\x02\0\0\0\0\x01"),
        ("::1", 16, bytes(15) + b"\x01"),
        ("10.0.0.0/8", 8, b"\x08\0\0\0\x0a\0\0\0"),
        ("2001:db8::/32", 20, b"\x20\0\0\0\x20\x01\x0d\xb8" + bytes(12)),
        ("0a 00 00 01", 4, b"\x0a\0\0\x01"),
        ("0A:00", 2, b"\x0a\0"),
        (b"\x01\x02", 2, b"\x01\x02"),
    ],
)
def test_numbers_bytes_and_addresses_by_size(value: object, size: int, data: bytes) -> None:
    assert encode_raw(value, size) == data


@pytest.mark.parametrize(
    ("value", "size", "message"),
    [
        ("256", 1, "key has 1 bytes: 256 is out of range -128..255"),
        ("x", 4, "key has no BTF and 4 bytes: 'x' is neither a number nor 4 bytes"),
        ("0a 00", 4, "neither a number nor 4 bytes"),
        ("10.0.0.1", 8, "neither a number nor 8 bytes"),
        ("::1", 8, "neither a number nor 8 bytes"),
        (b"\x01", 4, "key takes 4 bytes, not 1"),
        (1.5, 4, "neither a number"),
    ],
)
def test_what_fits_no_bytes(value: object, size: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode_raw(value, size, name="key")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("00", 0), ("+1", 1), ("-0x10", -16), ("0B11", 3), ("0o7", 7), ("1_0", 10),
        ("010", None), ("1__0", None), ("_1", None), ("0x", None), ("\u0661", None), ("", None), ("1 2", None),
    ],
)  # fmt: skip
def test_numbers(text: str, value: int | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", ["02:00:00:00:00", "02:00-00:00:00:00", "02:00:00:00:00:0g", "020000000001"]
)
def test_no_macs(text: str) -> None:
    assert mac(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a, b", "a, b"),
        ("[a, b]", ["a", "b"]),
        ("[ ]", []),
        ("{ }", {}),
        (
            '{a: {b: [1, {c: \'x y\'}]}, d: "q\\"\\u0041"}',
            {"a": {"b": ["1", {"c": "x y"}]}, "d": 'q"A'},
        ),
        (
            "{ip: 2001:db8::1, mac: 02:00:00:00:00:01}",
            {"ip": "2001:db8::1", "mac": "02:00:00:00:00:01"},
        ),
        ('{"a b": 1}', {"a b": "1"}),
    ],
)
def test_literals(text: str, value: object) -> None:
    assert parse_literal(text) == value


@given(st.text(alphabet="[]{}:,=\"'\\x1 ", max_size=20))
def test_any_text_is_a_literal_or_a_usage_error(text: str) -> None:
    try:
        parse_literal(text)
    except UsageError as error:
        found = error
    else:
        return
    assert found.message.isprintable()
