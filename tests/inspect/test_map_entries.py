"""``map dump``, ``lookup``, ``update``, ``delete`` and ``pin`` beside bpftool."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map, possible_cpus
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapType
from tests.cli.lab import Done, run_cli
from tests.inspect.test_kernel_objects import bpftool, pins
from tests.support.compiling import compile_c

__all__ = ("pins",)

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
enum action { ACTION_PASS, ACTION_DROP };
struct prefix { __u32 length; __be32 src; };
struct flow { __u32 index; __u16 port; __u16 flags; };
struct count { __u64 packets; __s32 balance; __u32 spare; };
#define MAP(kind, name, k, v, f) struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, 20000); \\
	__type(key, k); __type(value, v); __uint(map_flags, f); } name SEC(".maps")
MAP(LPM_TRIE, nb_rules, struct prefix, enum action, BPF_F_NO_PREALLOC);
MAP(HASH, nb_flows, struct flow, struct count, 0);
MAP(HASH, nb_numbers, __u32, __s64, 0);
MAP(PERCPU_HASH, nb_each, __u32, __u64, 0);
MAP(ARRAY, nb_array, __u32, __u32, 0);
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__uint(key_size, 4);
	__uint(value_size, 6);
} nb_bytes SEC(".maps");
SEC("xdp") int uses(struct xdp_md *ctx)
{
	__u32 key[4] = {};

	bpf_map_lookup_elem(&nb_rules, key);
	bpf_map_lookup_elem(&nb_flows, key);
	bpf_map_lookup_elem(&nb_numbers, key);
	bpf_map_lookup_elem(&nb_each, key);
	bpf_map_lookup_elem(&nb_array, key);
	return bpf_map_lookup_elem(&nb_bytes, key) ? XDP_PASS : XDP_DROP;
}
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture
def loaded(private: Path) -> Iterator[Loaded]:
    spec = ObjectSpec(compile_c(SOURCE, name="entries"))
    with load(spec, spec.programs[0], None) as made:
        yield made


def run(loaded: Loaded, action: str, name: str, *words: object) -> Done:
    return run_cli("map", action, loaded.maps[name].info.id, *words)


def fill(one: Map, count: int) -> None:
    """So many entries of numbers that are all different: 0: -7, 1: -6 ..."""
    for number in range(count):
        sys_bpf.map_update(
            one.fd.fileno(), struct.pack("<I", number), struct.pack("<q", number - 7)
        )


def theirs(one: Map) -> list[Any]:
    """bpftool's decoded entries."""
    return [entry["formatted"] for entry in bpftool("map", "dump", "id", one.info.id)]


# --- reading ---


def test_a_dump_is_that_of_bpftool(loaded: Loaded) -> None:
    numbers, flows = loaded.maps["nb_numbers"], loaded.maps["nb_flows"]
    fill(numbers, 10000)
    for number in range(9000):
        key = struct.pack("<IHH", number, number % 7, 65535)
        sys_bpf.map_update(
            flows.fd.fileno(), key, struct.pack("<QiI", (1 << 64) - 1 - number, -number, 3)
        )
    for one in (numbers, flows):
        found = run_cli("map", "dump", one.info.id, "--json").json
        assert found["entries"] == theirs(one)
        assert found["total"] == len(found["entries"]) >= 9000
        assert found["name"] == one.info.name


def test_a_dump_for_people(loaded: Loaded) -> None:
    fill(loaded.maps["nb_numbers"], 3)
    assert sorted(run(loaded, "dump", "nb_numbers").lines) == ["0: -7", "1: -6", "2: -5"]
    assert len(run(loaded, "dump", "nb_numbers", "--limit", 2).lines) == 2
    limited = run(loaded, "dump", "nb_numbers", "--limit", 2, "--json").json
    assert len(limited["entries"]) == limited["total"] == 2


