"""The dispatcher: order, proceed-on, counting, sizes; against a model on random chains."""

import errno
import itertools
import os
import random
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf.bpf import insn as bpf
from netbpf.bpf.chain import (
    SLOTS,
    Chain,
    Counters,
    Part,
    build,
    counters,
    description,
    frags,
    verdicts,
)
from netbpf.bpf.chain import dispatcher as dispatching
from netbpf.bpf.chain import link as linking
from netbpf.bpf.chain.description import read
from netbpf.bpf.chain.inline import frame, inlined, instructions
from netbpf.bpf.chain.link import Options
from netbpf.bpf.chain.submit import submit
from netbpf.bpf.loader import load
from netbpf.bpf.map import Map, possible_cpus
from netbpf.constants import Hook, MapType
from netbpf.errors import KernelError, NetbpfError, NotAttachedError, ObjectError, UsageError
from tests.bpf.chain_lab import FRAME, Bench, returning
from tests.support.descriptors import nothing_left_open
from tests.support.waiting import eventually, exists

HOOKS = [Hook.XDP, Hook.TC_INGRESS]


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as made:
        yield made


# --- verdicts by name ---


def test_names_of_verdicts() -> None:
    assert verdicts.numbers(Hook.XDP, None) == (2,)
    assert verdicts.numbers(Hook.TC_EGRESS, None) == (-1, 3)
    assert verdicts.names(Hook.XDP, ["XDP_TX", "Pass", " pass "]) == ("pass", "tx")
    assert verdicts.numbers(Hook.XDP, ["redirect", "aborted", "drop"]) == (0, 1, 4)
    assert verdicts.names(Hook.TC_INGRESS, ["TC_ACT_SHOT", "pass", "continue", "trap"]) == (
        "unspec", "ok", "shot", "trap",
    )  # fmt: skip
    assert verdicts.numbers(Hook.TC_INGRESS, verdicts.known(Hook.TC_INGRESS)) == (
        -1, 3, 0, 1, 2, 4, 5, 6, 7, 8,
    )  # fmt: skip
    assert verdicts.names(Hook.XDP, ["none"]) == verdicts.names(Hook.XDP, []) == ()


