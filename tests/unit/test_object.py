"""What an object holds, which program is meant, and thousands of damaged objects."""

import random
import re
from pathlib import Path

import pytest

from netbpf.bpf.linker import link
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.sections import declared, fits
from netbpf.constants import Hook, MapType, ProgType
from netbpf.errors import ObjectError
from tests.support.compiling import CLANGS, compile_c, compile_object
from tests.support.mutation import damaged, spliced, truncations

ROOT = Path(__file__).parents[2]
HEAD = '#include "check.h"\n'


def c(text: str, *, debug: bool = True) -> ObjectSpec:
    return ObjectSpec(compile_c(HEAD + text, debug=debug), "dir/prog.o")


def function(section: str, name: str, context: str = "void") -> str:
    return f'SEC("{section}") int {name}({context} *ctx) {{ return GOOD; }}\n'


def choose(spec: ObjectSpec, hook: Hook, name: str | None = None) -> str:
    return spec.select(hook, name).name


# --- which program ---


@pytest.mark.parametrize(
    ("section", "kind", "direction"),
    [
        ("xdp", ProgType.XDP, ""),
        ("xdp.frags", ProgType.XDP, ""),
        ("xdp_prog", ProgType.XDP, ""),
        ("xdp/devmap", ProgType.XDP, ""),
        ("prog/xdp-main", ProgType.XDP, ""),
        ("XDP", ProgType.XDP, ""),
        ("tc", ProgType.SCHED_CLS, ""),
        ("classifier", ProgType.SCHED_CLS, ""),
        ("classifier/stats", ProgType.SCHED_CLS, ""),
        ("tc-ingress", ProgType.SCHED_CLS, "ingress"),
        ("tc_egress_main", ProgType.SCHED_CLS, "egress"),
        ("tcx/ingress", ProgType.SCHED_CLS, "ingress"),
        ("egress", ProgType.SCHED_CLS, "egress"),
        ("netkit/peer", ProgType.SCHED_CLS, ""),
        ("action", ProgType.SCHED_ACT, ""),
        ("?tc", ProgType.SCHED_CLS, ""),
        ("kprobe/tcp_v4_connect", ProgType.KPROBE, ""),
        ("kprobe.multi/tc*", ProgType.KPROBE, ""),
        ("tp/xdp/xdp_exception", ProgType.TRACEPOINT, ""),
        ("raw_tp/xdp_redirect_err", ProgType.RAW_TRACEPOINT, ""),
        ("fentry/xdp_do_redirect", ProgType.TRACING, ""),
        ("cgroup_skb/ingress", ProgType.CGROUP_SKB, ""),
        ("socket1", ProgType.SOCKET_FILTER, ""),
        ("tproxy", ProgType.UNSPEC, ""),
        ("iterations", ProgType.UNSPEC, ""),
        ("syscalls", ProgType.UNSPEC, ""),
        ("prog", ProgType.UNSPEC, ""),
        ("2/7", ProgType.UNSPEC, ""),
    ],
)
def test_what_a_section_name_says(section: str, kind: ProgType, direction: str) -> None:
    found = declared(section, None, None)
    assert (found.type, found.direction) == (kind, direction)


def test_the_type_of_the_context_says_more_than_an_odd_name() -> None:
    spec = c(
        function("prog", "a", "struct xdp_md") + function("from-container", "b", "struct __sk_buff")
    )
    assert choose(spec, Hook.XDP) == "a"
    assert choose(spec, Hook.TC_INGRESS) == "b"


def test_mixed_objects() -> None:
    spec = c(function("xdp", "x") + function("tc/ingress", "i") + function("tcx/egress", "e"))
    assert choose(spec, Hook.XDP) == "x"
    assert choose(spec, Hook.TC_INGRESS) == "i"
    assert choose(spec, Hook.TC_EGRESS) == "e"
    with pytest.raises(
        ObjectError, match="x is a xdp program; tc/egress runs tc programs"
    ) as caught:
        spec.select(Hook.TC_EGRESS, "x")
    assert caught.value.hint == "attach it with: netbpf attach xdp IFACE OBJECT"


