"""What cannot be linked: the error names the member, says why, and what would help; nothing is left behind."""

import re
from collections.abc import Callable, Iterator

import pytest

from netbpf.bpf.chain import Part, plan, types
from netbpf.bpf.chain.link import Options, link
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import NetbpfError, NotSupportedError, ObjectError, VerifierError
from netbpf.explain import explain
from tests.bpf.chain_lab import HEAD, Bench, returning
from tests.bpf.test_chain_members import FUNCTIONS, TAIL
from tests.support.compiling import compile_c
from tests.support.descriptors import nothing_left_open


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


def refused(bench: Bench, kind: type[NetbpfError], words: str, *parts: Part) -> NetbpfError:
    """The error of a chain; it names the member called "culprit" in one line."""
    with nothing_left_open(), pytest.raises(kind) as caught:
        bench.build(*parts)
    error = caught.value
    assert type(error) is kind
    assert error.member == "culprit"
    assert "culprit" in error.message
    assert re.search(words, error.message), error.message
    assert "\n" not in error.message
    assert error.hint
    # What is refused changes nothing: the others still make a chain.
    others = [one for one in parts if one.name != "culprit"]
    if others:
        bench.build(*others).close()
    return error


def around(bench: Bench, culprit: Part) -> tuple[Part, ...]:
    return bench.member(returning(2)), bench.member(FUNCTIONS), culprit, bench.member(returning(2))


READS = """
__u64 count;
static %s int reads(struct xdp_md *ctx)
{
	char *at = (void *)(long)ctx->data;
	return at[3];
}
SEC("xdp") int careless(struct xdp_md *ctx) { count++; return reads(ctx) ? XDP_PASS : XDP_DROP; }
"""


@pytest.mark.parametrize("how", ["inline", "noinline"])
def test_what_is_wrong_in_itself_is_explained_as_ever(bench: Bench, how: str) -> None:
    culprit = bench.member(READS % how, "culprit")
    error = refused(bench, VerifierError, "reads byte 3 of the packet", *around(bench, culprit))
    assert isinstance(error, VerifierError)
    place = explain(error).excerpt
    assert place
    assert place.place.text.strip() == "return at[3];"
    assert error.hint == "compare with data_end first, and leave where the packet is too short"


DEEP = (
    "__u64 x;\n"
    + "".join(
        f"static noinline int f{n}(int v) {{ return opaque(v){f' + f{n - 1}(v)' if n else ''}; }}\n"
        for n in range(7)
    )
    + 'SEC("xdp") int nests(struct xdp_md *ctx) { x = f6(ctx->rx_queue_index); return XDP_PASS; }'
)


def test_calls_that_are_eight_deep(bench: Bench) -> None:
    culprit = bench.member(DEEP, "culprit")
    load(culprit.spec, culprit.program, Hook.XDP).close()
    error = refused(bench, VerifierError, "8 functions deep", *around(bench, culprit))
    assert "the dispatcher is one of the 8" in (error.hint or "")
    assert isinstance(error, VerifierError)
    assert error.code
    names = [name for _, name in error.code.functions]
    assert names[names.index("nests") :][:2] == ["nests", "f6"]


STACK = """
static noinline int far(struct xdp_md *ctx, int n)
{
	char a[%d];
#pragma clang loop unroll(disable)
	for (int i = 0; i < %d; i++)
		((volatile char *)a)[i] = n + i;
	return a[n & 31];
}
SEC("xdp") int stacked(struct xdp_md *ctx)
{
	char a[%d];
#pragma clang loop unroll(disable)
	for (int i = 0; i < %d; i++)
		((volatile char *)a)[i] = i;
	return far(ctx, a[ctx->rx_queue_index & 15]) ? XDP_PASS : XDP_DROP;
}
"""


def stacked(outer: int, inner: int) -> str:
    return STACK % (inner, inner, outer, outer)


