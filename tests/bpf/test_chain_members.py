"""What members may use, each in company: it does what it does alone, and its verdict afterwards counts."""

import select
import struct
from collections.abc import Iterator

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.chain import Part
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import btf_by_id
from netbpf.constants import Hook
from tests.bpf.chain_lab import FRAME, Bench, returning
from tests.support.compiling import CLANGS, compile_object

PASS, DROP, TX, REDIRECT = 2, 1, 3, 4


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


@pytest.fixture
def tc() -> Iterator[Bench]:
    with Bench(Hook.TC_INGRESS) as made:
        yield made


def in_company(bench: Bench, part: Part, verdict: str, *, runs: int = 3) -> None:
    """Between two others; then its verdict is ``verdict``, which it hands on."""
    word = {Hook.XDP: 2}.get(bench.hook, -1)
    section = "xdp" if bench.hook is Hook.XDP else "tc"
    first, last = (bench.member(returning(word, section), name) for name in ("first", "last"))
    bench.verdict(first, part, last, repeat=runs)
    assert bench.counts(part) == {verdict: runs}
    assert bench.number(first) == bench.number(last) == runs
    assert bench.counts(first) == bench.counts(last) == {"pass" if word == 2 else "unspec": runs}


# --- functions ---

TAIL = """
__u64 gone, back;
int target(struct xdp_md *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [1] = (void *)&target } };
SEC("xdp") int target(struct xdp_md *ctx) { gone++; return XDP_TX; }
static noinline int jump(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 1); back++; return opaque(XDP_DROP); }
SEC("xdp") int from_entry(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 1); back++; return XDP_DROP; }
SEC("xdp") int to_nowhere(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 0); back++; return XDP_DROP; }
SEC("xdp") int from_function(struct xdp_md *ctx)
{
	int got = jump(ctx);
	back += 10;
	return got == XDP_TX ? XDP_REDIRECT : XDP_ABORTED;
}
"""


@pytest.mark.parametrize(
    ("program", "verdict", "gone", "back"),
    [("from_entry", "tx", 3, 0), ("to_nowhere", "drop", 0, 3), ("from_function", "redirect", 3, 30)],
)  # fmt: skip
def test_a_tail_call_comes_back_to_the_dispatcher(
    bench: Bench, program: str, verdict: str, gone: int, back: int
) -> None:
    part = bench.member(TAIL, "jumper", ["tx", "drop", "redirect"], program=program)
    in_company(bench, part, verdict)
    assert {bench.number(part), bench.number(part, offset=8)} >= {gone, back}


def test_tail_calls_may_end_the_chain(bench: Bench) -> None:
    part = bench.member(TAIL, program="from_entry")
    last = bench.member(returning(PASS))
    assert bench.verdict(part, last) == TX
    assert bench.counts(last) == {}


FUNCTIONS = """
struct pair { __u32 a, b; };
__u64 seen;
noinline int global_sum(struct pair *pair) { return pair ? pair->a + pair->b : 0; }
__attribute__((weak)) noinline int weak_one(int x) { return opaque(x) + 1; }
static noinline int static_two(struct xdp_md *ctx, int x) { return ctx->data_end - ctx->data + opaque(x); }
noinline int nothing(void) { return seen++; }
SEC("xdp") int functions(struct xdp_md *ctx)
{
	struct pair pair = { opaque(3), opaque(4) };
	nothing();
	int got = global_sum(&pair) + weak_one(1) + static_two(ctx, 2);
	return got == 7 + 2 + 64 + 2 ? XDP_TX : XDP_ABORTED;
}
"""


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
def test_functions(bench: Bench, clang: str, debug: bool) -> None:
    part = bench.member(bench.spec(FUNCTIONS, clang=clang, debug=debug), "f", ["tx"])
    in_company(bench, part, "tx")


def test_many_members_with_functions_of_the_same_names(bench: Bench) -> None:
    parts = [bench.member(FUNCTIONS, proceed=["tx"]) for _ in range(12)]
    bench.verdict(*parts, repeat=5)
    assert [bench.counts(one) for one in parts] == [{"tx": 5}] * 12


