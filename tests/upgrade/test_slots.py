"""Prog arrays and maps of maps: what is in them belongs to an object."""

import pytest

from netbpf.carry import CarryError
from netbpf.constants import Hook
from tests.upgrade.lab import Lab, Running, actions, items, lines

JUMPS = """
{more}
struct {{ __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, {size}); __uint(key_size, 4);
  __array(values, int(void *)); }} jumps SEC(".maps") {values};
SEC("xdp") int prog(struct xdp_md *ctx) {{ bpf_tail_call(ctx, &jumps, 1); return 1; }}
SEC("xdp") int one(struct xdp_md *ctx) {{ {one}; return 2; }}
SEC("xdp") int two(struct xdp_md *ctx) {{ return 3; }}
"""
STATIC = "= { .values = { [1] = (void *)&one } }"


def jumping(values: str = "", one: str = "", more: str = "", size: int = 4) -> str:
    declared = "int one(struct xdp_md *ctx); int two(struct xdp_md *ctx);" + more
    return JUMPS.format(values=values, one=one, more=declared, size=size)


def program_at(running: Running, index: int) -> int:
    found = running.map("jumps").lookup(index.to_bytes(4, "little"))
    return int.from_bytes(found or b"", "little")


def test_a_prog_array_has_the_new_programs(lab: Lab) -> None:
    old = lab.old(jumping(STATIC, "USE(n); n++", "long n;"), name="prog")
    old.run(3)
    planned = lab.plan(old, jumping(STATIC, "USE(n); n++; USE(c)", "char c; long n;"), name="prog")
    # The section is that of a program behind the array.
    assert actions(planned) == {".bss": "variables", "jumps": "new"}
    assert "jumps is filled with the new object's programs" in lines(planned)


def test_an_entry_that_was_set_is_set_again(lab: Lab) -> None:
    spec = lab.data(jumping())
    spec.maps["jumps"].slots[1] = "two"  # --tail-call jumps[1]=two
    old = lab.old(spec, name="prog")
    planned = lab.plan(old, jumping(), name="prog")
    assert planned.spec.maps["jumps"].slots == {1: "two"}
    assert "jumps[1] = two: setting kept" in lines(planned)
    new = lab.old(planned.spec, name="prog")
    assert program_at(new, 1) not in (0, program_at(old, 1))


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (jumping().replace("int two", "int three"), "jumps[1] holds two, which the new object does not have"),
        (jumping(size=1), "jumps[1] is behind the end of the new object's array"),
    ],
)  # fmt: skip
def test_an_entry_that_was_set_never_goes_silently(lab: Lab, new: str, why: str) -> None:
    spec = lab.data(jumping())
    spec.maps["jumps"].slots[1] = "two"
    old = lab.old(spec, name="prog")
    with pytest.raises(CarryError) as caught:
        lab.plan(old, new, name="prog")
    assert caught.value.differences == (("jumps", why),)
    assert actions(lab.plan(old, new, name="prog", reset=["jumps"])) == {"jumps": "reset"}


def test_somebody_elses_program_never_goes_silently(lab: Lab) -> None:
    old = lab.old(jumping(STATIC), name="prog")
    other = lab.old('SEC("xdp") int foreign(struct xdp_md *ctx) { return 2; }')
    old.map("jumps").update((3).to_bytes(4, "little"), other.fd.to_bytes(4, "little"))
    with pytest.raises(
        CarryError, match=r"jumps\[3\] holds program \d+ \(foreign\), which is none of its object"
    ):
        lab.plan(old, jumping(STATIC), name="prog")
    assert actions(lab.plan(old, jumping(STATIC), name="prog", shared=["jumps"])) == {
        "jumps": "carried"
    }


# --- maps of maps ---

OUTER = """
struct inner {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, {size}); __type(key, __u32); __type(value, {value}); }};
struct inner a SEC(".maps"), b SEC(".maps");
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4); __type(key, __u32);
  __array(values, struct inner); }} outer SEC(".maps") = {{ .values = {{ {values} }} }};
SEC("xdp") int prog(struct xdp_md *ctx) {{ __u32 k = 0; return bpf_map_lookup_elem(&outer, &k) ? 2 : 1; }}
"""  # noqa: E501


def nested(
    values: str = "[0] = &a, [1] = &b", value: str = "struct { long n; }", size: int = 8
) -> str:
    return OUTER.format(values=values, value=value, size=size)


def test_a_map_of_maps_goes_on_with_the_maps_in_it(lab: Lab) -> None:
    old = lab.old(nested())
    old.put("a", 1, b"\5" + bytes(7))
    done = lab.upgraded(old, nested().replace("? 2 : 1", "? 2 : 0"))
    assert actions(done.plan) == {"a": "carried", "b": "carried", "outer": "carried"}
    assert done.plan.extra == ("a", "b")
    # The next upgrade still knows their names.
    assert {name: one.info.id for name, one in done.new.loaded.maps.items()} == {
        name: one.info.id for name, one in old.loaded.maps.items()
    }


def test_other_initialisers_fill_it_anew(lab: Lab) -> None:
    old = lab.old(nested())
    old.put("a", 1, b"\5" + bytes(7))
    done = lab.upgraded(old, nested("[2] = &a, [1] = &b"))
    assert actions(done.plan) == {"a": "carried", "b": "carried", "outer": "new"}
    found = done.new.map("outer").lookup((2).to_bytes(4, "little"))
    assert int.from_bytes(found or b"", "little") == old.map("a").info.id


def test_what_was_put_in_at_run_time_is_not_lost(lab: Lab) -> None:
    old = lab.old(nested())
    other = lab.old(nested()).map("a")
    old.map("outer").update((3).to_bytes(4, "little"), other.fd.fileno().to_bytes(4, "little"))
    assert actions(lab.plan(old, nested()))["outer"] == "carried"
    with pytest.raises(
        CarryError, match=rf"outer\[3\] holds map {other.info.id}, which would be lost"
    ):
        lab.plan(old, nested("[2] = &a"))


def test_other_maps_within_are_refused(lab: Lab) -> None:
    old = lab.old(nested())
    with pytest.raises(CarryError) as caught:
        lab.plan(old, nested(size=16))
    assert caught.value.differences == (("outer", "the maps in it had max_entries 8, have 16"),)
    with pytest.raises(CarryError, match=r"the value of the maps in it\.n was s64, is u64"):
        lab.plan(old, nested(value="struct { unsigned long n; }"))


def test_maps_within_that_are_reset_come_anew(lab: Lab) -> None:
    old = lab.old(nested())
    old.put("a", 1, b"\5" + bytes(7))
    done = lab.upgraded(old, nested(size=16), reset=["outer"])
    assert items(done.plan)["outer"].action == "reset"
    assert items(done.plan)["a"].action == "entries"
    assert done.new.entries("a") == {1: {"n": 5}}
    found = done.new.map("outer").lookup(bytes(4))
    assert int.from_bytes(found or b"", "little") == done.new.map("a").info.id


def test_tc_prog_arrays(lab: Lab) -> None:
    text = jumping(STATIC).replace('"xdp"', '"tc"').replace("xdp_md", "__sk_buff")
    old = lab.old(text, name="prog", hook=Hook.TC_EGRESS)
    assert actions(lab.plan(old, text, name="prog")) == {"jumps": "new"}