def test_a_name_is_a_function_or_else_a_section() -> None:
    spec = c(function("xdp", "one") + function("xdp", "two") + function("xdp_three", "three"))
    assert choose(spec, Hook.XDP, "two") == "two"
    assert choose(spec, Hook.XDP, "xdp_three") == "three"
    with pytest.raises(ObjectError, match="holds 2 programs 'xdp'"):
        spec.select(Hook.XDP, "xdp")


def test_names_that_agree_in_their_first_15_characters() -> None:
    spec = c(function("xdp", "a_rather_long_name_1") + function("xdp", "a_rather_long_name_2"))
    assert choose(spec, Hook.XDP, "a_rather_long_name_2") == "a_rather_long_name_2"


def test_several_fit() -> None:
    spec = c(function("xdp", "one") + function("xdp_two", "two") + function("tc", "three"))
    with pytest.raises(ObjectError) as caught:
        spec.select(Hook.XDP)
    assert caught.value.message == (
        "prog.o holds 2 programs that fit xdp: one (section xdp), two (section xdp_two)"
    )
    assert caught.value.hint == "choose one with -n NAME"
    with pytest.raises(ObjectError, match="no program 'on'") as caught:
        spec.select(Hook.XDP, "on")
    assert caught.value.hint == "did you mean one?"


def test_none_fits() -> None:
    spec = c(function("kprobe/x", "probe") + function("xdp/devmap", "entry"))
    with pytest.raises(
        ObjectError, match=re.escape("no program for xdp: probe (kprobe), entry (xdp/devmap)")
    ):
        spec.select(Hook.XDP)
    with pytest.raises(ObjectError, match="holds no program") as caught:
        c("int nothing;").select(Hook.XDP)
    assert "SEC" in (caught.value.hint or "")


def test_what_others_jump_to_was_not_meant() -> None:
    spec = ObjectSpec(compile_object("tail_calls"))
    assert choose(spec, Hook.XDP) == "entry"


def test_static_functions_beside_a_program_are_no_programs() -> None:
    spec = ObjectSpec(compile_object("dialects"))
    assert "beside" not in [one.name for one in spec.programs]
    assert "beside" in [one.name for one in spec.functions]


def test_a_program_in_text_alone() -> None:
    spec = c("int only(void *ctx) { return GOOD; }")
    assert choose(spec, Hook.XDP) == "only"
    assert fits(spec.programs[0].declared, Hook.TC_EGRESS)


# --- maps ---

MAP = 'struct { %s } m SEC(".maps");\n' + function("xdp", "f")
GOOD_MAP = "__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, int); __type(value, long);"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("__uint(max_entries, 1);", "map m: its definition names no type"),
        (GOOD_MAP + "__uint(colour, 3);", "map m: unknown field 'colour'"),
        (GOOD_MAP + "__uint(key_size, 8);", "map m: key_size 8 contradicts its type of 4 bytes"),
        (
            "__uint(key_size, 8);" + GOOD_MAP,
            "map m: key_size 8 contradicts its key type of 4 bytes",
        ),
        ("int type;", "map m: field type of its definition is not a pointer"),
        ("int *type;", "map m: field type of its definition is no number"),
        ("__uint(type, 1); int key;", "map m: field key of its definition is not a pointer"),
        ("__uint(type, 1); struct nothing *key;", "has no size"),
        ("__uint(type, 1); int *(*key)(void);", "has no size"),
        (
            "__uint(type, 1); __type(value, char[0x1000000][0x1000000]);",
            "map m: its value type has 281474976710656 bytes",
        ),
        ("__uint(type, 12); __array(values, int);", "neither maps nor programs"),
        ("__uint(type, 12); int values;", "field values of its definition is not an array"),
        (
            "__uint(type, 12); __array(values, struct { __uint(type, 12); __array(values, int); });",
            "maps nest one level deep only",
        ),
        (
            "__uint(type, 12); __array(values, struct { __uint(type, 1); __uint(pinning, 1); });",
            "an inner map cannot be pinned",
        ),
    ],
)
def test_definitions_that_make_no_sense(fields: str, words: str) -> None:
    with pytest.raises(ObjectError) as caught:
        c(MAP % fields)
    assert caught.value.message.startswith("prog.o: ")
    assert words in caught.value.message


