"""Programs that are watched: they do what they did, and what is told of branches and maps is what happened."""

import random
from typing import Any

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf import insn as bpf
from netbpf.bpf.cover.active import collecting
from netbpf.bpf.cover.flow import Unknown
from netbpf.bpf.cover.insert import Around, insert
from netbpf.bpf.cover.outside import acts
from netbpf.bpf.cover.watcher import Branch, Seen, Watcher
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import ExternRef, Image
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import MapType
from netbpf.packets.testrun import Bench
from tests.bpf.chain_lab import FRAME
from tests.bpf.cover_random import PACKET, Machine, Writer
from tests.bpf.test_cover import _content, plain_spec, request, submit
from tests.support.compiling import CLANGS, compile_c, compile_object
from tests.support.descriptors import nothing_left_open


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    """Verdicts, and which branches were met; no register is free in them to look at values."""
    choose = random.Random(seed)
    made = Writer(choose, deep=choose.choice([48, 200])).write(2, choose.choice([6, 12, 18]))
    packets = [choose.randbytes(PACKET) for _ in range(4)] + [bytes(PACKET)]
    image = made.image()
    if submit(image, False).errno:
        with Watcher() as watcher:
            assert watcher.instrument(*plain_spec(), image, submit) is image
        return
    with Watcher() as watcher:
        watched = watcher.instrument(*plain_spec(), image, submit)
        assert watched is not image
        before, _, _ = sys_bpf.prog_load(request(image))
        after, _, _ = sys_bpf.prog_load(request(watched))
        assert before
        assert after
        with before, after:
            for packet in packets:
                watcher.clear()
                ours, theirs = (
                    sys_bpf.prog_test_run(one.fileno(), packet, data_out_size=PACKET)
                    for one in (before, after)
                )
                assert ours[:2] == theirs[:2]
                seen = watcher.seen()
                jumps = [at for at in Machine(made, packet).order if _branches(image, at)]
                assert len(seen.branches) == len(jumps)


def _branches(image: Image, at: int) -> bool:
    one = bpf.read(image.insns, at)
    return one.code & 7 in (5, 6) and one.code & 0xF0 not in (0x00, 0x80, 0x90)


def _holds(one: Branch) -> None:
    """Of the values at a branch that was looked at holds what is said to hold."""
    found = one.compared
    if found is None:
        return
    left, right = found.left, found.right
    if not found.constant or found.sign in ("&", "& not"):
        left, right = (value & (1 << found.bits) - 1 for value in (left, right))
    if found.sign in ("&", "& not"):
        assert bool(left & right) is (found.sign == "&")
        return
    if found.constant and left >= 0 and right < 0:
        right &= (1 << found.bits) - 1
    holds: dict[str, bool] = {
        "==": left == right, "!=": left != right, "<": left < right, "<=": left <= right,
        ">": left > right, ">=": left >= right,
    }  # fmt: skip
    assert holds[found.sign], one


@pytest.mark.parametrize("clang", [CLANGS[0], CLANGS[-1]])
@pytest.mark.parametrize(
    ("name", "program"),
    [
        *(("subprograms", one) for one in ("callee", "first", "second", "deep")),
        *(("callbacks", one) for one in ("loop", "each", "both")),
        *(("assembly", one) for one in ("calls", "loads")),
        ("tail_calls", "entry"), ("globals", None), ("maps", None), ("locks", None),
    ],
)  # fmt: skip
def test_every_kind_of_code(clang: str, name: str, program: str | None) -> None:
    """Verdicts, packets and maps are those of the program as it is, and nothing is missing."""
    data = compile_object(name, clang=clang)
    program = program or ObjectSpec(data).programs[0].name
    with nothing_left_open(), Watcher() as watcher:
        with collecting(watcher):
            copy = Bench.open(data, program=program)
        with copy, Bench.open(data, program=program) as plain:
            ours, theirs = plain.run(FRAME), copy.run(FRAME)
            assert (ours.verdict, ours.data) == (theirs.verdict, theirs.data)
            for at, one in plain.loaded.maps.items():
                if one.info.type != MapType.PROG_ARRAY:  # which holds ids
                    assert _content(one) == _content(copy.loaded.maps[at])
        seen = watcher.seen()
        assert seen.ran
        for branch in seen.branches:
            _holds(branch)


MAPS = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
struct wide { __u8 a[200]; };
struct value { struct bpf_spin_lock lock; __u32 number; };
#define MAP(name, kind, key_type, value_type, n) struct { __uint(type, BPF_MAP_TYPE_##kind); \\
    __uint(max_entries, n); __type(key, key_type); __type(value, value_type); } name SEC(".maps")
