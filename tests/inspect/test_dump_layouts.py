"""A dump as JSON is made by columns. It has to say, to the letter, what the decoder says entry by entry."""

import io
import json
import os
import random
from collections.abc import Iterator
from itertools import chain

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.btf.raw import decode_raw
from netbpf.bpf.btf.shape import Field, Form, Shape
from netbpf.bpf.btf.values import format_value
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapType
from netbpf.insight import dump
from netbpf.insight.columns import text_of
from netbpf.insight.dump import entry_json, plain_value
from netbpf.insight.entries import Entries
from netbpf.insight.styles import untyped
from tests.support.compiling import compile_c

SOURCE = """
#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in6.h>
#include <bpf/bpf_helpers.h>
enum action { ACTION_PASS, ACTION_DROP, ACTION_SAME = 1 };
enum level { LEVEL_LOW = -1, LEVEL_HIGH = 300 };
struct inner { __u16 port; enum action action; char tag[6]; };
struct rich {
	__u8 mac[6];
	bool flag;
	__s8 small;
	__be32 src_addr;
	struct in6_addr dst;
	__be16 port;
	__u16 low : 3, high : 13;
	__s32 signed_bits : 5;
	enum level level;
	union { __u32 number; __u8 bytes[4]; struct { __u16 a, b; } pair; };
	union { struct inner left; __u64 right; } either;
	struct inner inner[3];
	__u64 grid[2][2];
	__u32 large[40];
	void *where;
	double real;
	char text[9];
	struct {} nothing;
	unsigned __int128 wide;
};
struct plain { __u64 packets; __s32 balance; struct inner inner; __u8 mac[6]; enum action action; };
struct ports { __be16 port; __u16 low : 3, high : 13; __s32 balance : 7; bool flag; void *where; };
struct real { double real; __u32 number; };
struct prefix { __u32 length; __be32 src; };
struct route { __u32 length; __u32 table; __u16 port; };
#define MAP(kind, name, k, v, f) struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 600); \\
	__type(key, k); __type(value, v); __uint(map_flags, f); } name SEC(".maps")
MAP(HASH, nb_numbers, __u32, __s64, 0);
MAP(HASH, nb_rich, struct rich, struct rich, 0);
MAP(HASH, nb_plain, struct plain, __u64, 0);
MAP(LRU_HASH, nb_pairs, struct inner, struct plain, 0);
MAP(ARRAY, nb_array, __u32, struct rich, 0);
MAP(PERCPU_HASH, nb_each, __u32, struct plain, 0);
MAP(PERCPU_ARRAY, nb_each_rich, __u32, struct rich, 0);
MAP(PERCPU_HASH, nb_each_number, __u16, __u8, 0);
MAP(PERCPU_HASH, nb_each_port, __be32, struct ports, 0);
MAP(PERCPU_HASH, nb_each_real, __u32, struct real, 0);
MAP(LPM_TRIE, nb_rules, struct prefix, enum action, BPF_F_NO_PREALLOC);
MAP(LPM_TRIE, nb_routes, struct route, struct inner, BPF_F_NO_PREALLOC);
static char nothing[1024];
SEC("xdp") int uses(struct xdp_md *ctx)
{
	bpf_map_lookup_elem(&nb_rich, nothing);
	bpf_map_lookup_elem(&nb_plain, nothing);
	bpf_map_lookup_elem(&nb_pairs, nothing);
	bpf_map_lookup_elem(&nb_array, nothing);
	bpf_map_lookup_elem(&nb_each, nothing);
	bpf_map_lookup_elem(&nb_each_rich, nothing);
	bpf_map_lookup_elem(&nb_each_number, nothing);
	bpf_map_lookup_elem(&nb_each_port, nothing);
	bpf_map_lookup_elem(&nb_each_real, nothing);
	bpf_map_lookup_elem(&nb_rules, nothing);
	bpf_map_lookup_elem(&nb_routes, nothing);
	return bpf_map_lookup_elem(&nb_numbers, nothing) ? XDP_PASS : XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""
# Bytes that texts, names, flags and per-CPU values are sensitive to.
_TELLING = b'\0\0\0\0\1\1\x02\x7f\xff"\\%s\n\xc3\xa4{}'
_ENTRIES = 300  # more than one block of rows, and some


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    spec = ObjectSpec(compile_c(SOURCE, name="layouts"))
    with load(spec, spec.programs[0], None) as made:
        yield made


def bytes_of(chance: random.Random, size: int) -> bytes:
    if chance.random() < 0.5:
        return chance.randbytes(size)
    return bytes(chance.choices(_TELLING, k=size))


def fill(one: Map) -> None:
    """Entries of bytes that have some of everything; the values of a per-CPU map agree in places."""
    chance = random.Random(one.info.name)
    info = one.info
    for number in range(_ENTRIES):
        key = bytes_of(chance, info.key_size)
        if info.type in (MapType.ARRAY, MapType.PERCPU_ARRAY):
            key = number.to_bytes(4, "little")
        elif info.type == MapType.LPM_TRIE:
            key = chance.randrange(8 * info.key_size - 31).to_bytes(4, "little") + key[4:]
        value = bytes_of(chance, one.entry_size)
        if one.per_cpu and number % 2:
            value = value[: one.stride] * (one.entry_size // one.stride)
        sys_bpf.map_update(one.fd.fileno(), key, value)


def by_columns(entries: Entries) -> tuple[int, str]:
    out = io.StringIO()
    return entries.write_json(out), out.getvalue()


def one_by_one(entries: Entries) -> str:
    encode = json.JSONEncoder(separators=(",", ":")).encode
    return ",".join(encode(entry_json(one)) for one in entries.entries())


def lines_by_columns(entries: Entries) -> tuple[int, str]:
    out = io.StringIO()
    return entries.write_lines(out), out.getvalue()


def lines_one_by_one(entries: Entries) -> str:
    raw_key = entries.decoders.key is decode_raw
    return "".join(
        f"{untyped(one.key) if raw_key else format_value(one.key)}: {plain_value(entries, one.value)}\n"
        for one in entries.entries()
    )


def check(opened: Map) -> None:
    fill(opened)
    with Entries(opened) as entries:
        total, text = by_columns(entries)
        assert text == one_by_one(entries)
        assert total == len(json.loads(f"[{text}]")) > 10
        count, lines = lines_by_columns(entries)
        assert lines == lines_one_by_one(entries)
        assert total == count == lines.count("\n")


@pytest.mark.parametrize(
    "name",
    [
        "nb_numbers", "nb_rich", "nb_plain", "nb_pairs", "nb_array", "nb_each", "nb_each_rich", "nb_each_number",
        "nb_each_port", "nb_each_real", "nb_rules", "nb_routes",
    ],
)  # fmt: skip
def test_columns_say_what_the_decoder_says(loaded: Loaded, name: str) -> None:
    check(Map.by_id(loaded.maps[name].info.id))


def test_large_maps_are_read_and_written_by_threads(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump, "_MANY", 1)
    check(Map.by_id(loaded.maps["nb_rich"].info.id))


def test_names_are_written_as_json_has_them() -> None:
    number = Shape(Form.INT, 1, 4, "u32", bits=32)
    fields = {name: Field(name, number, 0, 0, 4) for name in ("%s", "%", "%%d", '"')}
    text = text_of(Shape(Form.STRUCT, 2, 4, "struct x", fields=fields, leaves=4), 4)
    filled = "".join(chain.from_iterable(zip(text.pieces, ["7", "8", "9", "10", ""], strict=True)))
    assert json.loads(filled) == {"%s": 7, "%": 8, "%%d": 9, '"': 10}


@pytest.mark.parametrize("size", [1, 2, 4, 6, 8, 20])
@pytest.mark.parametrize("kind", [MapType.HASH, MapType.PERCPU_HASH])
def test_without_types(size: int, kind: MapType) -> None:
    check(Map(sys_bpf.map_create(kind, size, size, 600)))


def test_keys_whose_values_are_not_shown() -> None:
    """A map of sockets or programs has keys; what is behind them may not be read, or only some of it."""
    with Entries(Map(sys_bpf.map_create(MapType.PROG_ARRAY, 4, 4, 3))) as entries:
        assert by_columns(entries) == (0, "")
    made = Map(sys_bpf.map_create(MapType.PERF_EVENT_ARRAY, 4, 4, os.cpu_count() or 1))
    with Entries(made) as entries:
        total, text = by_columns(entries)
        assert text == one_by_one(entries)
        assert lines_by_columns(entries) == (total, lines_one_by_one(entries))
        assert total == len(list(made.entries()))
        # Nothing is known of them; 0 would be a number.
        assert {one["value"] for one in json.loads(f"[{text}]")} == {""}
