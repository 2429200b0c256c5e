"""Maps: which go on, which move entry by entry, which are refused, and what is in them afterwards."""

import pytest

from netbpf.bpf.map import possible_cpus
from netbpf.carry import Carrier, CarryError
from netbpf.errors import ObjectError
from tests.support.waiting import eventually, exists
from tests.upgrade.lab import Lab, actions, lines, program

OLD, NEW = "struct v { __u64 n; __u32 s; };", "struct v { __u64 n; __u32 s; __u32 t; __u64 u; };"
PLAIN = ["HASH", "LRU_HASH", "ARRAY", "PERCPU_HASH", "PERCPU_ARRAY", "LRU_PERCPU_HASH"]


def with_map(kind: str, value: str, entries: int = 64, more: str = "") -> str:
    return program(f"USE(m); {more}", f"{value} MAP(m, {kind}, {entries}, __u32, struct v);")


# --- the same ---

UNKEYED = (
    "struct {{ __uint(type, BPF_MAP_TYPE_{}); __uint(max_entries, 8); __type(value, long); }} "
    'm SEC(".maps");'
)
TYPES = {
    "HASH": "MAP(m, HASH, 8, __u32, long);", "ARRAY": "MAP(m, ARRAY, 8, __u32, long);",
    "LRU_HASH": "MAP(m, LRU_HASH, 8, __u32, long);", "PERCPU_HASH": "MAP(m, PERCPU_HASH, 8, __u32, long);",
    "QUEUE": UNKEYED.format("QUEUE"), "STACK": UNKEYED.format("STACK"), "BLOOM_FILTER": UNKEYED.format("BLOOM_FILTER"),
    "RINGBUF": 'struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } m SEC(".maps");',
    "DEVMAP": "MAP(m, DEVMAP, 8, __u32, __u32);", "CPUMAP": "MAP(m, CPUMAP, 2, __u32, __u32);",
    "XSKMAP": "MAP(m, XSKMAP, 8, __u32, __u32);", "SOCKMAP": "MAP(m, SOCKMAP, 8, __u32, __u32);",
    "PERF_EVENT_ARRAY": "MAP(m, PERF_EVENT_ARRAY, 8, __u32, __u32);",
    "LPM_TRIE": 'struct { __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 8); __uint(map_flags, 1); '
    '__type(key, struct { __u32 len; __be32 ip; }); __type(value, long); } m SEC(".maps");',
}  # fmt: skip
MOVABLE = {"HASH", "ARRAY", "LRU_HASH", "PERCPU_HASH", "LPM_TRIE"}


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_map_goes_on(lab: Lab, kind: str) -> None:
    old = lab.old(program("USE(m)", TYPES[kind]))
    done = lab.upgraded(old, program("USE(m)", TYPES[kind] + "/* another */ long x;"))
    assert actions(done.plan) == {"m": "carried"}
    assert done.new.map("m").info.id == old.map("m").info.id
    assert done.finish().merged == ()


@pytest.mark.parametrize("kind", TYPES)
def test_another_size_moves_what_can_be_moved(lab: Lab, kind: str) -> None:
    old = lab.old(program("USE(m)", TYPES[kind]))
    larger = TYPES[kind].replace("8, ", "16, ").replace("8)", "16)").replace("4096", "8192")
    larger = larger.replace("CPUMAP, 2", "CPUMAP, 1")
    if kind in MOVABLE:
        assert actions(lab.plan(old, program("USE(m)", larger))) == {"m": "entries"}
        return
    with pytest.raises(
        CarryError, match=f"what is in a map of type {kind.lower()} cannot be moved"
    ):
        lab.plan(old, program("USE(m)", larger))
    assert actions(lab.plan(old, program("USE(m)", larger), reset=["m"])) == {"m": "reset"}


def test_new_and_dropped_maps(lab: Lab) -> None:
    old = lab.old(
        program("USE(a); USE(m)", "MAP(a, HASH, 8, int, int); MAP(m, HASH, 8, int, int);")
    )
    new = program("USE(b); USE(m)", "MAP(b, HASH, 8, int, int); MAP(m, HASH, 8, int, int);")
    assert actions(lab.plan(old, new)) == {"b": "new", "m": "carried", "a": "dropped"}


def test_a_map_of_another_program_of_the_object_does_not_count(lab: Lab) -> None:
    old = lab.old(program("USE(m)", "MAP(m, HASH, 8, int, int); MAP(other, HASH, 8, int, int);"))
    new = program("USE(m)", "MAP(m, HASH, 8, int, int); MAP(other, HASH, 8, int, long);")
    assert actions(lab.plan(old, new)) == {"m": "carried"}


# --- grown values ---


