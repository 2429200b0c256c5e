"""Programs with probes: they do what they did, and what they count is what an interpreter counts."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf import insn as bpf
from netbpf.bpf.chain import Counters, Part, build
from netbpf.bpf.cover import counts, lines, trace
from netbpf.bpf.cover.active import Answer, collecting
from netbpf.bpf.cover.collector import Collector, Covered, said
from netbpf.bpf.cover.flow import Unknown, analyse
from netbpf.bpf.cover.plan import Level, place
from netbpf.bpf.cover.rewrite import GOTOL, lay
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image
from netbpf.bpf.loader import prepare
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec, ProgramSpec
from netbpf.constants import AttachType, Hook, MapType, ProgType
from netbpf.errors import VerifierError
from netbpf.packets.testrun import Bench
from tests.bpf.chain_lab import FRAME, HEAD
from tests.bpf.cover_random import PACKET, Machine, Program, Writer
from tests.support.compiling import CLANGS, compile_c, compile_object
from tests.support.descriptors import nothing_left_open

OBJECTS = Path(__file__).parents[2] / "netbpf" / "_objects"


# --- random programs, against an interpreter ---


def request(image: Image) -> sys_bpf.ProgLoad:
    return sys_bpf.ProgLoad(ProgType.XDP, bytes(image.insns), "GPL", "random", AttachType.XDP)


def submit(image: Image, statistics: bool) -> Answer:
    size, level = (1 << 16, 4) if statistics else (0, 1)
    made, number, log = sys_bpf.prog_load(request(image), log_size=size, log_level=level)
    if made:
        made.close()
    return Answer(number, log.decode())


def plain_spec() -> tuple[ObjectSpec, ProgramSpec]:
    spec = ObjectSpec(compile_c(HEAD + 'SEC("xdp") int one(void *c) { return 1; }', debug=False))
    return spec, spec.programs[0]


def counted(
    image: Image, level: Level, packets: list[bytes]
) -> tuple[Covered, list[int | None], list[list[int]]]:
    """What the probes of a level say of these packets, whose verdicts are compared on the way."""
    with Collector(level) as collector:
        made = collector.instrument(*plain_spec(), image, submit)
        [covered] = collector.covered
        orders = []
        before, _, _ = sys_bpf.prog_load(request(image))
        after, _, _ = sys_bpf.prog_load(request(made))
        assert before
        assert after
        with before, after:
            for packet in packets:
                results = [
                    sys_bpf.prog_test_run(one.fileno(), packet, data_out_size=PACKET)
                    for one in (before, after)
                ]
                assert results[0][:2] == results[1][:2]
                orders.append([one.at for one in trace.ran(collector.trace()[0])])
                if covered.level is Level.TRACE:
                    collector.clear()
        return covered, covered.edges(), orders


@pytest.mark.parametrize("seed", range(24))
def test_random_programs(seed: int) -> None:
    """Verdicts, counts of every block and the order of all instructions; no register is free in them."""
    choose = random.Random(seed)
    deep = choose.choice([48, 64, 200, 496, 512])
    made = Writer(choose, deep=deep).write(0 if deep > 400 else 2, choose.choice([6, 12, 18]))
    packets = [choose.randbytes(PACKET) for _ in range(4)] + [bytes(PACKET), b"\1" * PACKET]
    image = made.image()
    if submit(image, False).errno:
        # The generator does not know all the rules; neither does the program with probes pass then.
        with Collector() as collector:
            assert collector.instrument(*plain_spec(), image, submit) is image
            assert not collector.covered
        return
    machines = [Machine(made, packet) for packet in packets]
    total = Counter(at for one in machines for at in one.order)
    for level in (Level.COUNTS, Level.HITS, Level.TRACE):
        covered, edges, orders = counted(image, level, packets)
        flow = covered.flow
        assert flow
        # With room on the stack only the number of steps may be too much.
        assert covered.level is level or deep > 400 or "complex" in covered.note
        if covered.level is Level.TRACE:
            assert orders == [one.order for one in machines]
            continue
        ran = counts.blocks(flow, edges)
        for number, block in zip(ran, flow.blocks, strict=True):
            if covered.exact and covered.level is Level.COUNTS:
                assert number == total[block.start]
            elif number is not None:
                assert bool(number) == bool(total[block.start])


# --- programs from C ---


def _content(one: Map) -> dict[bytes, bytes]:
    """What is in a map, but for the zeros of arrays."""
    return {bytes(key): bytes(value) for key, value in one.nonzero()}


@contextmanager
def one_cpu() -> Iterator[None]:
    """What a program counts by CPU is the same for its copy only where both run on the same one."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(allowed)[os.getpid() % len(allowed)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def covered_run(
    data: bytes, frames: list[bytes], program: str | None = None, level: Level = Level.COUNTS
) -> tuple[Covered, dict[int, int | None], list[tuple[str, int]]]:
    """A program beside its copy with probes: the same in all that can be seen. Counts by line, and the way by line."""
    with Collector(level) as collector:
        with collecting(collector):
            copy = Bench.open(data, program=program)
        with copy, Bench.open(data, program=program) as plain, one_cpu():
            for frame in frames:
                ours, theirs = plain.run(frame), copy.run(frame)
                assert (ours.verdict, ours.data, ours.context) == (
                    theirs.verdict,
                    theirs.data,
                    theirs.context,
                )
            for name, one in plain.loaded.maps.items():
                if one.info.type == MapType.PROG_ARRAY:
                    continue  # holds ids
                assert _content(one) == _content(copy.loaded.maps[name])
        [covered] = [one for one in collector.covered if program in (None, one.program.name)][:1]
        flow = covered.flow
        assert flow
        found: dict[int, int | None] = {}
        ran = counts.blocks(flow, covered.edges())
        for span, number in lines.runs(flow, lines.spans(covered.spec, covered.image), ran):
            before = found.get(span.source.line)
            found[span.source.line] = number if before is None else max(before, number or 0)
        steps, lost = trace.steps(collector)
        assert not lost
        return covered, found, [(one.function, one.source.line) for one in steps]