def test_all_of_the_stack_is_for_the_members(bench: Bench) -> None:
    """What takes 512 bytes alone takes them in a chain too, called or laid in."""
    called = bench.member(stacked(256, 256), "called")
    laid_in = bench.member(
        'SEC("xdp") int all(struct xdp_md *ctx) { volatile char a[504];'
        "\n#pragma clang loop unroll(disable)\n"
        "for (int i = 0; i < 504; i++) a[i] = i; return a[ctx->rx_queue_index & 255] == 0 ? 2 : 1; }",
        "laid_in",
    )
    small = bench.member(returning(2))
    shapes = [plan.Shape(one) for one in (called, laid_in, small)]
    assert plan.lay_out(shapes) == plan.Layout((2,), stack_key=False)
    assert plan.lay_out(shapes[1:]) == plan.Layout((0, 1), stack_key=True)
    for parts in ((called, laid_in), (laid_in, called)):
        chain = bench.build(*parts, bench.member(FUNCTIONS, proceed=["tx"]))
        assert not chain.hold
    bench.run(bench.build(called, laid_in))
    assert sum(bench.counts(called).values()) == 1


def test_more_stack_than_there_is(bench: Bench) -> None:
    culprit = bench.member(stacked(400, 200), "culprit")
    refused(bench, VerifierError, "stack", *around(bench, culprit))


HEAVY = """
__u64 x[16];
SEC("xdp") int heavy(struct xdp_md *ctx)
{
	for (int i = 0; i < %d; i++) {
		x[i & 15] += i;
		asm volatile("" ::: "memory");
	}
	return XDP_PASS;
}
"""


def test_too_much_to_verify(bench: Bench) -> None:
    culprit = bench.member(HEAVY % 250_000, "culprit")
    refused(bench, VerifierError, "1,000,000 instructions", bench.member(returning(2)), culprit)


def test_what_is_too_much_together_becomes_several_programs(bench: Bench) -> None:
    parts = [bench.member(HEAVY % 60_000) for _ in range(3)]
    chain = bench.build(*parts)
    assert len(chain.hold) == 1
    assert bench.run(chain).retval == 2
    assert [bench.counts(one) for one in parts] == [{"pass": 1}] * 3


def test_exceptions(bench: Bench) -> None:
    source = """
extern void bpf_throw(__u64 cookie) __ksym;
SEC("xdp") int throws(struct xdp_md *ctx) { if (ctx->rx_queue_index > 5) bpf_throw(1); return XDP_PASS; }
"""
    culprit = bench.member(source, "culprit")
    load(culprit.spec, culprit.program, Hook.XDP).close()
    refused(
        bench, NotSupportedError, "bpf_throw.. would leave the whole chain", *around(bench, culprit)
    )


LISTS = """
struct bpf_list_head { __u64 :64; __u64 :64; } __attribute__((aligned(8)));
struct bpf_list_node { __u64 :64; __u64 :64; __u64 :64; } __attribute__((aligned(8)));
struct node { struct bpf_list_node link; __u64 v; };
struct value {
	struct bpf_spin_lock lock;
	struct bpf_list_head head __attribute__((btf_decl_tag("contains:node:link")));
};
MAP(lists, ARRAY, 1, __u32, struct value);
extern void *bpf_obj_new_impl(__u64 type_id, void *meta) __ksym;
extern int bpf_list_push_back_impl(struct bpf_list_head *, struct bpf_list_node *, void *, __u64) __ksym;
SEC("xdp") int pushes(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct value *value = bpf_map_lookup_elem(&lists, &key);
	struct node *made;
	if (!value || !(made = bpf_obj_new_impl(__builtin_btf_type_id(*(struct node *)0, 0), 0)))
		return XDP_ABORTED;
	bpf_spin_lock(&value->lock);
	bpf_list_push_back_impl(&value->head, &made->link, 0, 0);
	bpf_spin_unlock(&value->lock);
	return XDP_PASS;
}
"""