@pytest.mark.parametrize(
    ("hook", "word", "hint"),
    [
        (Hook.XDP, "shot", "the verdicts are: aborted, drop, pass, redirect, tx"),
        (Hook.XDP, "pas", "did you mean pass?"),
        (Hook.XDP, "TC_ACT_OK", ""),
        (Hook.TC_INGRESS, "XDP_PASS", ""),
        (Hook.TC_INGRESS, "7", "unspec"),
        (Hook.XDP, "", "none"),
    ],
)
def test_what_is_no_verdict(hook: Hook, word: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        verdicts.numbers(hook, ["none", word])
    assert "verdict" in caught.value.message
    if hint:
        with pytest.raises(UsageError) as caught:
            verdicts.names(hook, [word])
        assert hint in (caught.value.hint or "")


# --- semantics ---


@pytest.mark.parametrize("hook", HOOKS)
def test_every_verdict_with_every_proceed_on(hook: Hook) -> None:
    """One packet for each: it goes on if the verdict is in the set, and is counted either way."""
    section = "xdp" if hook is Hook.XDP else "tc"
    known = verdicts.known(hook)
    numbers = [*known.values(), 9, 31, -2, 1 << 30]
    sets = [(), *((name,) for name in known), tuple(known), None]
    with Bench(hook) as bench:
        firsts = [bench.member(returning(number, section)) for number in numbers]
        last = bench.member(returning(known["tx" if hook is Hook.XDP else "trap"], section))
        ends = itertools.count(1)
        for number, first in zip(numbers, firsts, strict=True):
            name = next((name for name, value in known.items() if value == number), "other")
            for runs, chosen in enumerate(sets, 1):
                proceed = verdicts.numbers(hook, chosen)
                part = Part(first.name, first.spec, first.program, first.image, proceed, first.slot)
                goes_on = number in proceed
                expected = known["tx" if hook is Hook.XDP else "trap"] if goes_on else number
                assert bench.verdict(part, last) == expected, (number, chosen)
                assert bench.counts(first) == {name: runs}
                if goes_on:
                    assert bench.number(last) == next(ends)


def test_only_the_last_verdict_of_those_who_hand_on_counts(bench: Bench) -> None:
    parts = [
        bench.member(returning(number), proceed=["tx", "drop", "aborted"]) for number in (3, 1, 0)
    ]
    assert bench.verdict(*parts) == 0
    assert [bench.counts(one) for one in parts] == [{"tx": 1}, {"drop": 1}, {"aborted": 1}]


def test_counts_are_exact_over_many_runs(bench: Bench) -> None:
    parts = [bench.member(returning(2)) for _ in range(5)]
    bench.run(bench.build(*parts), repeat=200_000)
    assert [bench.counts(one) for one in parts] == [{"pass": 200_000}] * 5
    assert [bench.number(one) for one in parts] == [200_000] * 5


def test_one_member(bench: Bench) -> None:
    part = bench.member(returning(1))
    assert bench.verdict(part) == 1
    assert bench.counts(part) == {"drop": 1}


@pytest.mark.parametrize("atomic", [False, True])
def test_both_ways_of_adding(bench: Bench, monkeypatch: pytest.MonkeyPatch, atomic: bool) -> None:
    """The atomic one is for PREEMPT_RT."""
    name = os.uname()
    version = "#1 SMP PREEMPT_RT" if atomic else "#1 SMP PREEMPT_DYNAMIC"
    fake = types.SimpleNamespace(machine=name.machine, release=name.release, version=version)
    monkeypatch.setattr(os, "uname", lambda: fake)
    asked: list[object] = []
    assemble = dispatching.assemble

    def watched(*args: Any, **options: Any) -> dispatching.Dispatcher:
        asked.append(options["atomic"])
        return assemble(*args, **options)

    monkeypatch.setattr(linking, "assemble", watched)
    parts = [bench.member(returning(2)), bench.member(returning(9), proceed=["tx"])]
    assert bench.verdict(*parts, repeat=1000) == 9
    assert [bench.counts(one) for one in parts] == [{"pass": 1000}, {"other": 1000}]
    assert asked == [atomic]


# --- many ---


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("number", [64, 200])
def test_many_members(hook: Hook, number: int) -> None:
    """Each has a map, and a program has no more than 64; each counts its own."""
    section, word = ("xdp", 2) if hook is Hook.XDP else ("tc", -1)
    with Bench(hook) as bench:
        spec = bench.spec(returning(word, section))
        parts = [bench.member(spec) for _ in range(number)]
        chain = bench.build(*parts)
        assert len(chain.hold) == 1
        assert bench.run(chain, repeat=100).retval == word & 0xFFFFFFFF
        name = "pass" if hook is Hook.XDP else "unspec"
        assert [bench.counts(one) for one in parts] == [{name: 100}] * number
        assert [bench.number(one) for one in parts] == [100] * number


def test_an_emptied_array_drops_what_would_go_on(bench: Bench) -> None:
    spec = bench.spec(returning(2))
    parts = [bench.member(spec) for _ in range(70)]
    chain = bench.build(*parts)
    chain.hold[0].delete(bytes(4))
    assert bench.run(chain).retval == 0
    assert bench.counts(parts[0]) == {"pass": 1}
    assert bench.counts(parts[-1]) == {}


def test_members_that_share_maps_need_no_second_program(bench: Bench) -> None:
    spec = bench.spec(returning(2))
    first = bench.member(spec)
    parts = [first] + [
        bench.member(spec, reuse={".bss": bench.map(first, ".bss")}) for _ in range(99)
    ]
    chain = bench.build(*parts)
    assert not chain.hold
    bench.run(chain, repeat=3)
    assert bench.number(first) == 300


# --- what a chain is ---


def test_it_says_what_it_is(bench: Bench) -> None:
    part = bench.member(returning(2))
    said = [{"name": "a \u00e4 \n", "n": [1, 2.5, None]}]
    with build([part], Hook.XDP, bench.counters, description=said) as chain:
        assert read(chain.info) == (bench.counters.id, said)
        assert chain.info.name == "netbpf_chain"
    with build([part], Hook.XDP, bench.counters) as chain:
        assert read(chain.info) is None


@pytest.mark.parametrize(
    "first",
    [
        "netbpf.chain/9 [1,2]",
        "netbpf.chain/1 ",
        "netbpf.chain/1 [",
        'netbpf.chain/1 ["1",2]',
        "netbpf.chain/1 [1]",
    ],
)
def test_what_others_have_for_a_first_string(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    chain = bench.build(bench.member(returning(2)))
    strings = b"\0" + first.encode() + b"\0int\0"
    monkeypatch.setattr(description, "btf_by_id", lambda _: types.SimpleNamespace(strings=strings))
    assert read(chain.info) is None


def test_a_number_that_is_no_verdict_may_hand_on_too(bench: Bench) -> None:
    first, last = bench.member(returning(40)), bench.member(returning(2))
    odd = Part(first.name, first.spec, first.program, first.image, (40, -7), first.slot)
    assert bench.verdict(odd, last) == 2
    assert bench.counters.read()[:10] == ({"other": 1}, {"pass": 1}, *({},) * 8)


def test_no_descriptor_stays_open() -> None:
    with nothing_left_open(), Bench() as bench:
        parts = [bench.member(returning(2)) for _ in range(3)]
        bench.build(*parts).close()
        spec = bench.spec(returning(2))
        bench.build(*[bench.member(spec) for _ in range(70)]).close()


def test_frags_only_if_all_members_take_them(bench: Bench) -> None:
    able = [bench.member(returning(2, "xdp.frags"), f"able{n}") for n in range(2)]
    unable = bench.member(returning(2), "unable")
    assert frags(able) == (("able0", "able1"), ())
    assert frags([*able, unable]) == (("able0", "able1"), ("unable",))
    for parts, taken in ((able, True), ([*able, unable], False)):
        assert takes_frags(bench, bench.build(*parts)) is taken


def takes_frags(bench: Bench, chain: Chain) -> bool:
    """Prog arrays hold programs of one kind in this respect; the first decides."""
    spec = bench.spec(returning(2, "xdp.frags"))
    fd = sys_bpf.map_create(MapType.PROG_ARRAY, 4, 4, 2)
    with Map(fd) as array, load(spec, spec.select(Hook.XDP), Hook.XDP) as first:
        array.update(bytes(4), first.program.fd.fileno().to_bytes(4, "little"))
        try:
            array.update(b"\1\0\0\0", chain.fd.fileno().to_bytes(4, "little"))
        except KernelError as error:
            return error.errno != errno.EINVAL
    return True


def test_no_members_and_one_slot_twice(bench: Bench) -> None:
    part = bench.member(returning(2))
    for parts in ([], [part, part]):
        with pytest.raises(UsageError):
            bench.build(*parts)


# --- counters ---


def test_counters_are_found_by_their_id() -> None:
    with Counters.create(Hook.XDP) as made:
        with Counters.by_id(made.id, Hook.XDP) as found:
            assert found.id == made.id
            assert found.read() == ({},) * SLOTS
        with pytest.raises(ObjectError, match="does not hold the counters"):
            Counters.by_id(made.id, Hook.TC_INGRESS)
        number = made.id
    eventually(lambda: not exists("MAP", number), "the counters stay")
    with pytest.raises(NotAttachedError):
        Counters.by_id(number, Hook.XDP)


def test_what_all_cpus_counted_is_summed(bench: Bench) -> None:
    layout = verdicts.layout(Hook.XDP)
    value = bytearray(bench.counters.map.entry_size)
    stride = len(value) // possible_cpus()
    for cpu in range(possible_cpus()):
        at = cpu * stride + 3 * layout.stride + layout.index(1) * 8
        value[at : at + 8] = (10**12 + cpu).to_bytes(8, "little")
    bench.counters.map.update(bytes(4), bytes(value))
    expected = sum(10**12 + cpu for cpu in range(possible_cpus()))
    assert bench.counters.read()[3] == {"drop": expected}
    assert counters.since({"drop": expected, "pass": 3}, {"drop": 2, "pass": 3}) == {
        "drop": expected - 2
    }


def test_verdicts_are_named_in_their_own_order_whatever_cpu_saw_one_first(bench: Bench) -> None:
    layout, known = verdicts.layout(Hook.XDP), verdicts.known(Hook.XDP)
    wanted = [name for name, number in sorted(known.items(), key=lambda item: item[1])]
    for turned in (False, True):
        names: list[str] = []
        value = bytearray(bench.counters.map.entry_size)
        stride = len(value) // possible_cpus()
        for cpu in range(possible_cpus()):
            names = wanted[cpu % 2 :: 2] if turned else wanted[(cpu + 1) % 2 :: 2]
            for name in names:
                at = cpu * stride + layout.index(known[name]) * 8
                value[at : at + 8] = (1).to_bytes(8, "little")
        bench.counters.map.update(bytes(4), bytes(value))
        counts = bench.counters.read()[0]
        assert list(counts) == [name for name in wanted if name in counts]
        assert len(counts) == (len(wanted) if possible_cpus() > 1 else len(names))


def test_a_slot_is_used_again_as_late_as_can_be(bench: Bench) -> None:
    taken = {0, 1, 2}
    assert bench.counters.free_slot(taken) == (3, {})
    part = bench.member(returning(2))
    used = Part(part.name, part.spec, part.program, part.image, part.proceed, 7)
    bench.verdict(used, repeat=5)
    assert bench.counters.free_slot(taken) == (8, {})
    assert bench.counters.free_slot(set(range(8, SLOTS))) == (0, {})
    assert bench.counters.free_slot(set(range(SLOTS)) - {7}) == (7, {"pass": 5})
    with pytest.raises(NetbpfError, match="256 members at most"):
        bench.counters.free_slot(range(SLOTS))


# --- laying in ---


def test_what_is_not_laid_in() -> None:
    exit_ = bpf.Insn(bpf.EXIT).pack()
    uses = [bpf.Insn(bpf.MOV64_IMM, register).pack() for register in range(10)]
    assert inlined(b"".join(uses[:8]) + exit_)
    assert inlined(uses[0] + uses[8] + uses[9] + exit_)
    assert inlined(b"".join(uses[6:9]) + exit_) is None  # three registers to save
    assert inlined(bpf.Insn(bpf.CALL, src=bpf.PSEUDO_CALL).pack() + exit_) is None
    assert inlined(bpf.Insn(bpf.CALL, imm=12).pack() + exit_) is None
    assert inlined(bpf.Insn(bpf.CALL, imm=5).pack() + exit_)
    assert inlined(bpf.Insn(0x30, imm=12).pack() + exit_) is None  # LD_ABS
    assert inlined(uses[0] * 4096 + exit_) is None
    assert inlined(bpf.Insn(bpf.LD_IMM64, 1, bpf.PSEUDO_FUNC).pack() + bytes(8) + exit_) is None


SAVES = """
__u64 seen;
SEC("xdp") int saves(struct xdp_md *ctx)
{
	__u32 first = bpf_get_smp_processor_id(), second;
	__u64 *at = &seen;
	asm volatile("" : "+r"(at));
	first ^= %d;
	second = bpf_get_smp_processor_id();
	*at += first ^ second;
	return XDP_PASS;
}
"""


def test_what_is_laid_in_keeps_off_the_dispatchers_registers(bench: Bench) -> None:
    """The verifier would refuse it, and netbpf then call it, without a word."""
    parts = [bench.member(SAVES % (number + 1)) for number in range(3)]
    for part in parts:
        laid = inlined(part.image.insns)
        assert laid
        for code, changed in ((part.image.insns, False), (laid, True)):
            plain = [one for _, one in instructions(code) if one.code not in (bpf.CALL, bpf.EXIT)]
            used = {one.dst for one in plain} | {
                one.src for one in plain if one.code != bpf.LD_IMM64
            }
            assert {6, 7} <= used
            assert not changed or not used & {8, 9}
    # The same with the highest registers in place of the lowest.
    swapped = bytearray(parts[0].image.insns)
    for index, one in instructions(parts[0].image.insns):
        dst, src = ({6: 9, 7: 8}.get(register, register) for register in (one.dst, one.src))
        bpf.write(swapped, index, one._replace(dst=dst, src=src))
    parts[0].image.insns[:] = swapped
    linked = linking.link(parts, Options(Hook.XDP, bench.counters.fileno()), (0, 1, 2))
    assert linked.starts[1:] == tuple(
        pair
        for number, (begin, end) in enumerate(_laid(linked.starts))
        for pair in ((begin, number), (end, -1))
    )
    made = submit(linked, explain=True)
    assert isinstance(made, Fd), made.log
    with made:
        sys_bpf.prog_test_run(made.fileno(), FRAME, repeat=100)
    assert [bench.number(one) for one in parts] == [100, 200, 300]
    assert [bench.counts(one) for one in parts] == [{"pass": 100}] * 3


def _laid(starts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(begin, end) for (begin, _), (end, _) in zip(starts[1::2], starts[2::2], strict=True)]


def test_frames() -> None:
    through = bpf.Insn(bpf.MOV64_REG, 1, 10).pack() + bpf.Insn(0x07, 1, imm=-40).pack()
    assert frame(through) == 40
    assert frame(bpf.Insn(0x7B, 10, 1, -24).pack() + bpf.Insn(0x79, 1, 10, -48).pack()) == 48
    assert frame(bpf.Insn(0x07, 1, imm=-400).pack()) == 0


# --- random chains against a model ---

WORDS = 4


@dataclass(frozen=True)
class Model:
    """A member as C and as Python: what it does to 4 words of the packet and to a state of its own."""

    steps: tuple[tuple[str, int, int], ...]
    outcomes: tuple[int, ...]
    function: bool

    def source(self, section: str) -> str:
        context = "xdp_md" if section == "xdp" else "__sk_buff"
        body = "\n".join(_C[kind].format(at=at, by=by) for kind, at, by in self.steps)
        how = "noinline" if self.function else "inline"
        work = f"static {how} __u32 work(__u32 *w) {{ {body} return w[0] ^ w[3]; }}"
        return f"""
__u64 state;
{work}
SEC("{section}") int member(struct {context} *ctx)
{{
	__u32 *at = (void *)(long)ctx->data, w[4], got;
	if ((void *)(at + 8) > (void *)(long)ctx->data_end)
		return -5;
	w[0] = at[4]; w[1] = at[5]; w[2] = at[6]; w[3] = at[7];
	got = work(w);
	at = (void *)(long)ctx->data;
	if ((void *)(at + 8) > (void *)(long)ctx->data_end)
		return -5;
	at[4] = w[0]; at[5] = w[1]; at[6] = w[2]; at[7] = w[3];
	state += got;
	switch (got % {len(self.outcomes)}) {{
	{" ".join(f"case {n}: return {value};" for n, value in enumerate(self.outcomes))}
	}}
	return 0;
}}
"""

    def run(self, words: list[int]) -> int:
        for kind, at, by in self.steps:
            _PYTHON[kind](words, at, by)
        return words[0] ^ words[3]


def _set(words: list[int], at: int, value: int) -> None:
    words[at] = value & 0xFFFFFFFF


def _loop(words: list[int], at: int, by: int) -> None:
    for i in range(5):
        _set(words, at, words[at] * 5 + by + i)


_C = {
    "add": "w[{at}] += {by}u;",
    "mix": "w[{at}] ^= w[({at} + {by}) & 3] * 2654435761u;",
    "if": "if (w[{at}] & 1) w[({at} + 1) & 3] -= {by}u; else w[({at} + 2) & 3] += 7;",
    "loop": "for (int i = 0; i < 5; i++) w[{at}] = w[{at}] * 5 + {by}u + i;",
}
_PYTHON: dict[str, Callable[[list[int], int, int], None]] = {
    "add": lambda w, at, by: _set(w, at, w[at] + by),
    "mix": lambda w, at, by: _set(w, at, w[at] ^ w[(at + by) & 3] * 2654435761),
    "if": lambda w, at, by: (
        _set(w, (at + 1) & 3, w[(at + 1) & 3] - by)
        if w[at] & 1
        else _set(w, (at + 2) & 3, w[(at + 2) & 3] + 7)
    ),
    "loop": _loop,
}


def random_model(chance: random.Random, hook: Hook) -> Model:
    numbers = [*verdicts.known(hook).values(), 40, -9]
    steps = tuple(
        (chance.choice(list(_C)), chance.randrange(4), chance.randrange(1 << 16))
        for _ in range(chance.randrange(1, 6))
    )
    outcomes = tuple(chance.choice(numbers) for _ in range(chance.randrange(1, 6)))
    return Model(steps, outcomes, chance.random() < 0.4)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("seed", range(4))
def test_random_chains(hook: Hook, seed: int) -> None:
    """Verdict, packet, counts and each member's own variable are what a model says, packet by packet."""
    chance = random.Random(seed)
    section = "xdp" if hook is Hook.XDP else "tc"
    known = verdicts.known(hook)
    with Bench(hook) as bench:
        models = [random_model(chance, hook) for _ in range(6)]
        specs = [bench.spec(model.source(section)) for model in models]
        for size in (*(chance.randrange(1, 10) for _ in range(8)), 80):
            picked = [chance.randrange(len(models)) for _ in range(size)]
            # In a long chain most hand on most, or nothing would get far.
            likely = 0.5 if size < 10 else 0.995
            parts = [
                bench.member(specs[n], proceed=[name for name in known if chance.random() < likely])
                for n in picked
            ]
            chain = bench.build(*parts)
            counted: list[dict[str, int]] = [{} for _ in parts]
            states = [0] * len(parts)
            for _ in range(25):
                words = [chance.randrange(1 << 32) for _ in range(WORDS)]
                frame_ = (
                    FRAME[:16] + b"".join(word.to_bytes(4, "little") for word in words) + FRAME[32:]
                )
                expected = 0
                for index, (part, n) in enumerate(zip(parts, picked, strict=True)):
                    got = models[n].run(words)
                    states[index] += got
                    expected = models[n].outcomes[got % len(models[n].outcomes)]
                    name = next(
                        (name for name, value in known.items() if value == expected), "other"
                    )
                    counted[index][name] = counted[index].get(name, 0) + 1
                    if expected not in part.proceed:
                        break
                done = bench.run(chain, frame_)
                assert done.retval == expected & 0xFFFFFFFF
                assert done.data[16:32] == b"".join(word.to_bytes(4, "little") for word in words)
            assert [bench.counts(one) for one in parts] == counted
            assert [bench.number(one) for one in parts] == states
            _reset(bench)


def _reset(bench: Bench) -> None:
    """A new set of counters: slots are few, and are never cleared."""
    bench.counters = bench.opened.enter_context(Counters.create(bench.hook))
    bench.slots = 0