@pytest.mark.parametrize("clang", [CLANGS[0], CLANGS[-1]])
@pytest.mark.parametrize(
    ("name", "program"),
    [
        *(("subprograms", one) for one in ("callee", "first", "second", "deep")),
        *(("callbacks", one) for one in ("loop", "each", "both")),
        *(("assembly", one) for one in ("calls", "loads")),
        ("tail_calls", "entry"), ("tail_calls", "next"), ("globals", None), ("maps", None), ("locks", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("level", [Level.COUNTS, Level.HITS, Level.TRACE])
def test_every_kind_of_code(clang: str, name: str, program: str | None, level: Level) -> None:
    """Calls, callbacks, tail calls, atomics, loads of every kind, from both ends of the compilers."""
    data = compile_object(name, clang=clang)
    if program is None:
        program = ObjectSpec(data).programs[0].name
    covered, _, way = covered_run(data, [FRAME], program, level)
    assert (covered.level, covered.note) == (level, "")
    assert bool(way) is (level is Level.TRACE)


@pytest.mark.parametrize("name", ["xdp_count", "tc_count", "xdp_drop", "tc_drop"])
def test_shipped_programs(name: str) -> None:
    from tests.programs.frames import arp, extended, icmp4, tagged, tcp4, udp6

    frames = [tcp4(), udp6(), arp(), icmp4(), tagged(tcp4(), 0x8100), extended([]), bytes(60)]
    covered, found, _ = covered_run((OBJECTS / f"{name}.bpf.o").read_bytes(), frames)
    assert (covered.level, covered.note, covered.exact) == (Level.COUNTS, "", True)
    assert max(number or 0 for number in found.values()) >= len(frames)
    assert None not in found.values()


LOOP = """
static noinline int add(__u64 x)
{
	if (opaque(x) & 1) {
		bpf_ktime_get_ns();
		return 3;
	}
	bpf_get_smp_processor_id();
	return 4;
}
static int back(__u32 index, void *context)
{
	*(int *)context += add(index);
	return 0;
}
SEC("xdp") int counts(struct xdp_md *ctx)
{
	int sum = 0;

	bpf_loop(10, back, &sum, 0);
	if (ctx->data_end - ctx->data > 100)
		return XDP_DROP;
	return sum == 35 ? XDP_PASS : XDP_ABORTED;
}
"""
FIRST = HEAD.count("\n") + 1  # the number of the first line behind HEAD


def line(text: str, source: str = LOOP) -> int:
    """The number of the line that holds this text."""
    return FIRST + source[: source.index(text)].count("\n")


def test_lines_count_how_often_they_ran() -> None:
    _, found, _ = covered_run(compile_c(HEAD + LOOP), [FRAME] * 4 + [bytes(200)])
    assert found[line("bpf_ktime")] == found[line("bpf_get_smp")] == 25
    assert found[line("*(int *)context")] == 50
    assert found[line("bpf_loop(10")] == 5
    assert found[line("XDP_ABORTED")] == 4


def test_the_way_of_a_packet_through_calls_and_callbacks() -> None:
    _, _, way = covered_run(compile_c(HEAD + LOOP), [FRAME], level=Level.TRACE)
    names = [name for name, _ in way]
    assert names[0] == names[-1] == "counts"
    assert ("add", line("bpf_ktime")) in way
    # Ten rounds: into the callback, into the function it calls, and back.
    rounds = [name for number, name in enumerate(names) if number == 0 or names[number - 1] != name]
    assert rounds == ["counts", *["back", "add"] * 10, "back", "counts"]
    assert ("counts", line("XDP_ABORTED")) in way


def test_a_tail_call_leaves_no_trace_behind_it() -> None:
    with Collector(Level.TRACE) as collector:
        with collecting(collector):
            bench = Bench.open(compile_object("tail_calls"), program="entry")
        with bench:
            bench.run(FRAME)
        steps, _ = trace.steps(collector)
    functions = [one.function for one in steps]
    assert list(dict.fromkeys(functions)) == ["entry", "next", "last"]
    assert functions == sorted(functions, key=["entry", "next", "last"].index)


def test_members_of_a_chain_count_each_their_own() -> None:
    source = """
    __u64 seen;
    SEC("xdp") int says(struct xdp_md *ctx) { if (++seen > 2) return XDP_DROP; return XDP_PASS; }
    """
    spec = ObjectSpec(compile_c(HEAD + source))
    with Collector() as collector, Counters.create(Hook.XDP) as counters:
        with collecting(collector):
            made = [prepare(spec, spec.programs[0], Hook.XDP) for _ in range(2)]
        parts = [
            Part(f"m{n}", spec, spec.programs[0], one.image, (2,), n) for n, one in enumerate(made)
        ]
        with build(parts, Hook.XDP, counters) as chain:
            verdicts = [sys_bpf.prog_test_run(chain.fd.fileno(), FRAME).retval for _ in range(3)]
        for one in made:
            one.close()
        [covered] = collector.covered
        assert covered.flow
        [branch] = counts.branches(covered.flow, covered.edges())
    assert verdicts == [2, 2, 1]
    assert {branch.taken, branch.not_taken} == {1, 4}


def test_the_same_program_loaded_again_counts_on() -> None:
    data = compile_c(HEAD + LOOP)
    with Collector() as collector:
        for _ in range(3):
            with collecting(collector), Bench.open(data) as bench:
                bench.run(FRAME)
        [covered] = collector.covered
        assert (covered.loads, len(covered.variants), len(collector.held())) == (3, 1, 1)
        assert counts.blocks(covered.flow, covered.edges())[0] == 3  # type: ignore[arg-type]


def test_nothing_is_kept_and_nothing_instrumented_outside() -> None:
    data = compile_c(HEAD + LOOP)
    with nothing_left_open():
        with Collector() as collector:
            with collecting(collector), Bench.open(data) as bench:
                size = len(bench.loaded.image.insns)
            with collecting(None), Bench.open(data) as bench:
                assert len(bench.loaded.image.insns) < size
        with Bench.open(data) as bench:
            assert len(bench.loaded.image.insns) < size


def test_a_program_that_is_rejected_anyway_is_rejected_as_ever() -> None:
    data = compile_c(
        HEAD + 'SEC("xdp") int bad(struct xdp_md *ctx) { return *(int *)(long)ctx->data; }'
    )
    messages = []
    for by in (None, Collector()):
        with collecting(by), pytest.raises(VerifierError) as caught:
            Bench.open(data)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


# --- the limits ---


def far(distance: int) -> Image:
    """A jump over so many instructions, among them branches, so that it grows beyond 16 bits."""
    body = [Insn(bpf.MOV64_REG, 6, 1), Insn(0x61, 7, 6, 12), Insn(0x61, 8, 6, 16)]
    body.append(Insn(0x1D, 7, 8, distance))
    while len(body) < distance + 4:
        body += [Insn(0x55, 8, 0, 1, 9), Insn(0x07, 7, imm=1)]
    body += [Insn(bpf.MOV64_IMM, 0, imm=2), Insn(bpf.EXIT)]
    return Program(body, [0]).image()


def test_jumps_that_grow_beyond_16_bits() -> None:
    image = far(12_000)
    covered, edges, _ = counted(image, Level.COUNTS, [FRAME])
    assert (covered.level, covered.note) == (Level.COUNTS, "")
    flow = covered.flow
    assert flow
    assert counts.blocks(flow, edges)[0] == 1
    [first, *rest] = counts.branches(flow, edges)
    assert (first.taken, first.not_taken) == (0, 1)
    assert all(one.taken == 1 and one.not_taken == 0 for one in rest)
    codes = {bpf.read(covered.variants[0].laid.code, n).code for n in range(55_000)}
    assert GOTOL in codes


def test_probes_keep_registers_on_the_stack_only_where_there_is_room() -> None:
    full = Writer(random.Random(1), deep=512).write(0, 4).image()
    flow = analyse(full.insns, [0])
    actions = {stack: place(flow, Level.COUNTS, 0, (stack,)) for stack in (64, 512)}
    assert actions[64][1] is True
    assert any(one.spilled for one in actions[64][0])
    assert actions[512][1] is False
    assert not any(one.spilled for one in actions[512][0])
    assert min(offset for one in actions[64][0] for _, offset in one.spilled) == -80


LIMIT = """
__u64 total;
SEC("xdp") int limit(struct xdp_md *ctx)
{{
	__u64 sum = 0;

	for (int i = 0; i < {rounds}; i++) {{
		__u64 x = opaque(i);

		if (x & 1)
			sum += opaque(3);
	}}
	total = sum;
	return XDP_PASS;
}}
"""


@pytest.mark.parametrize(
    ("rounds", "level", "words"),
    [
        (85_000, Level.HITS, "what was reached, not how often"),
        (110_000, Level.FUNCTIONS, "which functions were reached"),
    ],
)
def test_at_the_instruction_limit_it_counts_less_and_says_so(
    rounds: int, level: Level, words: str
) -> None:
    """The verifier takes a million steps; with probes these programs would need more."""
    covered, found, _ = covered_run(compile_c(HEAD + LIMIT.format(rounds=rounds)), [FRAME] * 2)
    assert covered.level is level
    assert said(covered) == (
        "limit is so complex that the verifier does not take it with more to count; what there is of it: "
        + said(covered).partition("what there is of it: ")[2]
    )
    assert words in said(covered)
    source = LIMIT.format(rounds=rounds)
    reached = [found[line(text, source)] for text in ("sum += opaque(3)", "return XDP_PASS")]
    assert reached == ([1, 1] if level is Level.HITS else [None, None])


def test_what_the_kernel_would_not_take_is_left_to_it() -> None:
    into_nowhere = bytes(Insn(0x15, off=9).pack() + Insn(bpf.EXIT).pack())
    with pytest.raises(Unknown):
        analyse(into_nowhere, [0])
    with pytest.raises(Unknown):
        analyse(Insn(bpf.MOV64_IMM).pack(), [0])
    middle = Insn(bpf.CALL, src=1, imm=0).pack() + Insn(bpf.EXIT).pack() * 2
    with pytest.raises(Unknown):
        lay(middle, analyse(middle, [0, 2]), [])


# --- code that no compiler here makes ---


def one_function(*code: Insn) -> Image:
    return Program(list(code), [0]).image()


def test_old_packet_loads_may_end_the_program() -> None:
    """LD_ABS behind the packet's end returns 0 at once: what follows did not run."""
    image = one_function(
        Insn(bpf.MOV64_REG, 6, 1), Insn(0x30, imm=40), Insn(0x30, imm=4000), Insn(bpf.MOV64_IMM, 0, imm=5),
        Insn(bpf.EXIT),
    )  # fmt: skip
    flow = analyse(image.insns, [0])
    assert [one.kind.value for one in flow.edges] == ["entry", "on", "on"]
    probes, whole = place(flow, Level.COUNTS)
    assert whole
    assert [one.edge for one in probes] == [0, 1, 2]
    edges: list[int | None] = [7, 7, 3]
    assert counts.blocks(flow, edges) == [7, 7, 3]


def test_may_goto_and_exceptions() -> None:
    image = one_function(
        Insn(bpf.MOV64_IMM, 0), Insn(0xE5, off=3), Insn(0x07, 0, imm=1), Insn(0x25, 0, off=1, imm=99),
        Insn(0x05, off=-4), Insn(bpf.EXIT),
    )  # fmt: skip
    covered, _, orders = counted(image, Level.TRACE, [FRAME])
    assert Counter(orders[0]) == {0: 1, 1: 100, 2: 100, 3: 100, 4: 99, 5: 1}
    assert covered.flow
    # Nothing comes behind an exception, and behind no call of what may throw one for certain.
    calls = one_function(Insn(bpf.CALL, src=2), Insn(bpf.CALL, src=2), Insn(bpf.EXIT))
    assert [one.kind.value for one in analyse(calls.insns, [0]).edges] == ["entry"]
    throwing = analyse(calls.insns, [0], [1]).edges
    assert [(one.kind.value, one.at) for one in throwing] == [("entry", -1), ("on", 0)]
