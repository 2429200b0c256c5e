"""Values of real maps, as bpftool prints them and as netbpf does."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.btf.decode import decode
from netbpf.bpf.btf.encode import encode
from netbpf.bpf.btf.percpu import summer
from netbpf.bpf.btf.types import Kind
from netbpf.bpf.map import Map, possible_cpus
from netbpf.constants import MapType
from tests.unit.btf_c import CLANGS, compile_c

SOURCE = """
enum mode { OFF, ON = 5 };
struct inner { __s16 a; __u8 list[3]; };
struct value {
	__u64 counter;
	int negative;
	unsigned low : 3;
	int bits : 7;
	unsigned rest : 22;
	union { __u32 word; struct { __u16 first, second; }; };
	union { __s64 whole; __u32 halves[2]; } named;
	enum mode mode;
	enum mode unknown;
	struct inner inner[2];
	__s32 grid[2][2];
	bool flag;
};
struct key { __u32 id; __u16 port; __u16 pad; };
struct value value;
struct key key;
struct { __u64 packets, bytes; } counter;
"""

VALUE: dict[str, Any] = {
    "counter": 2**64 - 1, "negative": -5, "low": 5, "bits": -64, "rest": 0x3FFFFF, "word": 0x20001,
    "named": {"whole": -2}, "mode": "ON", "unknown": 77,
    "inner": [{"a": -1, "list": [1, 2, 3]}, {"a": 2, "list": [4, 5, 6]}],
    "grid": [[1, -2], [3, -4]], "flag": True,
}  # fmt: skip
BITFIELDS = {"low": 3, "bits": 7, "rest": 22}


@pytest.fixture(params=CLANGS)
def clang(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def create(
    stack: ExitStack, clang: str, kind: MapType, key: str, value: str
) -> tuple[Map, int, int]:
    """A map whose types are those of two variables, and the ids of the types."""
    btf = compile_c(clang, SOURCE).btf
    assert btf
    fd, errno, log = sys_bpf.btf_load(btf.data, log_size=1 << 16)
    assert fd, (errno, log)
    stack.callback(fd.close)
    ids = [
        btf.find(name, Kind.VAR)[0].size_or_type if name else btf.find("int")[0].id
        for name in (key, value)
    ]
    made = sys_bpf.map_create(
        kind, btf.size(ids[0]), btf.size(ids[1]), 4, name="oracle",
        btf_fd=fd.fileno(), btf_key_type_id=ids[0], btf_value_type_id=ids[1],
    )  # fmt: skip
    return stack.enter_context(Map(made)), ids[0], ids[1]


def bpftool(number: int) -> Any:
    program = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    assert program, "bpftool is not installed"
    command = [program, "-j", "map", "dump", "id", str(number)]
    (entry,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return entry["formatted"]


def flattened(value: Any) -> Any:
    """bpftool's value without the anonymous levels, which it names ``(anon)``."""
    if isinstance(value, list):
        return [flattened(one) for one in value]
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for name, part in value.items():
        if name in ("(anon)", ""):
            out |= flattened(part)
        else:
            out[name] = flattened(part)
    return out


def test_one_entry_as_bpftool_shows_it(stack: ExitStack, clang: str) -> None:
    live, key_id, value_id = create(stack, clang, MapType.HASH, "key", "value")
    btf = compile_c(clang, SOURCE).btf
    assert btf
    key = encode(btf, key_id, {"id": 7, "port": 53})
    live.update(key, encode(btf, value_id, VALUE))
    ((raw_key, raw_value),) = live.entries()
    shown = bpftool(live.info.id)
    assert decode(btf, key_id, raw_key) == shown["key"] == {"id": 7, "port": 53, "pad": 0}
    ours: Any = decode(btf, value_id, raw_value)
    theirs = flattened(shown["value"])
    # bpftool gives the bits of a bitfield, in hex and without their sign.
    raw_bits = {name: hex(ours[name] & (1 << bits) - 1) for name, bits in BITFIELDS.items()}
    assert ours | raw_bits == theirs
    assert ours["named"] == {"whole": -2, "halves": [0xFFFFFFFE, 0xFFFFFFFF]}
    assert {**ours, **VALUE} | {"named": ours["named"]} == ours


def test_a_per_cpu_value_is_the_sum_of_bpftools_parts(stack: ExitStack, clang: str) -> None:
    live, _, value_id = create(stack, clang, MapType.PERCPU_ARRAY, "", "counter")
    btf = compile_c(clang, SOURCE).btf
    assert btf
    parts = [{"packets": cpu + 1, "bytes": 10 * cpu} for cpu in range(possible_cpus())]
    for index in range(4):
        live.update(
            index.to_bytes(4, "little"), b"".join(encode(btf, value_id, one) for one in parts)
        )
    raw = live.lookup(bytes(4))
    assert raw
    program = shutil.which("bpftool", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")
    assert program
    command = [program, "-j", "map", "lookup", "id", str(live.info.id), "key", "0", "0", "0", "0"]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    theirs = [one["value"] for one in shown["formatted"]["values"]]
    assert theirs == parts
    total = summer(btf, value_id, live.stride, live.info.value_size)(raw)
    assert total == {name: sum(one[name] for one in theirs) for name in theirs[0]}