@pytest.mark.parametrize("limit", [1, 64, 4097, 5000])
def test_a_limited_dump_as_json(loaded: Loaded, limit: int) -> None:
    fill(loaded.maps["nb_numbers"], 5000)
    found = run(loaded, "dump", "nb_numbers", "--json", "--limit", limit).json
    assert found["total"] == len({one["key"] for one in found["entries"]}) == limit


def test_an_empty_map(loaded: Loaded) -> None:
    assert run(loaded, "dump", "nb_numbers", "--json").json["entries"] == []
    assert run(loaded, "dump", "nb_numbers").out == ""


def test_a_large_map_into_head_ends_quietly(loaded: Loaded) -> None:
    fill(loaded.maps["nb_numbers"], 20000)
    for options in ("", "--json"):
        number = loaded.maps["nb_numbers"].info.id
        command = f"{sys.executable} -m netbpf map dump {number} {options} | head -c 30"
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        assert len(done.stdout) == 30
        assert not done.stderr


# --- writing ---


def test_typed_keys_and_values(loaded: Loaded) -> None:
    assert run(loaded, "update", "nb_rules", "10.0.0.0/8", "drop").code == 0
    assert run(loaded, "update", "nb_rules", "{length: 16, src: 10.1.0.0}", "ACTION_PASS").code == 0
    assert run(loaded, "update", "nb_rules", "{src: 10.3.0.0/16}", "pass").code == 0
    assert run(loaded, "delete", "nb_rules", "{src: 10.3.0.0/16}").code == 0
    assert sorted(run(loaded, "dump", "nb_rules").lines) == [
        "10.0.0.0/8: ACTION_DROP", "10.1.0.0/16: ACTION_PASS",
    ]  # fmt: skip
    assert run(loaded, "lookup", "nb_rules", "10.2.3.4").out == "ACTION_DROP\n"
    assert run(loaded, "delete", "nb_rules", "10.0.0.0/8").code == 0
    done = run(loaded, "lookup", "nb_rules", "10.2.3.4")
    assert done.code == 1
    assert "has no entry 10.2.3.4" in done.error


def test_members_that_are_not_mentioned_stay(loaded: Loaded) -> None:
    key = "{index: 1, port: 53, flags: 0}"
    run(loaded, "update", "nb_flows", key, "{packets: 5, balance: -2}")
    done = run(loaded, "update", "nb_flows", key, "{packets: 6}", "--json")
    assert done.json["value"] == {"packets": 6, "balance": -2, "spare": 0}
    raw = loaded.maps["nb_flows"].lookup(struct.pack("<IHH", 1, 53, 0))
    assert raw == struct.pack("<QiI", 6, -2, 0)


def test_negative_numbers_are_no_options(loaded: Loaded) -> None:
    assert run(loaded, "update", "nb_numbers", 1, -5).code == 0
    assert run(loaded, "update", "nb_numbers", 2, "-0x10", "--new").code == 0
    assert sorted(run(loaded, "dump", "nb_numbers").lines) == ["1: -5", "2: -16"]
    done = run(loaded, "lookup", "nb_numbers", -1)
    assert "key is u32: -1 is out of range 0..4294967295" in done.error
    assert "No such option '--nw'" in run(loaded, "update", "nb_numbers", 1, 5, "--nw").error
    assert run(loaded, "update", "nb_numbers", 1, -5, "--nw").code == 2


def test_only_new_and_only_existing(loaded: Loaded) -> None:
    done = run(loaded, "update", "nb_numbers", 1, 2, "--existing")
    assert done.code == 1
    assert "has no entry 1" in done.error
    assert run(loaded, "update", "nb_numbers", 1, 2, "--new").code == 0
    done = run(loaded, "update", "nb_numbers", 1, 3, "--new")
    assert done.code == 1
    assert "has an entry 1 already" in done.error
    assert run(loaded, "update", "nb_numbers", 1, 4, "--existing").code == 0
    assert run(loaded, "lookup", "nb_numbers", 1).out == "4\n"