CHECKED = (
    "dialects assembly callbacks core_types externs frags "
    "globals locks maps nested_maps subprograms tail_calls"
).split()


@pytest.mark.parametrize("name", CHECKED)
def test_objects_that_check_themselves(name: str) -> None:
    """The loader's own test programs give verdict 7 where all of it works, whether the hook has such a one or not."""
    spec = ObjectSpec(compile_object(name), f"{name}.o")
    for program in spec.programs:
        hook = Hook.XDP if program.declared.type == 6 else Hook.TC_INGRESS
        with Bench(hook) as bench:
            part = bench.member(ObjectSpec(spec.data, "again.o"), "checker", program=program.name)
            last = bench.member(returning(PASS, "xdp" if hook is Hook.XDP else "tc"))
            assert bench.verdict(part, last) == 7, program.name
            assert bench.counts(part) == {"other" if hook is Hook.XDP else "redirect": 1}


# --- callbacks, locks, timers ---

CALLBACKS = """
MAP(numbers, HASH, 8, __u32, __u64);
struct value { struct bpf_timer timer; struct bpf_spin_lock lock; __u64 sum; };
MAP(timed, ARRAY, 1, __u32, struct value);
__u64 rounds, total, fired;
static int add(__u32 index, void *context) { rounds++; return 0; }
static int visit(void *map, __u32 *key, __u64 *value, void *context) { total += *value; return 0; }
static int fire(void *map, __u32 *key, struct value *value) { fired++; return 0; }
SEC("xdp") int uses_callbacks(struct xdp_md *ctx)
{
	__u32 key = 1; __u64 value = 10;
	bpf_map_update_elem(&numbers, &key, &value, 0);
	bpf_loop(5, add, &value, 0);
	bpf_for_each_map_elem(&numbers, visit, &value, 0);
	return XDP_TX;
}
SEC("xdp") int uses_timer(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct value *value = bpf_map_lookup_elem(&timed, &key);
	if (!value)
		return XDP_ABORTED;
	bpf_spin_lock(&value->lock);
	value->sum += 3;
	bpf_spin_unlock(&value->lock);
	bpf_timer_init(&value->timer, &timed, 1);
	if (bpf_timer_set_callback(&value->timer, fire) || bpf_timer_start(&value->timer, 1000, 0))
		return XDP_ABORTED;
	return XDP_TX;
}
"""


def test_callbacks(bench: Bench) -> None:
    part = bench.member(CALLBACKS, "callbacks", ["tx"], program="uses_callbacks")
    in_company(bench, part, "tx")
    assert bench.map(part, "numbers").lookup(b"\1\0\0\0") == (10).to_bytes(8, "little")
    assert {bench.number(part, offset=at) for at in (0, 8, 16)} == {15, 30, 0}


def test_locks_and_timers(bench: Bench) -> None:
    part = bench.member(CALLBACKS, "timer", ["tx"], program="uses_timer")
    in_company(bench, part, "tx")
    value = bench.map(part, "timed").lookup(bytes(4))
    assert value is not None
    assert int.from_bytes(value[24:32], "little") == 9
    for _ in range(10_000):
        if sum(bench.number(part, offset=at) for at in (0, 8, 16)):
            break
        select.select([], [], [], 0.001)
    assert sum(bench.number(part, offset=at) for at in (0, 8, 16)) >= 1, "the timer never fired"


# --- packets ---

XDP_PACKET = """
__u64 seen;
struct head { __u8 dst[6], src[6]; __u16 proto; };
SEC("xdp") int grows(struct xdp_md *ctx)
{
	struct head *head = (void *)(long)ctx->data;
	if ((void *)(head + 1) > (void *)(long)ctx->data_end || bpf_xdp_adjust_head(ctx, -4))
		return XDP_ABORTED;
	__u8 *at = (void *)(long)ctx->data;
	if ((void *)(at + 4) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	at[0] = 0xaa; at[1] = 0xbb; at[2] = 0xcc; at[3] = 0xdd;
	return XDP_PASS;
}
SEC("xdp") int marks(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_meta(ctx, -4))
		return XDP_ABORTED;
	__u32 *meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_ABORTED;
	*meta = 77;
	return XDP_PASS;
}
SEC("xdp") int cuts(struct xdp_md *ctx) { return bpf_xdp_adjust_tail(ctx, -10) ? XDP_ABORTED : XDP_PASS; }
SEC("xdp") int looks(struct xdp_md *ctx)
{
	__u8 *at = (void *)(long)ctx->data;
	__u32 *meta = (void *)(long)ctx->data_meta;
	if ((void *)(at + 4) > (void *)(long)ctx->data_end || (void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_ABORTED;
	seen = ctx->data_end - ctx->data;
	return at[0] == 0xaa && at[3] == 0xdd && *meta == 77 ? XDP_TX : XDP_DROP;
}
"""