MAP(numbers, HASH, __u64, __u32, 4);
MAP(cpus, PERCPU_ARRAY, __u32, __u64, 2);
MAP(wides, HASH, struct wide, __u16, 4);
MAP(locked, HASH, __u32, struct value, 4);
MAP(one, HASH, __u32, __u32, 1);
__u32 second = 2;
SEC("tc") int asks(struct __sk_buff *skb)
{
    __u64 key = 0x1122334455667788;
    __u32 value = 9, index = 1, other = 7;
    struct wide wide = {};
    struct value *found, some = {.number = 3};
    bpf_map_update_elem(&numbers, &key, &value, BPF_ANY);
    bpf_map_lookup_elem(&numbers, &key);
    bpf_map_delete_elem(&numbers, &key);
    bpf_map_delete_elem(&numbers, &key);
    bpf_map_lookup_elem(&cpus, &index);
    bpf_map_lookup_elem(&wides, &wide);
    bpf_map_update_elem(&locked, &other, &some, BPF_ANY);
    found = bpf_map_lookup_elem(&locked, &other);
    if (found && found->number != 3)
        return 3;
    bpf_map_update_elem(&one, &index, &value, BPF_ANY);
    bpf_map_update_elem(&one, &other, &value, BPF_ANY);
    bpf_map_lookup_elem(skb->mark == second ? (void *)&one : (void *)&locked, &index);
    bpf_clone_redirect(skb, 1, 0);
    return TC_ACT_OK;
}
SEC("tc") int many(struct __sk_buff *skb)
{
    __u32 *found, sum = 0;
    for (__u64 key = 0; key < 300; key++)
        if ((found = bpf_map_lookup_elem(&numbers, &key)))
            sum += *found;
    return sum;
}
char _license[] SEC("license") = "GPL";
"""


def _asked(seen: Seen) -> list[tuple[Any, ...]]:
    return [
        (one.what.site.does.value, one.what.site.map, one.what.key, one.what.value, one.what.result)
        for one in seen.touches
    ]


def test_what_is_asked_of_maps() -> None:
    with Watcher() as watcher:
        with collecting(watcher):
            copy = Bench.open(compile_c(MAPS), program="asks", hook=None)
        with copy:
            assert copy.run(FRAME).verdict == 0
            seen = watcher.seen()
            key, two = bytes.fromhex("8877665544332211"), (1).to_bytes(4, "little")
            found = _asked(seen)
            assert found[0] == ("update", "numbers", key, None, 0)
            assert found[1][:4] == ("lookup", "numbers", key, (9).to_bytes(4, "little"))
            assert found[2:4] == [
                ("delete", "numbers", key, None, 0), ("delete", "numbers", key, None, -2),
            ]  # fmt: skip
            assert found[4][:4] == ("lookup", "cpus", two, bytes(8))
            # A key of 200 bytes is not written down.
            assert found[5] == ("lookup", "wides", None, None, 0)
            # Of a value with a lock in it the verifier lets nobody read all.
            assert found[7][:4] == ("lookup", "locked", (7).to_bytes(4, "little"), None)
            assert found[7][4] != 0
            assert [one[4] for one in found[8:10]] == [0, -7]
            # Which of two maps it is, nobody sees in the code.
            assert found[10][:3] == ("lookup", "", None)
            assert len(found) == 11
            # A clone would be sent in earnest.
            [note] = watcher.notes
            assert "bpf_clone_redirect of asks is not carried out" in note
            assert any(one.compared for one in seen.branches)
            for branch in seen.branches:
                _holds(branch)


def test_kernel_functions_that_act() -> None:
    """Those that are called are named, once each; not those that only look, nor a weak one that the kernel lacks."""
    called = Insn(bpf.CALL, src=bpf.PSEUDO_KFUNC_CALL, imm=7)
    calls = (
        ("bpf_ct_insert_entry", called),
        ("bpf_ct_insert_entry___mine", called),
        ("bpf_ct_release", called),
        ("bpf_ct_change_timeout", called._replace(src=0, imm=2002000003)),
        ("bpf_ct_change_status", called),
    )
    externs = [ExternRef(at, name, True, True) for at, (name, _) in enumerate(calls)]
    image = Image(bytearray(b"".join(one.pack() for _, one in calls)), externs=externs)
    assert [note.split()[0] for note in acts("x", image)] == [
        "bpf_ct_insert_entry",
        "bpf_ct_change_status",
    ]


def test_more_than_can_be_kept() -> None:
    with (
        Watcher() as watcher,
        collecting(watcher),
        Bench.open(compile_c(MAPS), program="many") as copy,
    ):
        copy.run(FRAME)
        seen = watcher.seen()
        assert seen.touches_lost == 300 - 256
        assert seen.touches[-1].what.key == (299).to_bytes(8, "little")
        assert [one.what.key for one in seen.touches] == [
            number.to_bytes(8, "little") for number in range(44, 300)
        ]
        watcher.clear()
        assert not watcher.seen().touches


def test_insert_moves_what_leads_elsewhere() -> None:
    nothing = Insn(bpf.MOV64_REG)
    code = bytearray()
    for one in (Insn(0x55, 1, off=1), Insn(bpf.LD_IMM64, 2), Insn(0), Insn(bpf.EXIT)):
        code += one.pack()
    with pytest.raises(Unknown, match="leads to 2, where no instruction begins"):
        insert(Image(code), {})
    bpf.write(code, 0, Insn(0x55, 1, off=2))
    _, moved = insert(Image(code), {1: Around([nothing] * 3, [nothing] * 2)})
    assert moved == {0: 0, 1: 4, 3: 8}
    far = bytearray(Insn(0x55, 1, off=1).pack() + nothing.pack() + Insn(bpf.EXIT).pack())
    with pytest.raises(Unknown, match="40001 instructions far"):
        insert(Image(far), {1: Around([nothing] * 40_000)})
    assert bpf.read(insert(Image(far), {1: Around([nothing] * 9)})[0].insns, 0).off == 10
