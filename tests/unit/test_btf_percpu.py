"""The copies of a per-CPU value as one value."""

import os
import struct
from typing import Any

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.decode import decode
from netbpf.bpf.btf.encode import encode
from netbpf.bpf.btf.percpu import copies, folder, sum_values, summer
from netbpf.bpf.btf.raw import sum_raw
from netbpf.bpf.btf.shape import shape
from netbpf.bpf.btf.types import Btf
from netbpf.errors import ObjectError
from tests.unit.btf_c import CLANGS, btf_of, variable


@pytest.fixture(params=CLANGS)
def clang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def summed(btf: Btf, kind: int, values: list[bytes]) -> Any:
    """All copies at their stride, as a lookup returns them."""
    size = len(values[0])
    stride = (size + 7) & ~7
    data = b"".join(one.ljust(stride, b"\xee") for one in values)
    return summer(btf, kind, stride, size)(data)


def test_counters_are_added_and_do_not_wrap(clang: str) -> None:
    btf = btf_of(clang, "struct { __u64 packets, bytes; } x;")
    most = struct.pack("<QQ", 2**64 - 1, 1)
    assert summed(btf, variable(btf, "x"), [most] * 3) == {"packets": 3 * (2**64 - 1), "bytes": 3}


def test_a_value_smaller_than_its_stride(clang: str) -> None:
    btf = btf_of(clang, "struct { __u32 a; __s16 b; } __attribute__((packed)) x; __u32 y;")
    row = struct.pack("<Ih", 5, -2)
    assert summed(btf, variable(btf, "x"), [row, row]) == {"a": 10, "b": -4}
    assert summed(btf, variable(btf, "y"), [b"\1\0\0\0", b"\2\0\0\0"]) == 3


MIXED = """
enum mode { OFF, ON };
struct { __u64 n; int list[2]; struct { short s; } inner; double d; unsigned bits : 4; union { __u32 w; __u8 b; };
	enum mode mode; bool flag; char name[4]; __u8 mac[6]; __be16 port; void *p; char c; } x;
"""


def test_each_type_is_summed_its_own_way(clang: str) -> None:
    btf = btf_of(clang, MIXED)
    kind = variable(btf, "x")
    plain: dict[str, Any] = {
        "n": 1, "list": [1, -2], "inner": {"s": 3}, "d": 0.5, "bits": 9, "w": 5, "b": 5,
        "mode": "ON", "flag": True, "name": "a", "mac": "02:00:00:00:00:01", "port": 53, "p": "0x0", "c": 1,
    }  # fmt: skip
    one = encode(btf, kind, plain)
    added = {
        "n": 2,
        "list": [2, -4],
        "inner": {"s": 6},
        "d": 1.0,
        "bits": 18,
        "w": 10,
        "b": 10,
        "c": 2,
    }
    assert summed(btf, kind, [one, one]) == {**plain, **added}
    other = encode(
        btf,
        kind,
        {"mode": 7, "name": "b", "mac": bytes(6), "port": 54, "p": 1, "flag": False},
        base=one,
    )
    found = summed(btf, kind, [one, other])
    assert {key: found[key] for key in found if key not in added} == {
        "mode": ["ON", 7], "flag": [True, False], "name": ["a", "b"],
        "mac": ["02:00:00:00:00:01", "00:00:00:00:00:00"], "port": [53, 54], "p": ["0x0", "0x1"],
    }  # fmt: skip
    assert list(found) == list(plain)


def test_the_fast_way_and_the_general_way_agree(clang: str) -> None:
    btf = btf_of(clang, "struct { __u8 a; __u64 b; __s32 c; __u16 d; } x;")
    kind = variable(btf, "x")
    data = os.urandom(24 * 8)
    general = folder(shape(btf, kind))([decode(btf, kind, one) for one in copies(data, 24, 24)])
    assert summer(btf, kind, 24, 24)(data) == general


@pytest.mark.parametrize("length", [0, 15, 17])
def test_data_that_is_no_whole_number_of_copies(clang: str, length: int) -> None:
    btf = btf_of(clang, "struct { __u64 a, b; } x; struct { __u64 a; bool b; } y;")
    for name in ("x", "y"):
        with pytest.raises(ObjectError, match="no whole number"):
            summer(btf, variable(btf, name), 16, 16)(bytes(length))


def test_a_type_that_is_larger_than_the_value(clang: str) -> None:
    btf = btf_of(clang, "struct { __u64 a, b; } x;")
    with pytest.raises(ObjectError, match="does not fit"):
        summer(btf, variable(btf, "x"), 8, 8)
    with pytest.raises(ObjectError, match="no whole number"):
        copies(bytes(16), 8, 9)


def test_nan_has_no_sum() -> None:
    builder = Builder()
    kind = builder.floating("double", 8)
    btf = builder.build()
    assert summed(btf, kind, [struct.pack("<d", 1.5), struct.pack("<d", float("nan"))]) == [
        1.5,
        "nan",
    ]
    assert summed(btf, kind, [struct.pack("<d", 1.5), struct.pack("<d", 2)]) == 3.5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], 6),
        ([1.5, 1], 2.5),
        ([True, True], True),
        ([True, False], [True, False]),
        ([True, 1], [True, 1]),
        (["ON", "ON"], "ON"),
        (["ON", 7], ["ON", 7]),
        ([[1, 2], [3, 4]], [4, 6]),
        ([[1], [1, 2]], [[1], [1, 2]]),
        ([{"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": "y"}}], {"a": 3, "b": {"c": ["x", "y"]}}),
        ([{"a": 1}, {"b": 1}], [{"a": 1}, {"b": 1}]),
        ([5], 5),
        ([], None),
    ],
)
def test_sums_without_types(values: list[Any], expected: object) -> None:
    assert sum_values(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"\x01\0\0\0", b"\x02\0\0\0"], "0x00000003"),
        ([b"\xff" * 8, b"\x01" + bytes(7)], "0x10000000000000000"),
        ([b"\x01\x02\x03"] * 2, "01 02 03"),
        ([b"\x01\x02\x03", bytes(3)], ["01 02 03", "00 00 00"]),
    ],
)
def test_sums_without_btf(values: list[bytes], expected: object) -> None:
    assert sum_raw(values) == expected


def test_a_sum_that_no_float_holds_is_a_text_as_infinity_is() -> None:
    """JSON has no number for it."""
    builder = Builder()
    real = builder.floating("double", 8)
    btf = builder.build()
    assert summed(btf, real, [struct.pack("<d", 1e308)] * 2) == "inf"
    assert summed(btf, real, [struct.pack("<d", -1e308)] * 2) == "-inf"
    assert summed(btf, real, [struct.pack("<d", 8e307)] * 2) == 1.6e308