def test_without_types_bytes_are_taken_and_given(loaded: Loaded) -> None:
    assert run(loaded, "update", "nb_bytes", "10.0.0.1", "01 02 03 04 05 06").code == 0
    raw = loaded.maps["nb_bytes"].lookup(b"\x0a\0\0\1")
    assert raw == bytes([1, 2, 3, 4, 5, 6])
    assert run(loaded, "lookup", "nb_bytes", "0a 00 00 01").out == "01 02 03 04 05 06\n"
    assert run(loaded, "dump", "nb_bytes").out == "0x0100000a (16777226): 01 02 03 04 05 06\n"


def test_indexes_and_ids_are_numbers_without_types(loaded: Loaded) -> None:
    with sys_bpf.map_create(MapType.ARRAY, 4, 8, 2, name="nb_plain") as fd:
        plain = Map(fd.duplicate())
        with plain:
            sys_bpf.map_update(fd.fileno(), struct.pack("<I", 1), struct.pack("<Q", 26))
            assert run_cli("map", "dump", plain.info.id).lines == [
                "0: 0x0000000000000000 (0)",
                "1: 0x000000000000001a (26)",
            ]
            entries = run_cli("map", "dump", plain.info.id, "--json").json["entries"]
    assert entries[1] == {"key": 1, "value": "0x000000000000001a"}
    with sys_bpf.map_create(MapType.PROG_ARRAY, 4, 4, 4, name="nb_jumps") as fd:
        jumps = Map(fd.duplicate())
        with jumps:
            program = struct.pack("<I", loaded.program.fd.fileno())
            sys_bpf.map_update(fd.fileno(), struct.pack("<I", 2), program)
            number = loaded.program.info.id
            assert run_cli("map", "dump", jumps.info.id).out == f"2: program {number} (uses)\n"
            assert run_cli("map", "lookup", jumps.info.id, 2).out == f"program {number} (uses)\n"
            entries = run_cli("map", "dump", jumps.info.id, "--json").json["entries"]
    assert entries == [{"key": 2, "value": number}]


def test_a_map_may_have_the_word_before_it_that_says_what_names_it(
    loaded: Loaded, pins: Path
) -> None:
    number = loaded.maps["nb_numbers"].info.id
    run_cli("map", "pin", number, pins / "kept")
    assert run_cli("map", "update", "pinned", pins / "kept", 1, 5).code == 0
    assert run_cli("map", "lookup", "id", number, 1).out == "5\n"
    assert run_cli("map", "delete", "id", number, 1).code == 0
    assert run_cli("map", "dump", "pinned", pins / "kept").out == ""
    for words, said in (
        (("lookup", number), "Missing argument 'KEY'"),
        (("update", number, 1), "Missing argument 'VALUE'"),
        (("lookup", number, 1, 2), "unexpected extra argument (2)"),
        (("lookup", "id", number, 1, 2), "unexpected extra argument"),
    ):
        done = run_cli("map", *words)
        assert done.code == 2
        assert said in done.error


def test_a_map_with_a_value_for_each_cpu(loaded: Loaded) -> None:
    cpus = possible_cpus()
    done = run(loaded, "update", "nb_each", 1, 5)
    assert done.code == 2
    assert f"keeps a value for each of {cpus} CPUs, and this is one value" in done.error
    assert "all:VALUE" in done.error
    assert run(loaded, "update", "nb_each", 1, str(list(range(1, cpus + 1)))).code == 0
    found = run(loaded, "lookup", "nb_each", 1, "--json").json
    assert found["value"] == sum(range(1, cpus + 1))
    assert found["values"] == [{"cpu": n, "value": n + 1} for n in range(cpus)]
    assert run(loaded, "update", "nb_each", 1, "all:7").code == 0
    [dumped] = run(loaded, "dump", "nb_each", "--json").json["entries"]
    [oracle] = theirs(loaded.maps["nb_each"])
    assert dumped["values"] == oracle["values"]
    assert dumped["value"] == 7 * cpus