def test_a_static_map() -> None:
    with pytest.raises(ObjectError, match="map m is static") as caught:
        c(
            f'static struct {{ {GOOD_MAP} }} m SEC(".maps");'
            'SEC("xdp") int f(void *c) { int k = 0; return bpf_map_lookup_elem(&m, &k) != 0; }'
        )
    assert caught.value.hint == "remove 'static' from the map's definition"


def test_maps_without_types() -> None:
    with pytest.raises(ObjectError, match=r"has no \.BTF section") as caught:
        c(MAP % GOOD_MAP, debug=False)
    assert caught.value.hint == "compile with -g"


@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
def test_legacy_maps(clang: str) -> None:
    maps = ObjectSpec(compile_object("dialects", clang=clang)).maps
    legacy, tails, outer = maps["legacy"], maps["tails"], maps["outer"]
    assert (legacy.type, legacy.key_size, legacy.value_size, legacy.max_entries) == (1, 4, 8, 16)
    assert maps["legacy_static"].type == MapType.ARRAY
    assert tails.slots == {3: "tail"}
    assert outer.inner is maps["inner"]
    assert outer.slots == {2: "inner"}


def test_static_initialisers() -> None:
    maps = ObjectSpec(compile_object("nested_maps")).maps
    assert maps["by_index"].slots == {0: "inner_a", 5: "inner_b"}
    assert maps["by_key"].slots == {2: "inner_b"}
    assert maps["empty"].inner is not None
    assert maps["empty"].inner.key_size == 8
    assert ObjectSpec(compile_object("tail_calls")).maps["jumps"].slots == {1: "next"}


def test_data_of_every_kind() -> None:
    maps = ObjectSpec(compile_object("globals")).maps
    assert {name for name, one in maps.items() if one.read_only} >= {
        ".rodata", ".rodata.custom", ".rodata.str1.1",
    }  # fmt: skip
    assert {name for name, one in maps.items() if one.is_data and not one.read_only} == {
        ".data", ".data.custom", ".bss",
    }  # fmt: skip
    assert b"netbpf\0" in (maps[".rodata.str1.1"].initial or b"")


# --- damage ---

RICH = "core_types globals locks maps nested_maps subprograms tail_calls dialects externs".split()
SEED = 20250101


def corpus() -> list[bytes]:
    made = [compile_object(name, clang=clang) for name in RICH for clang in {CLANGS[0], CLANGS[-1]}]
    shipped = sorted((ROOT / "netbpf" / "_objects").glob("*.bpf.o"))
    assert shipped, "make bpf makes the shipped programs"
    return sorted(made) + [path.read_bytes() for path in shipped]


def survives(data: bytes) -> bool:
    """Whether every program of an object can be linked; anything but an ObjectError fails the test."""
    try:
        spec = ObjectSpec(data, "mutant.o")
        for program in spec.programs:
            link(spec, program.function)
    except ObjectError as error:
        message = error.message
    else:
        return True
    assert message.startswith("mutant.o: ")
    assert "\n" not in message
    return False


def test_objects_cut_off_anywhere() -> None:
    outcomes = [survives(cut) for data in corpus() for cut in truncations(data)]
    assert len(outcomes) > 5000
    assert outcomes.count(False) > len(outcomes) / 2


def test_thousands_of_damaged_objects() -> None:
    chance = random.Random(SEED)
    objects = corpus()
    outcomes = []
    for number in range(6000):
        data = chance.choice(objects)
        other = chance.choice(objects)
        mutant = damaged(data, chance) if number % 4 else spliced(data, other, chance)
        outcomes.append(survives(mutant))
    # Both happen often: damage that is seen, and damage that does no harm.
    assert min(outcomes.count(True), outcomes.count(False)) > 1000