def test_objects_of_the_programs_types_in_maps(bench: Bench) -> None:
    culprit = bench.member(LISTS, "culprit")
    load(culprit.spec, culprit.program, Hook.XDP).close()
    error = refused(bench, VerifierError, "bpf_list_head", *around(bench, culprit))
    assert "a chain has types of its own" in (error.hint or "")
    # What the chain says of its instructions is what the members' objects say.
    assert isinstance(error, VerifierError)
    assert re.search(r"; bpf_list_push_back_impl\(&value->head.* @ made\.bpf\.c:\d+", error.log)
    place = explain(error).excerpt
    assert place
    assert place.function == "pushes"
    assert "bpf_list_push_back_impl" in place.place.text


GPL_ONLY = """
__u64 t;
SEC("xdp") int reads(struct xdp_md *ctx) { return bpf_probe_read_kernel(&t, 8, &t) ? XDP_DROP : XDP_PASS; }
"""


def licensed(source: str, license_: str) -> ObjectSpec:
    return ObjectSpec(compile_c(HEAD.replace('"GPL"', f'"{license_}"') + source), "other.o")


def test_a_chain_is_as_free_as_its_least_free_member(bench: Bench) -> None:
    culprit = bench.member(GPL_ONLY, "culprit")
    closed = bench.member(licensed(returning(2), "Proprietary"), "closed")
    error = refused(
        bench,
        VerifierError,
        "GPL programs only, and member closed has the license 'Proprietary'",
        culprit,
        closed,
    )
    assert "license" in (error.hint or "")
    dual = bench.member(licensed(returning(2), "Dual BSD/GPL"), "dual")
    assert bench.build(culprit, dual).info.gpl_compatible
    assert not bench.build(closed, dual).info.gpl_compatible


def test_a_closed_member_gets_no_gpl_function_by_company(bench: Bench) -> None:
    culprit = bench.member(licensed(GPL_ONLY, "Proprietary"), "culprit")
    refused(bench, VerifierError, "GPL-compatible", culprit, bench.member(returning(2)))


def test_programs_of_devmap_entries(bench: Bench) -> None:
    spec = bench.spec(returning(2))
    other = bench.spec(returning(2, "xdp/devmap")).programs[0]
    part = bench.member(spec, "culprit")
    refused(
        bench, ObjectError, "no program for xdp", Part("culprit", spec, other, part.image, (2,), 9)
    )


def maps(number: int) -> str:
    names = [f"m{n}" for n in range(number)]
    uses = "\n".join(f"if (!bpf_map_lookup_elem(&{name}, &key)) return XDP_DROP;" for name in names)
    return (
        "\n".join(f"MAP({name}, ARRAY, 1, __u32, __u64);" for name in names)
        + f'SEC("xdp") int many(struct xdp_md *ctx) {{ __u32 key = 0; {uses} return XDP_PASS; }}'
    )


def test_a_member_with_nearly_all_maps_that_a_program_may_have(bench: Bench) -> None:
    fits = bench.member(maps(61), "fits")
    assert bench.verdict(bench.member(returning(2)), fits, bench.member(returning(2))) == 2
    culprit = bench.member(maps(62), "culprit")
    load(culprit.spec, culprit.program, Hook.XDP).close()
    refused(
        bench,
        NotSupportedError,
        "uses 62 maps; a member of a chain may use 61",
        *around(bench, culprit),
    )


def functions(number: int) -> str:
    made = "\n".join(
        f"static noinline int f{n}(int v) {{ return opaque(v) + {n}; }}" for n in range(number)
    )
    calls = " + ".join(f"f{n}(1)" for n in range(number))
    return (
        made
        + f'SEC("xdp") int many(struct xdp_md *ctx) {{ return opaque({calls}) ? XDP_PASS : XDP_DROP; }}'
    )


def test_256_functions(bench: Bench) -> None:
    half = [bench.member(functions(130)) for _ in range(2)]
    assert bench.verdict(*half) == 2
    assert bench.counts(half[1]) == {"pass": 1}
    culprit = bench.member(functions(255), "culprit")
    refused(
        bench,
        NotSupportedError,
        "has 256 functions; a member of a chain may have 255",
        *around(bench, culprit),
    )