def test_later_members_see_the_packet_as_it_is_now(bench: Bench) -> None:
    parts = [bench.member(XDP_PACKET, program=name) for name in ("grows", "cuts", "marks", "looks")]
    frame = bytes(range(100))
    done = bench.run(bench.build(*parts), frame)
    assert done.retval == TX
    assert done.data == struct.pack("<I", 77) + bytes.fromhex("aabbccdd") + frame[:-10]
    assert bench.number(parts[3]) == 94


TC_PACKET = """
__u64 seen;
SEC("tc") int writes(struct __sk_buff *ctx)
{
	__u8 *at = (void *)(long)ctx->data;
	if ((void *)(at + 20) > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	at[14] = 0x5a;
	ctx->mark = 4711;
	ctx->cb[1] = 5;
	return TC_ACT_PIPE;
}
SEC("tc") int pushes(struct __sk_buff *ctx)
{
	__u8 byte = 0x7b;
	if (bpf_skb_vlan_push(ctx, bpf_htons_8021q, 9) ||
		bpf_skb_change_tail(ctx, 80, 0) || bpf_skb_store_bytes(ctx, 40, &byte, 1, 0))
		return TC_ACT_SHOT;
	return TC_ACT_UNSPEC;
}
SEC("tc") int looks(struct __sk_buff *ctx)
{
	__u8 *at = (void *)(long)ctx->data;
	if ((void *)(at + 60) > (void *)(long)ctx->data_end)
		return TC_ACT_SHOT;
	seen = ctx->len;
	return at[14] == 0x5a && at[40] == 0x7b && ctx->mark == 4711 && ctx->cb[1] == 5 && ctx->vlan_present ?
		TC_ACT_STOLEN : TC_ACT_SHOT;
}
""".replace("bpf_htons_8021q", "0x0081")


def test_tc_packets_and_their_context(tc: Bench) -> None:
    parts = [tc.member(TC_PACKET, program=name) for name in ("writes", "pushes", "looks")]
    assert tc.verdict(*parts, frame=bytes(200)) == 4
    assert [tc.counts(one) for one in parts] == [{"pipe": 1}, {"unspec": 1}, {"stolen": 1}]
    assert tc.number(parts[2]) == 80


LD_ABS = """
unsigned long long load_byte(void *skb, unsigned long long off) asm("llvm.bpf.load.byte");
__u64 runs;
SEC("tc") int near(struct __sk_buff *ctx) { runs++; return load_byte(ctx, 13) == 0x5a ? TC_ACT_PIPE : TC_ACT_SHOT; }
SEC("tc") int far(struct __sk_buff *ctx) { runs++; return load_byte(ctx, 5000) ? TC_ACT_PIPE : TC_ACT_SHOT; }
"""


def test_loads_by_offset(tc: Bench) -> None:
    """LD_ABS; one behind the packet's end leaves the member with 0 (TC_ACT_OK), not the chain."""
    near = tc.member(LD_ABS, "near", program="near")
    far = tc.member(LD_ABS, "far", ["ok"], program="far")
    last = tc.member(returning(3, "tc"))
    assert tc.verdict(near, far, last, frame=bytes(13) + b"\x5a" + bytes(60)) == 3
    assert tc.counts(near) == {"pipe": 1}
    assert tc.counts(far) == {"ok": 1}
    assert tc.counts(last) == {"pipe": 1}


# --- maps ---