# --- when things go wrong ---


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        ("nb_numbers", "hello", "1", "nb_numbers"),
        ("nb_numbers", "4294967296", "1", "range"),
        ("nb_numbers", "1", "9223372036854775808", "range"),
        ("nb_numbers", "1", "9223372036854775808", "value is s64"),
        ("nb_rules", "10.0.0.0/33", "drop", "33"),
        ("nb_rules", "{src: 10.0.0.0/33}", "drop", "key.src"),
        ("nb_rules", "{length: 33, src: 10.0.0.0}", "drop", "33 is out of range 0..32"),
        ("nb_flows", "{port: 65536}", "{}", "key.port is u16: 65536 is out of range 0..65535"),
        ("nb_flows", "{port: 1}", "{balance: x}", "value.balance is s32: 'x' is no number"),
        ("nb_rules", "10.0.0.0/8", "sideways", "sideways"),
        ("nb_flows", "{index: 1, prt: 2}", "{}", "prt"),
        ("nb_bytes", "1", "01 02", "6 bytes"),
        ("nb_bytes", "01 02 03 04 05", "1", "4 bytes"),
    ],
)
def test_keys_and_values_that_do_not_fit(
    loaded: Loaded, name: str, key: str, value: str, words: str
) -> None:
    done = run(loaded, "update", name, key, value)
    assert done.code in (2, 3)
    assert words in done.error
    assert run(loaded, "dump", name).out == ""


def test_what_an_array_refuses(loaded: Loaded) -> None:
    done = run(loaded, "delete", "nb_array", 1)
    assert done.code == 5
    assert "is an array" in done.error
    done = run(loaded, "update", "nb_array", 20000, 1)
    assert done.code == 3
    assert "behind its end" in done.error


def test_maps_without_keys_and_full_of_files() -> None:
    with sys_bpf.map_create(MapType.QUEUE, 0, 4, 4, name="nb_queue") as fd:
        number = Map(fd.duplicate())
        with number:
            done = run_cli("map", "lookup", number.info.id, "1")
            dumped = run_cli("map", "dump", number.info.id, "--json")
    assert done.code == dumped.code == 5
    assert "has no keys" in done.error
    assert "no entries that can be looked up" in dumped.err
    assert dumped.json["schema"] == "netbpf.error/1"
    with sys_bpf.map_create(MapType.PROG_ARRAY, 4, 4, 4, name="nb_jumps") as fd:
        jumps = Map(fd.duplicate())
        with jumps:
            done = run_cli("map", "update", jumps.info.id, "0", "1")
    assert done.code == 5
    assert "holds files, not values" in done.error


def test_a_prefix_that_is_too_long_without_types() -> None:
    made = sys_bpf.map_create(MapType.LPM_TRIE, 8, 4, 4, flags=1, name="nb_bare")
    with Map(made) as bare:
        done = run_cli("map", "update", bare.info.id, "21 00 00 00 0a 00 00 00", "1")
    assert done.code == 3
    assert "map nb_bare: prefix length 33 is out of range 0..32" in done.error


def test_a_frozen_map(loaded: Loaded) -> None:
    sys_bpf.map_freeze(loaded.maps["nb_numbers"].fd.fileno())
    done = run(loaded, "update", "nb_numbers", 1, 1)
    assert done.code == 5
    assert "is frozen" in done.error


# --- pins ---


def test_pinning(loaded: Loaded, pins: Path) -> None:
    number = loaded.maps["nb_numbers"].info.id
    assert run_cli("map", "pin", number, pins / "kept").code == 0
    [shown] = run_cli("map", "show", pins / "kept", "--json").json["maps"]
    assert (shown["id"], shown["pinned"]) == (number, [str(pins / "kept")])
    done = run_cli("map", "pin", number, pins / "kept")
    assert done.code == 1
    assert "exists already" in done.error
    assert "no names with a dot" in run_cli("map", "pin", number, pins / "a.b").error
    assert "no directory of a bpffs" in run_cli("map", "pin", number, "/tmp/x").error
    assert json.loads(run_cli("map", "pin", number, pins / "again", "--json").out)["pinned"] == str(
        pins / "again"
    )
    assert os.path.exists(pins / "again")  # noqa: PTH110 - bpffs