@pytest.mark.parametrize("kind", PLAIN)
def test_a_grown_value_moves_with_what_is_in_it(lab: Lab, kind: str) -> None:
    old = lab.old(with_map(kind, OLD))
    for key in range(60):
        # Where padding was, a field will be.
        old.put("m", key, (key * 3).to_bytes(8, "little") + key.to_bytes(4, "little") + b"\xee" * 4)
    done = lab.upgraded(old, with_map(kind, NEW))
    assert actions(done.plan) == {"m": "entries"}
    assert lines(done.plan) == ["m: t is new", "m: u is new"]
    assert done.finish().merged[0].values == 0
    cpus = possible_cpus() if done.new.map("m").per_cpu else 1
    found = done.new.entries("m")
    for key in range(60):
        assert found[key] == {"n": 3 * key * cpus, "s": key * cpus, "t": 0, "u": 0}
    assert len([one for one in found.values() if any(one.values())]) == 59
    assert old.map("m").info.id != done.new.map("m").info.id


GROWN = [
    ("long", "struct { long a; }", None),
    ("struct { int a; }", "struct { int a, b; }", "b is new"),
    ("struct { int a[2]; }", "struct { int a[3]; }", "a grew from 2 to 3 elements"),
    ("struct { int a; struct { int b; } c; }", "struct { int a; struct { int b, d; } c; }", "c.d is new"),
    ("struct { int a; char b; }", "struct { int a; char b, c; }", "c is new"),
    ("struct { int a : 3; }", "struct { int a : 3, b : 4; }", "b is new"),
    ("int[2]", "int[3]", "its value grew from 2 to 3 elements"),
    ("struct { int a; char t[3]; }", "struct { int a; char t[7]; }", "its value.t grew from 3 to 7 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "line"), GROWN)
def test_ways_to_grow(lab: Lab, before: str, after: str, line: str | None) -> None:
    # typeof: an array needs a name to be the type of a map's value.
    text = "typedef {}; MAP(m, HASH, 8, __u32, t);"

    def typedef(one: str) -> str:
        base, _, dims = one.partition("[") if not one.startswith("struct") else (one, "", "")
        return text.format(f"{base} t" + (f"[{dims}" if dims else ""))

    old = lab.old(program("USE(m)", typedef(before)))
    raw = bytes(range(1, 1 + old.map("m").info.value_size))
    old.put("m", 1, raw)
    if line is None:
        with pytest.raises(CarryError):
            lab.plan(old, program("USE(m)", typedef(after)))
        return
    done = lab.upgraded(old, program("USE(m)", typedef(after)))
    assert any(line in one for one in lines(done.plan)), lines(done.plan)
    was, now = old.entries("m")[1], done.new.entries("m")[1]
    assert _contains(now, was)
    # Whatever is new is zero, also where padding was.
    assert _total(now) == _total(was)


def _contains(now: object, was: object) -> bool:
    if isinstance(was, dict) and isinstance(now, dict):
        return all(_contains(now[key], one) for key, one in was.items())
    if isinstance(was, list) and isinstance(now, list):
        return all(_contains(a, b) for a, b in zip(now, was, strict=False))
    return now == was


def _total(value: object) -> int:
    if isinstance(value, dict):
        return sum(map(_total, value.values()))
    if isinstance(value, list):
        return sum(map(_total, value))
    return len(value) if isinstance(value, str) else int(value)  # type: ignore[call-overload]


REFUSED = [
    ("struct { int a, b; }", "struct { int b, a; }", "its value.a was at byte 0, is at byte 4"),
    ("struct { int a, b; }", "struct { int a; }", "its value.b is gone"),
    ("struct { int a, b; }", "struct { int a; long b; }", "its value.b was at byte 4, is at byte 8"),
    ("struct { int a; }", "struct { long a; }", "its value.a was s32, is s64"),
    ("struct { int a; char c; int b; }", "struct { int a; char c, d; int b; }",
     "its value.d is new, and not at the end of its value"),
    ("struct { int a[2], b; }", "struct { int a[3], b; }", "its value.a had 2 elements, has 3"),
    ("struct { struct { int a; } s; int b; }", "struct { struct { int a, c; } s; int b; }",
     "its value.s.c is new"),
    ("union { int a; }", "union { int a; long b; }", "its value.b is new"),
    ("long", "int", "its value was s64, is s32"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "why"), REFUSED)
def test_everything_else_is_refused_with_the_difference(
    lab: Lab, before: str, after: str, why: str
) -> None:
    text = "typedef {} t; MAP(m, HASH, 8, __u32, t);"
    old = lab.old(program("USE(m)", text.format(before)))
    new = program("USE(m)", text.format(after))
    with pytest.raises(CarryError) as caught:
        lab.plan(old, new)
    assert caught.value.differences == (("m", why),)
    assert caught.value.hint == "start anew: --reset m"
    done = lab.upgraded(old, new, reset=["m"])
    assert actions(done.plan) == {"m": "reset"}
    assert done.new.entries("m") == {}


OTHERS = [
    ("HASH, 8, int, int", "LRU_HASH, 8, int, int", "it is of type hash, not lru_hash"),
    ("HASH, 8, int, int", "HASH, 8, long, int", "its key had 4 bytes, has 8"),
    ("HASH, 8, int, int", "HASH, 8, float, int", "its key was s32, is float"),
    ("ARRAY, 8, int, int", "PERCPU_ARRAY, 8, int, int", "it is of type array, not percpu_array"),
]


@pytest.mark.parametrize(("before", "after", "why"), OTHERS)
def test_another_kind_of_map_is_refused(lab: Lab, before: str, after: str, why: str) -> None:
    old = lab.old(program("USE(m)", f"MAP(m, {before});"))
    with pytest.raises(CarryError) as caught:
        lab.plan(old, program("USE(m)", f"MAP(m, {after});"))
    assert caught.value.differences == (("m", why),)


FLAGGED = (
    'struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __uint(map_flags, FLAGS); __type(key, int); '
    '__type(value, int); } m SEC(".maps");'
)  # fmt: skip


def test_flags_that_matter_are_refused_and_others_move(lab: Lab) -> None:
    old = lab.old(program("USE(m)", FLAGGED.replace("FLAGS", "0")))
    old.put("m", 1, b"\7\0\0\0")
    done = lab.upgraded(old, program("USE(m)", FLAGGED.replace("FLAGS", "BPF_F_NO_PREALLOC")))
    assert actions(done.plan) == {"m": "entries"}
    assert done.new.entries("m") == {1: 7}
    with pytest.raises(CarryError, match="its flags rdonly_prog differ"):
        lab.plan(old, program("USE(m)", FLAGGED.replace("FLAGS", "BPF_F_RDONLY_PROG")))


# --- sizes ---


@pytest.mark.parametrize("kind", ["HASH", "LRU_HASH", "PERCPU_HASH"])
def test_a_smaller_map_takes_what_fits(lab: Lab, kind: str) -> None:
    old = lab.old(with_map(kind, OLD, 512))
    for key in range(300):
        old.put("m", key, key.to_bytes(16, "little"))
    done = lab.upgraded(old, with_map(kind, OLD, 300))
    assert lines(done.plan) == ["m: from 512 to 300 entries"]
    if kind != "LRU_HASH":  # which makes room in its own way
        assert sorted(done.new.entries("m")) == list(range(300))
    with pytest.raises(CarryError, match="it would have room for 299 entries, and holds 300"):
        lab.plan(old, with_map(kind, OLD, 299))


def test_a_shorter_array_takes_what_is_in_use(lab: Lab) -> None:
    old = lab.old(with_map("ARRAY", OLD, 64))
    old.put("m", 40, b"\1".ljust(16, b"\0"))
    assert actions(lab.plan(old, with_map("ARRAY", OLD, 41))) == {"m": "entries"}
    with pytest.raises(CarryError, match="it would have 40 elements, and element 40 is in use"):
        lab.plan(old, with_map("ARRAY", OLD, 40))


def test_a_size_that_was_set_is_kept(lab: Lab) -> None:
    spec = lab.data(with_map("HASH", OLD, 8))
    spec.maps["m"].max_entries = 4096  # --map-size m=4096
    old = lab.old(spec)
    planned = lab.plan(old, with_map("HASH", OLD, 16))
    assert actions(planned) == {"m": "carried"}
    done = lab.upgraded(old, with_map("HASH", NEW, 16))
    assert done.new.map("m").info.max_entries == 4096


def test_a_map_that_fills_up_meanwhile_stops_the_upgrade(lab: Lab) -> None:
    old = lab.old(with_map("HASH", OLD, 64))
    old.put("m", 1, bytes(16))
    planned = lab.plan(old, with_map("HASH", NEW, 1))
    old.put("m", 2, bytes(16))
    with Carrier(planned) as carrier:
        with pytest.raises(
            ObjectError, match="map m is full: more entries have come meanwhile than its 1"
        ):
            carrier.copy()
        number = carrier.maps["m"].info.id
    assert len(old.entries("m")) == 2
    eventually(lambda: not exists("MAP", number), "the new map stays")


# --- shared, and unknown ---


def test_a_shared_map_goes_on_or_is_refused(lab: Lab) -> None:
    old = lab.old(
        with_map("HASH", OLD, more="USE(x)").replace("struct v { ", "long x; struct v { ", 1)
    )
    new = with_map("HASH", NEW, more="USE(x); USE(y)").replace(
        "struct v { ", "char y; long x; struct v { ", 1
    )
    with pytest.raises(CarryError) as caught:
        lab.plan(old, new, shared=["m", ".bss"])
    assert [name for name, _ in caught.value.differences] == [".bss", "m"]
    assert all(why.startswith("others use it too") for _, why in caught.value.differences)


def test_without_types_sizes_decide(lab: Lab) -> None:
    text = 'struct { int type, key, value, max, flags; } m SEC("maps") = { BPF_MAP_TYPE_HASH, 4, SIZE, 8, 0 };'
    old = lab.old(lab.data(program("USE(m)", text.replace("SIZE", "8")), debug=False))
    old.put("m", 1, bytes(8))
    same = lab.data(program("USE(m); (void)ctx", text.replace("SIZE", "8")), debug=False)
    assert actions(lab.plan(old, same)) == {"m": "carried"}
    with pytest.raises(
        CarryError, match=r"its value had 8 bytes, has 16, and no types \(BTF\) say why"
    ):
        lab.plan(old, lab.data(program("USE(m)", text.replace("SIZE", "16")), debug=False))