MAPS = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4); __uint(value_size, 4);
} events SEC(".maps");
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64);
} one SEC(".maps"), two SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 2); __type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { &one, &two } };
MAP(percpu, PERCPU_HASH, 4, __u32, __u64);
MAP(devices, DEVMAP, 4, __u32, __u32);
MAP(cpus, CPUMAP, 2, __u32, __u32);
MAP(sockets, XSKMAP, 4, __u32, __u32);
const volatile __u32 constant = 5;
__u32 data = 6;
__u64 passed;
SEC("xdp") int output(struct xdp_md *ctx)
{
	__u64 value = 0x1122334455667788;
	long failed = bpf_ringbuf_output(&ring, &value, 8, 0);
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU | (8ULL << 32), &value, 8);
	__u64 *room = bpf_ringbuf_reserve(&ring, 8, 0);
	if (!room)
		return XDP_ABORTED;
	*room = constant + data++;
	bpf_ringbuf_submit(room, 0);
	return failed ? XDP_ABORTED : XDP_TX;
}
SEC("xdp") int nested(struct xdp_md *ctx)
{
	__u32 key = 1, zero = 0; __u64 first = 1;
	void *inner = bpf_map_lookup_elem(&outer, &key);
	__u64 *value = inner ? bpf_map_lookup_elem(inner, &zero) : 0;
	if (!value)
		return XDP_ABORTED;
	*value += 2;
	__u64 *mine = bpf_map_lookup_elem(&percpu, &key);
	if (mine)
		(*mine)++;
	else
		bpf_map_update_elem(&percpu, &key, &first, 0);
	return XDP_TX;
}
SEC("xdp") int redirects(struct xdp_md *ctx)
{
	/* Empty entries: what comes back are the lower bits of the flags. */
	int got = bpf_redirect_map(&devices, 1, XDP_PASS) + bpf_redirect_map(&cpus, 1, XDP_DROP) +
		bpf_redirect_map(&sockets, 0, XDP_TX);
	passed++;
	return got == XDP_PASS + XDP_DROP + XDP_TX ? XDP_TX : XDP_ABORTED;
}
"""


def test_rings_and_events(bench: Bench) -> None:
    part = bench.member(MAPS, "output", ["tx"], program="output")
    in_company(bench, part, "tx")
    assert bench.number(part, ".data", size=4) == 9


def test_nested_and_per_cpu_maps(bench: Bench) -> None:
    part = bench.member(MAPS, "nested", ["tx"], program="nested")
    in_company(bench, part, "tx")
    assert bench.map(part, "two").lookup(bytes(4)) == (6).to_bytes(8, "little")
    raw = bench.map(part, "percpu").lookup(b"\1\0\0\0")
    assert raw is not None
    assert sum(struct.unpack(f"<{len(raw) // 8}Q", raw)) == 3


def test_redirect_maps(bench: Bench) -> None:
    in_company(bench, bench.member(MAPS, "redirects", ["tx"], program="redirects"), "tx")


def test_one_map_that_two_members_use(bench: Bench) -> None:
    first = bench.member(returning(PASS), "one")
    second = bench.member(returning(PASS), "two", reuse={".bss": bench.map(first, ".bss")})
    bench.verdict(first, second, repeat=10)
    assert bench.number(first) == bench.number(second) == 20


def test_maps_of_a_chain_outlive_it(bench: Bench) -> None:
    parts = [bench.member(returning(PASS)) for _ in range(3)]
    for shown in (3, 1, 2, 3):
        chain = bench.build(*parts[:shown])
        bench.run(chain, repeat=10)
        chain.close()
    assert [bench.number(one) for one in parts] == [40, 30, 20]
    assert [bench.counts(one)["pass"] for one in parts] == [40, 30, 20]


# --- types ---

KFUNCS = """
struct bpf_dynptr;
extern int bpf_dynptr_from_xdp(struct xdp_md *ctx, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
SEC("xdp") int kernel(struct xdp_md *ctx)
{
	struct bpf_dynptr ptr; __u8 buffer[4]; __u8 *at;
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock();
	if (bpf_dynptr_from_xdp(ctx, 0, &ptr))
		return XDP_ABORTED;
	at = bpf_dynptr_slice(&ptr, 12, buffer, sizeof(buffer));
	return at && at[0] == 8 ? XDP_TX : XDP_DROP;
}
"""


def test_functions_of_the_kernel(bench: Bench) -> None:
    in_company(bench, bench.member(KFUNCS, "kernel", ["tx"]), "tx")


OWN_TYPES = """
struct thing { __u64 a; __u32 b; };
#define local_id(type) __builtin_btf_type_id(*(type *)0, 0)
extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;
__u64 id;
SEC("xdp") int allocates(struct xdp_md *ctx)
{
	struct thing *made = bpf_obj_new_impl(local_id(struct thing), 0);
	id = local_id(struct thing);
	if (!made)
		return XDP_ABORTED;
	made->a = opaque(5);
	int found = made->a == 5 && !made->b;
	bpf_obj_drop_impl(made, 0);
	return found ? XDP_TX : XDP_DROP;
}
"""


def test_types_of_the_object_by_id(bench: Bench) -> None:
    """Objects number their types for themselves; in the chain they have other numbers."""
    before = "struct other { __u64 x[8]; }; struct other unused;\n"
    sources = [
        OWN_TYPES.replace("struct thing", "struct one"),
        before + OWN_TYPES.replace("struct thing", "struct two"),
        OWN_TYPES.replace("struct thing", "struct three"),
    ]
    parts = [bench.member(source, proceed=["tx"]) for source in sources]
    chain = bench.build(*parts)
    bench.run(chain)
    assert [bench.counts(one) for one in parts] == [{"tx": 1}] * 3
    types = btf_by_id(chain.info.btf_id)
    assert types
    names = [types.type(bench.number(one)).name for one in parts]
    assert names == ["one", "two", "three"]


ARGUMENTS = """
#define tag(x) __attribute__((btf_decl_tag(x)))
struct big { __u64 a[4]; struct big *next; };
typedef const struct big *big_t;
noinline int checked(struct xdp_md *ctx, const int *number tag("arg:nonnull"))
{ return *number + (ctx->data_end > ctx->data); }
noinline int named(big_t big, enum xdp_action action, char text[8])
{ return big && text ? big->a[3] + action + text[0] : 0; }
noinline int raw(void *ctx tag("arg:ctx")) { return ((struct xdp_md *)ctx)->data ? 1 : 0; }
SEC("xdp") int arguments(struct xdp_md *ctx)
{
	int number = opaque(1); struct big big = { .a = { 1, 2, 3, opaque(4) } }; char text[8] = {};
	return checked(ctx, &number) + named(&big, opaque(XDP_TX), text) + raw(ctx) == 10 ? XDP_TX : XDP_DROP;
}
"""


@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
def test_what_global_functions_say_of_their_arguments(bench: Bench, clang: str) -> None:
    in_company(bench, bench.member(bench.spec(ARGUMENTS, clang=clang), "arguments", ["tx"]), "tx")


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("cpu", ["v1", "v2", "v3", "v4"])
def test_instruction_sets(bench: Bench, cpu: str, debug: bool) -> None:
    clang = CLANGS[-1]
    source = """
__s64 numbers[4]; __u64 runs;
SEC("xdp") int arithmetic(struct xdp_md *ctx)
{
	__s32 a = opaque(-7); __s16 b = opaque(-300); __u32 c = opaque(10);
	for (int i = 0; i < 4; i++)
		numbers[i] += a * b + (c >> i) + (__s8)opaque(200 + i);
	__sync_fetch_and_add(&runs, 1);
	return numbers[0] > 0 ? XDP_TX : XDP_DROP;
}
"""
    part = bench.member(
        bench.spec(source, debug=debug, cpu=cpu, clang=clang), "arithmetic", ["tx", "drop"]
    )
    in_company(bench, part, "tx")
    other = bench.member(bench.spec(source, debug=debug, cpu=cpu, clang=clang), "alone", ["tx"])
    with load(other.spec, other.program, bench.hook, reuse=bench.prepared["alone"].maps) as alone:
        for _ in range(3):
            sys_bpf.prog_test_run(alone.program.fd.fileno(), FRAME)
    assert bench.map(part, ".bss").lookup(bytes(4)) == bench.map(other, ".bss").lookup(bytes(4))
