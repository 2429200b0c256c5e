"""What both programs do between the copy and the end of the old one: nothing is lost, and nothing counts twice."""

import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.map import possible_cpus
from netbpf.carry import Report, carrier, waiting
from netbpf.constants import Hook
from tests.upgrade.lab import PACKET, Lab, Running, Upgrade, program

COUNT = "__sync_fetch_and_add"


def merged(report: Report, name: str) -> tuple[int, int, int, tuple[str, ...]]:
    (one,) = (one for one in report.merged if one.name == name)
    return one.values, one.inserted, one.removed, one.notes


# --- variables ---


def test_gains_of_both_are_added(lab: Lab) -> None:
    old = lab.old(
        program(f"{COUNT}(&a, 1); {COUNT}(&b, 2); {COUNT}(&c[1], 3)", "__u32 a; __u64 b, c[2];")
    )
    old.run(10)
    done = lab.upgraded(old, program(
        f"{COUNT}(&b, 20); {COUNT}(&a, 10); {COUNT}(&c[1], 30)", "char x; __u64 c[3], b; __u64 a = 5;",
    ))  # fmt: skip
    old.run(5)
    done.new.run(3)
    report = done.finish()
    assert report.waited
    assert done.new.variables() == {"x": 0, "a": 15 + 30, "b": 30 + 60, "c": [0, 45 + 90, 0]}
    assert merged(report, ".bss") == (2, 0, 0, ())
    assert merged(report, ".data") == (1, 0, 0, ())


def test_a_gain_of_one_is_taken_as_it_is(lab: Lab) -> None:
    text = (
        "{} a; {} b; {} c; enum e {{ X, Y, Z }} mode; struct {{ __u8 f : 3, g : 5; }} bits; char name[12]; "
        "__u8 small;"
    )
    body = "a++; b--; mode = Z; bits.f = 5; name[0] = 'n'; name[11] = 'x'; small++; c = 7"
    old = lab.old(program(body, text.format("__u64", "int", "__u64")))
    uses = "USE(first); USE(a); USE(b); USE(mode); bits.g = 9; USE(name); USE(small); USE(c)"
    new = program(uses, "char first;" + text.format("__u64", "long", "__u32"))
    done = lab.upgraded(old, new)
    done.new.run()
    old.run(2)
    report = done.finish()
    assert done.new.variables() == {
        "first": 0, "a": 2, "b": -2, "c": 7, "mode": "Z", "bits": {"f": 5, "g": 9},
        "name": "n" + "\\x00" * 10 + "x", "small": 2,
    }  # fmt: skip
    assert report.notes == ()


def test_where_both_wrote_a_value_the_new_ones_stays_and_it_is_said(lab: Lab) -> None:
    text = "enum e { X, Y, Z } mode; char name[8]; int down; __u8 small[2];"
    old = lab.old(program("mode = Y; name[0] = 'o'; down -= 2; small[1]++", text))
    done = lab.upgraded(
        old,
        program("mode = Z; name[0] = 'n'; down -= 3; small[1] += 2", text.replace("[8]", "[9]")),
    )
    old.run()
    done.new.run()
    report = done.finish()
    assert done.new.variables() == {"mode": "Z", "name": "n", "down": -3, "small": [0, 2]}
    assert report.notes == (
        ".bss: mode, name, down and 1 more changed in both programs at the same time; what the new one wrote stays",
    )


def test_a_counter_that_wraps_counts_on(lab: Lab) -> None:
    old = lab.old(program(f"{COUNT}(&a, 4); {COUNT}(&b, 4)", "__u32 a, b;"))
    old.write(".bss", b"\xfe\xff\xff\xff" * 2)
    done = lab.upgraded(
        old, program(f"{COUNT}(&a, 1); {COUNT}(&b, 1)", "char c; __u32 a; __u64 b;")
    )
    old.run()
    done.new.run()
    done.finish()
    assert done.new.variables() == {"c": 0, "a": 3, "b": (1 << 32) + 3}