def test_more_tail_calls_than_a_packet_has(bench: Bench) -> None:
    """All members share 33: the 34th would be passed over without a word."""
    spec = bench.spec(TAIL)
    jumping = [bench.member(spec, proceed=["tx"], program="from_entry") for _ in range(32)]
    chain = bench.build(*jumping)  # of two programs, for each has two maps: that is the 33rd
    assert bench.run(chain).retval == 3
    assert [bench.counts(one) for one in jumping] == [{"tx": 1}] * 32
    culprit = bench.member(spec, "culprit", ["tx"], program="from_entry")
    error = refused(
        bench, NotSupportedError, "may be left without its tail call", *jumping, culprit
    )
    assert "33 in all" in error.message


def test_prog_arrays_of_members_that_take_frags(bench: Bench) -> None:
    source = TAIL.replace('SEC("xdp")', 'SEC("xdp.frags")')
    culprit = bench.member(source, "culprit", program="from_entry")
    bench.build(culprit).close()
    error = refused(bench, NotSupportedError, "prog array", culprit, bench.member(returning(2)))
    assert "xdp.frags" in (error.hint or "")


def test_many_members_of_which_one_is_wrong(bench: Bench) -> None:
    spec = bench.spec(returning(2))
    parts = [bench.member(spec) for _ in range(80)]
    culprit = bench.member(READS % "inline", "culprit")
    refused(bench, VerifierError, "byte 3", *parts[:70], culprit, *parts[70:])


def broken_lines(part: Part) -> None:
    part.image.lines[:] = [
        one._replace(file_off=1 << 20, text_off=1 << 21) for one in part.image.lines
    ]


def lines_within_instructions(part: Part) -> None:
    code = part.image.insns
    [halves] = [{at + 1 for at in range(len(code) // 8) if code[at * 8] == 0x18}]
    part.image.lines[:] = [
        one._replace(at=one.at + 1) if one.at + 1 in halves else one for one in part.image.lines
    ]
    assert {one.at for one in part.image.lines} & halves


def wrong_types(part: Part) -> None:
    """Of no function, or of no type at all."""
    assert part.spec.btf
    wrong = [part.spec.btf.count + 5, 1, 2]
    part.image.functions[:] = [
        one._replace(type_id=wrong[number % 3]) for number, one in enumerate(part.image.functions)
    ]


def no_types(part: Part) -> None:
    part.image.functions[:] = [one._replace(type_id=0) for one in part.image.functions]


@pytest.mark.parametrize("damage", [broken_lines, lines_within_instructions, wrong_types, no_types])
def test_damaged_types_harm_nothing(bench: Bench, damage: Callable[[Part], None]) -> None:
    part = bench.member(
        FUNCTIONS.replace("noinline int global_sum", "static noinline int global_sum"), "f", ["tx"]
    )
    damage(part)
    chain = bench.build(part, bench.member(returning(2)))
    assert bench.run(chain).retval == 2
    assert chain.info.btf_id


def test_more_source_than_the_kernel_takes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the last members have no lines of source; they run all the same."""
    first = bench.member(FUNCTIONS, proceed=["tx"])
    second = bench.member("int extra;\n" + FUNCTIONS, proceed=["tx"])
    assert first.spec.btf
    monkeypatch.setattr(types, "_MAX_STRINGS", len(first.spec.btf.strings) + 10)
    linked = link([first, second], Options(Hook.XDP, bench.counters.fileno()))
    assert first.spec.btf.strings in linked.btf
    assert len(linked.btf) < 2 * len(first.spec.btf.strings) + 2000
    bench.verdict(first, second)
    assert bench.counts(first) == bench.counts(second) == {"tx": 1}


def test_a_kernel_that_does_not_take_what_is_said_of_functions(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(types.Types, "own_line", lambda self, at: (at, 1 << 30, 1 << 30, 0))
    parts = [
        bench.member(FUNCTIONS.replace("global_sum", f"sum{n}"), proceed=["tx"]) for n in range(2)
    ]
    chain = bench.build(*parts)
    assert not chain.info.btf_id
    bench.run(chain)
    assert [bench.counts(one) for one in parts] == [{"tx": 1}] * 2
