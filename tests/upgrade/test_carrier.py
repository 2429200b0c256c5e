"""The steps of an upgrade in their order, and what is left when one of them is not taken."""

import os

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.object import ObjectSpec
from netbpf.carry import Carrier, CarryError
from netbpf.carry.adder import on_cpu
from netbpf.errors import KernelError, NetbpfError, ObjectError
from tests.support.compiling import CLANGS
from tests.support.waiting import eventually, exists
from tests.upgrade.lab import Lab, actions, program

GROWN = "struct v {{ long n; {} }}; MAP(m, {}, 64, __u32, struct v); long x;{}"


def grown(kind: str = "HASH", more: str = "", tail: str = "") -> str:
    return program("USE(m); USE(x)" + ("; USE(y)" if tail else ""), GROWN.format(more, kind, tail))


def test_without_a_swap_nothing_is_left_and_nothing_has_changed(lab: Lab) -> None:
    old = lab.old(grown())
    old.put("m", 1, b"\7".ljust(8, b"\0"))
    old.write(".bss", b"\5".ljust(8, b"\0"))
    before = set(os.listdir("/proc/self/fd"))
    with Carrier(lab.plan(old, grown(more="long k;", tail="char y;"))) as carrier:
        assert set(carrier.maps) == {"m", ".bss"}
        carrier.copy()
        numbers = [one.info.id for one in carrier.maps.values()]
    assert set(os.listdir("/proc/self/fd")) == before
    eventually(lambda: not any(exists("MAP", one) for one in numbers), "a new map stays")
    assert old.entries("m") == {1: {"n": 7}}
    assert old.variables() == {"x": 5}


def test_a_plan_makes_and_changes_nothing(lab: Lab) -> None:
    old = lab.old(grown())
    before = set(os.listdir("/proc/self/fd"))
    lab.plan(old, grown(more="long k;", tail="char y;"))
    assert set(os.listdir("/proc/self/fd")) == before


def test_the_steps_have_an_order(lab: Lab) -> None:
    old = lab.old(grown())
    with Carrier(lab.plan(old, grown(more="long k;"))) as carrier:
        with pytest.raises(ObjectError, match="have not been filled"):
            carrier.finish()
        carrier.copy()
        with pytest.raises(ObjectError, match="have been filled already"):
            carrier.copy()


def test_maps_that_go_on_need_no_waiting(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from netbpf.carry import carrier as module

    old = lab.old(grown())
    monkeypatch.setattr(module, "wait_for_programs", lambda: pytest.fail("nothing to wait for"))
    with Carrier(lab.plan(old, grown())) as carrier:
        carrier.copy()
        assert carrier.finish().as_dict() == {"waited": True, "merged": []}
        assert carrier.maps["m"].info.id == old.map("m").info.id


def test_a_kernel_that_fails_leaves_no_descriptor(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = lab.old(grown())
    planned = lab.plan(old, grown(more="long k;", tail="char y;"))
    before = set(os.listdir("/proc/self/fd"))
    made = sys_bpf.map_create

    def fail(kind: int, *args: int, **options: object) -> object:
        if options["name"] == "m":
            raise KernelError("BPF_MAP_CREATE", 12)
        return made(kind, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sys_bpf, "map_create", fail)
    with pytest.raises(NetbpfError, match="no memory for map m"):
        Carrier(planned)
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_variable_that_outgrows_its_new_type_before_the_copy_stops_the_upgrade(lab: Lab) -> None:
    old = lab.old(program("USE(x)", "int x;"))
    planned = lab.plan(old, program("USE(x)", "__u32 x;").replace("__u32", "unsigned long"))
    old.write(".bss", b"\xff\xff\xff\xff")
    with Carrier(planned) as carrier, pytest.raises(ObjectError, match="x has become -1 meanwhile"):
        carrier.copy()


def test_a_lock_among_variables(lab: Lab) -> None:
    text = '{} struct bpf_spin_lock lock SEC(".data.a"); long n SEC(".data.a"); {}'
    body = "bpf_spin_lock(&lock); n += {}; bpf_spin_unlock(&lock); {}"
    old = lab.old(program(body.format(1, ""), text.format("", "")))
    old.run(3)
    done = lab.upgraded(
        old, program(body.format(10, "USE(y)"), text.format("", 'char y SEC(".data.a");'))
    )
    assert actions(done.plan) == {".data.a": "variables"}
    old.run(2)
    done.new.run(4)
    done.finish()
    assert done.new.variables() == {"lock": {"val": 0}, "n": 45, "y": 0}


def test_a_pointer_into_the_kernel_stays_where_it_is(lab: Lab) -> None:
    text = """
    struct task_struct {{}};
    struct v {{ struct task_struct __attribute__((btf_type_tag("kptr_untrusted"))) *p; {} }};
    MAP(m, ARRAY, 4, __u32, struct v);"""

    def spec(more: str) -> ObjectSpec:
        return lab.data(program("USE(m)", text.format(more)), clang=CLANGS[-1])

    old = lab.old(spec(""))
    assert actions(lab.plan(old, spec(""))) == {"m": "carried"}
    with pytest.raises(CarryError, match=r"its value\.p is a pointer to an object of the kernel"):
        lab.plan(old, spec("long more;"))


@pytest.mark.parametrize("kind", ["LRU_HASH", "LRU_PERCPU_HASH"])
@pytest.mark.parametrize("flags", ["0", "BPF_F_NO_COMMON_LRU"])
def test_a_full_lru_map_loses_nothing(lab: Lab, kind: str, flags: str) -> None:
    text = (
        "struct v {{ long n; {} }}; struct {{ __uint(type, BPF_MAP_TYPE_{}); __uint(max_entries, 2048); "
        '__uint(map_flags, {}); __type(key, __u32); __type(value, struct v); }} m SEC(".maps");'
    )
    old = lab.old(program("USE(m)", text.format("", kind, flags)))
    cpus = sorted(os.sched_getaffinity(0))
    for number, cpu in enumerate(cpus):  # more than one CPU has room for
        with on_cpu(cpu):
            for key in range(number, 1500, len(cpus)):
                old.put("m", key, key.to_bytes(8, "little"))
    there = old.entries("m")
    assert len(there) == 1500
    done = lab.upgraded(old, program("USE(m)", text.format("long k;", kind, flags)))
    found = done.new.entries("m")
    assert {key: one["n"] for key, one in found.items()} == {
        key: one["n"] for key, one in there.items()
    }