def test_the_later_of_two_times_stands(lab: Lab) -> None:
    text = "__u64 mono, boot, count;"
    body = "mono = bpf_ktime_get_ns(); boot = bpf_ktime_get_boot_ns(); count += 1000"
    old = lab.old(program(body, text))
    old.run()
    done = lab.upgraded(old, program(body, "char c;" + text))
    old.run()
    done.new.run()
    later = done.new.variables()
    report = done.finish()
    assert done.new.variables() == later | {"count": 3000}
    assert report.notes == ()
    # And the old program's, where that ran last.
    again = lab.upgraded(done.new, program(body, "short s;" + text))
    again.new.run()
    done.new.run()
    last = done.new.variables()
    again.finish()
    times = {key: last[key] for key in ("mono", "boot")}
    assert again.new.variables() == times | {"count": 5000, "s": 0}


def test_a_narrower_type_is_not_overrun(lab: Lab) -> None:
    old = lab.old(program(f"{COUNT}(&a, 1)", "__u64 a;"))
    old.write(".bss", b"\xff\xff\xff\xff\0\0\0\0")
    done = lab.upgraded(old, program("USE(a)", "__u32 a;"))
    old.run()
    report = done.finish()
    assert done.new.variables() == {"a": 0xFFFFFFFF}
    assert report.notes == (".bss: a has outgrown the new type meanwhile; what was copied stays",)


def test_a_large_array_with_few_changes(lab: Lab) -> None:
    old = lab.old(
        program(
            f"{COUNT}(&a[7], 1); {COUNT}(&a[59999], 1); t[5000] = 'x'",
            "__u64 a[60000]; char t[9000];",
        )
    )
    done = lab.upgraded(
        old, program(f"{COUNT}(&a[59999], 1); USE(t)", "char c; __u64 a[60001]; char t[9001];")
    )
    old.run(3)
    done.new.run(2)
    started = time.thread_time()
    report = done.finish()
    assert time.thread_time() - started < 5
    found = done.new.variables()
    assert (found["a"][7], found["a"][59999], sum(found["a"])) == (3, 5, 8)
    assert found["t"] == "\\x00" * 5000 + "x"
    assert merged(report, ".bss")[3] == ()


# --- entries ---

BEFORE = "struct v { __u64 n; __u32 s; };"
AFTER = "struct v { __u64 n; __u32 s; __u64 fresh; };"
KINDS = ["HASH", "LRU_HASH", "ARRAY", "PERCPU_HASH", "PERCPU_ARRAY", "LRU_PERCPU_HASH"]


def counting(kind: str, value: str, *, entries: int = 64, by: int = 1, section: str = "xdp") -> str:
    """Counts at the key that its packet begins with."""
    load = "bpf_xdp_load_bytes" if section == "xdp" else "bpf_skb_load_bytes"
    return program(
        f"""__u32 k = 0; {load}(ctx, 0, &k, 4);
        struct v *v = bpf_map_lookup_elem(&m, &k);
        if (v) {{ {COUNT}(&v->n, {by}); v->s += {by}; }}
        else {{ struct v one = {{ {by}, {by} }}; bpf_map_update_elem(&m, &k, &one, BPF_ANY); }}""",
        f"{value} MAP(m, {kind}, {entries}, __u32, struct v);",
        section=section,
    )


def at(running: Running, key: int, times: int = 1) -> None:
    running.run(times, key.to_bytes(4, "little") + bytes(60))


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This thread stays where it is: the values of each CPU are merged, and counted, by themselves."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_entries_that_both_counted_in(lab: Lab, one_cpu: None, kind: str) -> None:
    old = lab.old(counting(kind, BEFORE))
    for key in range(40):
        at(old, key, key + 1)
    done = lab.upgraded(old, counting(kind, AFTER, by=100))
    for key in range(0, 50, 2):
        at(old, key, 3)
    for key in range(0, 60, 3):
        at(done.new, key, 2)
    report = done.finish()
    found = done.new.entries("m")
    for key in range(60):
        count = (key + 1) * (key < 40) + 3 * (key < 50 and key % 2 == 0) + 200 * (key % 3 == 0)
        if count:
            assert (found[key]["n"], found[key]["s"], found[key]["fresh"]) == (count, count, 0), key
    assert report.notes == ()
    if "ARRAY" not in kind:
        values, inserted, removed, _ = merged(report, "m")
        # 40, 44, 46 are the old program's alone; 42 and 48 both made.
        assert (inserted, removed) == (3, 0)
        assert values == 2 * (20 + 2)


@pytest.mark.parametrize("kind", ["HASH", "PERCPU_HASH"])
def test_entries_that_go_meanwhile(lab: Lab, kind: str) -> None:
    old = lab.old(counting(kind, BEFORE))
    for key in range(4):
        at(old, key)
    done = lab.upgraded(old, counting(kind, AFTER))
    for key in (0, 1):
        old.map("m").delete(key.to_bytes(4, "little"))
    at(done.new, 1)
    at(old, 2)
    done.new.map("m").delete((2).to_bytes(4, "little"))
    report = done.finish()
    # 0 went; 1 is in use by the new program; 2 the new one has deleted itself.
    assert {key: one["n"] for key, one in done.new.entries("m").items()} == {1: 2, 3: 1}
    assert merged(report, "m")[1:3] == (0, 1)


def test_an_entry_that_is_written_while_it_goes_stays(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lab.old(counting("HASH", BEFORE))
    at(old, 0)
    done = lab.upgraded(old, counting("HASH", AFTER))
    old.map("m").delete(bytes(4))
    take = sys_bpf.map_lookup_and_delete

    def later(fd: int, key: bytes, size: int, flags: int = 0) -> bytes | None:
        at(done.new, 0)
        return take(fd, key, size, flags)

    monkeypatch.setattr(sys_bpf, "map_lookup_and_delete", later)
    report = done.finish()
    assert done.new.entries("m")[0]["n"] == 2
    assert merged(report, "m") == (0, 0, 0, ())


def test_what_an_lru_map_has_put_out_is_not_deleted(lab: Lab) -> None:
    old = lab.old(counting("LRU_HASH", BEFORE))
    at(old, 1)
    done = lab.upgraded(old, counting("LRU_HASH", AFTER))
    old.map("m").delete((1).to_bytes(4, "little"))
    done.finish()
    assert set(done.new.entries("m")) == {1}


def test_entries_for_which_there_is_no_room_are_told(lab: Lab) -> None:
    old = lab.old(counting("HASH", BEFORE, entries=8))
    done = lab.upgraded(old, counting("HASH", AFTER, entries=4))
    for key in range(7):
        at(old, key)
    report = done.finish()
    assert len(done.new.entries("m")) == 4
    assert report.notes == ("map m is full: 3 entries made meanwhile are lost",)


LPM = (
    'struct k {{ __u32 len; __u8 a[4]; }}; struct {{ __uint(type, BPF_MAP_TYPE_LPM_TRIE); __uint(max_entries, 99); '
    '__uint(map_flags, 1); __type(key, struct k); __type(value, struct v); }} m SEC(".maps"); {}'
)  # fmt: skip


def test_prefixes(lab: Lab) -> None:
    body = "struct k k = {{32, {{10, 0, 0, 1}}}}; struct v *v = bpf_map_lookup_elem(&m, &k); if (v) v->n += {}"
    old = lab.old(program(body.format(1), BEFORE + LPM.format("")))
    for length in (8, 9, 16, 24):
        key = length.to_bytes(4, "little") + bytes([10, 0, 0, 0])
        old.map("m").update(key, length.to_bytes(8, "little") + bytes(8))
    old.run()
    done = lab.upgraded(old, program(body.format(10), AFTER + LPM.format("")))
    old.run(2)
    done.new.run(3)
    old.map("m").update((25).to_bytes(4, "little") + bytes([10, 0, 0, 0]), bytes(16))
    for length in (8, 9):
        old.map("m").delete(length.to_bytes(4, "little") + bytes([10, 0, 0, 0]))
    # The new program has written to it: so it stays. (A trie cannot say what was in what it deletes.)
    new = done.new.map("m")
    new.update((9).to_bytes(4, "little") + bytes([10, 0, 0, 0]), bytes(new.info.value_size))
    done.finish()
    assert {key: one["n"] for key, one in done.new.entries("m").items()} == {
        "10.0.0.0/9": 0, "10.0.0.0/16": 16, "10.0.0.0/24": 24 + 1 + 2 + 30, "10.0.0.0/25": 0,
    }  # fmt: skip


# --- under load ---

ROUNDS = 200
TC = Hook.TC_INGRESS  # test runs of XDP programs wait at both ends


def running(old: Running, done: Upgrade, runs: int = 500) -> tuple[Report, int]:
    """Both programs on every CPU; the old one ends, as after a swap, and ``finish`` works while the new one goes on.

    Also returns how often programs ran in all.
    """
    old_ran, stop, ran = threading.Event(), threading.Event(), [0, 0, 0]

    def run_old(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        for _ in range(ROUNDS):
            sys_bpf.prog_test_run(old.fd, PACKET, repeat=runs)
            ran[2] += runs
        old_ran.set()

    def run_new(number: int, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        while not stop.is_set():
            sys_bpf.prog_test_run(done.new.fd, PACKET, repeat=runs)
            ran[number] += runs

    cpus = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    threads = [
        threading.Thread(target=run_old, args=(cpus[0],)),
        *(threading.Thread(target=run_new, args=one) for one in enumerate(cpus)),
    ]
    for one in threads:
        one.start()
    old_ran.wait()
    before = sum(ran)
    report = done.finish()
    during = sum(ran) - before
    stop.set()
    for one in threads:
        one.join()
    assert during, "the new program has to run while the counts are merged"
    return report, sum(ran)


@pytest.mark.parametrize("widened", [False, True])
def test_atomic_counters_are_exact_while_both_run(lab: Lab, widened: bool) -> None:
    text = program(f"{COUNT}(&a, 1); {COUNT}(&c[3], 1)", "__u32 a, c[4];", section="tc")
    old = lab.old(text, hook=TC)
    old.run(100)
    wide = "__u64" if widened else "__u32"
    text = program(f"{COUNT}(&c[3], 1); {COUNT}(&a, 1)", f"char x; {wide} c[5], a;", section="tc")
    done = lab.upgraded(old, text)
    _, total = running(old, done)
    found = done.new.variables()
    assert (found["a"], found["c"][3]) == (100 + total, 100 + total)


def test_thousands_of_counters_that_never_stand_still(lab: Lab) -> None:
    """Were they not added atomically, some of them would lose a count."""
    body = f"for (int i = 0; i < 3000; i++) {COUNT}(&a[i], 1)"
    old = lab.old(program(body, "__u32 a[3000];", section="tc"), hook=TC)
    done = lab.upgraded(old, program(body, "char c; __u32 a[3001];", section="tc"))
    _, total = running(old, done, runs=5)
    assert done.new.variables()["a"] == [total] * 3000 + [0]


@pytest.mark.parametrize("kind", KINDS)
def test_counters_in_entries_are_exact_while_both_run(lab: Lab, kind: str) -> None:
    """Per-CPU ones without atomic additions, as programs write them."""
    once = (lambda text: text.replace(f"{COUNT}(&v->n, 1)", "v->n++")) if "PERCPU" in kind else str
    old = lab.old(once(counting(kind, BEFORE, section="tc")), hook=TC)
    for key in range(4):
        at(old, key, 50)
    done = lab.upgraded(old, once(counting(kind, AFTER, section="tc")))
    report, total = running(old, done)
    assert done.new.entries("m")[0]["n"] == 50 + total
    assert report.notes == ()


def test_values_with_a_lock_are_merged_under_it(lab: Lab) -> None:
    text = "struct v {{ struct bpf_spin_lock lock; __u32 s; __u64 n; {} }}; MAP(m, {}, 8, __u32, struct v);"
    body = """__u32 k = 1; struct v *v = bpf_map_lookup_elem(&m, &k);
    if (v) { bpf_spin_lock(&v->lock); v->n += 1; v->s += 1; bpf_spin_unlock(&v->lock); }"""
    for kind in ("HASH", "ARRAY"):
        old = lab.old(program(body, text.format("", kind), section="tc"), hook=TC)
        old.map("m").update((1).to_bytes(4, "little"), bytes(16))
        old.run(5)
        done = lab.upgraded(old, program(body, text.format("__u64 fresh;", kind), section="tc"))
        _, total = running(old, done)
        assert done.new.entries("m")[1] == {
            "lock": {"val": 0}, "s": 5 + total, "n": 5 + total, "fresh": 0,
        }  # fmt: skip


def test_each_cpus_gain_goes_to_that_cpu(lab: Lab) -> None:
    old = lab.old(counting("PERCPU_ARRAY", BEFORE))
    done = lab.upgraded(old, counting("PERCPU_ARRAY", AFTER))
    allowed = os.sched_getaffinity(0)
    for number, cpu in enumerate(sorted(allowed)):
        os.sched_setaffinity(0, {cpu})
        at(old, 0, number + 1)
        at(done.new, 0, 10)
    os.sched_setaffinity(0, allowed)
    done.finish()
    assert os.sched_getaffinity(0) == allowed
    opened = done.new.open("m")
    parts = opened.parts(done.new.map("m").lookup(bytes(4)) or b"")
    assert len(parts) == possible_cpus()
    for number, cpu in enumerate(sorted(allowed)):
        part = parts[cpu]
        assert isinstance(part, dict)
        assert part["n"] == number + 11


def test_a_cpu_that_may_not_be_used_is_served_from_another(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lab.old(counting("PERCPU_HASH", BEFORE))
    at(old, 0)
    done = lab.upgraded(old, counting("PERCPU_HASH", AFTER))
    at(old, 0, 5)
    at(done.new, 0, 7)

    def refuse(pid: int, cpus: Sequence[int]) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    done.finish()
    assert done.new.entries("m")[0]["n"] == 13


# --- the wait ---


def test_finish_waits_for_a_program_that_is_running(lab: Lab) -> None:
    """A program that takes long, and counts at its end."""
    slow = "static int step(__u32 i, void *c) { return 0; }"
    body = f"for (int i = 0; i < 40; i++) bpf_loop(1 << 23, step, 0, 0); {COUNT}(&ended, 1)"

    def seen(running: Running) -> tuple[int, int]:
        begun, ended = struct.unpack("<QQ", running.raw(".bss"))
        return begun, ended

    for wait in (waiting.wait_for_programs, waiting.replace_inner_map):
        old = lab.old(program(f"{COUNT}(&begun, 1); {body}", f"{slow} __u64 begun, ended;"))
        caught = False
        for number in range(100):
            thread = threading.Thread(target=old.run)
            thread.start()
            while seen(old)[0] == number:
                os.sched_yield()
            # On a busy machine it may be over before this thread gets to look.
            caught = seen(old)[1] == number
            if caught:
                assert wait()
                assert seen(old) == (number + 1, number + 1)
            thread.join()
            if caught:
                break
        assert caught


def test_without_a_way_to_wait_the_report_says_so(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lab.old(program("USE(a)", "long a;"))
    done = lab.upgraded(old, program("USE(a)", "long a, b;").replace("USE(a)", "USE(a); USE(b)"))
    monkeypatch.setattr(carrier, "wait_for_programs", lambda: False)
    assert not done.finish().waited


# --- TC, and odd layouts ---


def test_tc_programs(lab: Lab) -> None:
    old = lab.old(program(f"{COUNT}(&a, 1)", "__u32 a;", section="tc"), hook=Hook.TC_INGRESS)
    old.run(4)
    done = lab.upgraded(old, program(f"{COUNT}(&a, 1)", "__u64 a;", section="tc"))
    old.run(2)
    done.new.run(3)
    done.finish()
    assert done.new.variables() == {"a": 9}


def test_packed_structs(lab: Lab) -> None:
    packed = "struct {{ char c; {} n; __u32 m; }} __attribute__((packed)) s;"
    old = lab.old(program("s.n += 1; s.m += 2", packed.format("__u32")))
    done = lab.upgraded(old, program("s.n += 10; s.m += 20", packed.format("__u64")))
    old.run(2)
    done.new.run()
    done.finish()
    assert done.new.variables()["s"] == {"c": 0, "n": 12, "m": 24}
    assert struct.calcsize("<cQI") == done.new.map(".bss").info.value_size
