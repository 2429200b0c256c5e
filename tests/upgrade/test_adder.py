"""The generated program alone: what it changes, what it leaves, and that nothing comes in between."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.carry.adder import Adder, Edit, How, on_cpu, operand
from netbpf.constants import Hook
from tests.upgrade.lab import PACKET, Lab, Running, program

COUNT = "__sync_fetch_and_add"
KEY = (1).to_bytes(4, "little")


@contextmanager
def busy(running: Running) -> Iterator[list[int]]:
    """A program that runs on another CPU all the time; the list says how often once it has ended."""
    stop, ran = threading.Event(), [0]
    cpus = sorted(os.sched_getaffinity(0))

    def run() -> None:
        os.sched_setaffinity(0, {cpus[-1]})
        while not stop.is_set():
            sys_bpf.prog_test_run(running.fd, PACKET, repeat=500)
            ran[0] += 500

    thread = threading.Thread(target=run)
    with on_cpu(cpus[0]):
        thread.start()
        try:
            yield ran
        finally:
            stop.set()
            thread.join()


def test_additions_are_atomic(lab: Lab) -> None:
    """More runs than could ever miss each other by luck."""
    body = f"for (int i = 0; i < 200; i++) {COUNT}(&a, 1)"
    running = lab.old(program(body, "__u64 a;", section="tc"), hook=Hook.TC_INGRESS)
    edits = [Edit(How.ADD, 0, 8)] * 1000
    with Adder(running.map(".bss"), edits) as adder, busy(running) as ran:
        for _ in range(200):
            assert adder.run(bytes(4), [operand(edits[0], 1)] * 1000)
    assert running.variables()["a"] == 200 * ran[0] + 200 * 1000


def test_the_lock_is_taken(lab: Lab) -> None:
    text = "struct v { struct bpf_spin_lock lock; __u32 s; __u64 n; }; MAP(m, ARRAY, 8, __u32, struct v);"
    body = f"""__u32 k = 1; struct v *v = bpf_map_lookup_elem(&m, &k); if (!v) return 0;
    bpf_spin_lock(&v->lock); {"v->s += 1; barrier();" * 40} bpf_spin_unlock(&v->lock)"""
    text = '#define barrier() asm volatile("" ::: "memory")\n' + text
    running = lab.old(program(body, text, section="tc"), hook=Hook.TC_INGRESS)
    edits = [Edit(How.ADD, 4, 4)] * 500
    with Adder(running.map("m"), edits, lock=0) as adder, busy(running) as ran:
        for _ in range(300):
            adder.run(KEY, [operand(edits[0], 1)] * 500)
    assert running.entries("m")[1]["s"] == 40 * ran[0] + 300 * 500


@pytest.fixture
def bytes_of(lab: Lab) -> Running:
    """A section of 64 bytes."""
    return lab.old(program("USE(a)", "char a[64];"))


def edited(running: Running, edit: Edit, *values: int | bytes) -> bytes:
    with Adder(running.map(".bss"), [edit]) as adder:
        assert adder.run(bytes(4), [operand(edit, *values)])  # type: ignore[arg-type]
    return running.raw(".bss")


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("offset", [0, 8, 9, 13])
def test_an_addition_changes_nothing_else(bytes_of: Running, size: int, offset: int) -> None:
    start = bytes(range(64))
    bytes_of.write(".bss", start)
    found = edited(bytes_of, Edit(How.ADD, offset, size), -1)
    was = int.from_bytes(start[offset : offset + size], "little")
    now = ((was - 1) % (1 << 8 * size)).to_bytes(size, "little")
    assert found == start[:offset] + now + start[offset + size :]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 21, 40])
@pytest.mark.parametrize("offset", [0, 3, 8])
def test_a_swap_needs_all_bytes(bytes_of: Running, size: int, offset: int) -> None:
    start = bytes(range(100, 164))
    new = bytes(size)
    expected = start[offset : offset + size]
    edit = Edit(How.SWAP, offset, size)
    for at in range(size):
        bytes_of.write(".bss", start)
        other = bytearray(expected)
        other[at] ^= 0x80
        assert edited(bytes_of, edit, new, bytes(other)) == start
    bytes_of.write(".bss", start)
    assert edited(bytes_of, edit, new, expected) == start[:offset] + new + start[offset + size :]


def test_a_swap_of_bits_leaves_their_neighbours(bytes_of: Running) -> None:
    bytes_of.write(".bss", b"\xa5\x5a".ljust(64, b"\xff"))
    edit = Edit(How.SWAP, 0, 2, mask=b"\xf0\x0f")
    assert edited(bytes_of, edit, b"\x10\x02", b"\xa0\x0b")[:2] == b"\xa5\x5a"
    assert edited(bytes_of, edit, b"\x10\x02", b"\xa0\x0a")[:3] == b"\x15\x52\xff"


def test_the_later_time_stays(bytes_of: Running) -> None:
    edit = Edit(How.LATER, 8, 8)
    bytes_of.write(".bss", bytes(8) + (5 << 60).to_bytes(8, "little") + bytes(48))
    assert edited(bytes_of, edit, 7)[8:16] == (5 << 60).to_bytes(8, "little")
    assert edited(bytes_of, edit, 13 << 60)[8:16] == (13 << 60).to_bytes(8, "little")


def test_an_entry_that_is_not_there_is_told(lab: Lab) -> None:
    running = lab.old(program("USE(m)", "MAP(m, HASH, 8, __u32, __u64);"))
    edit = Edit(How.ADD, 0, 8)
    with Adder(running.map("m"), [edit]) as adder:
        assert not adder.run(KEY, [operand(edit, 1)])
        running.put("m", 1, bytes(8))
        assert adder.run(KEY, [operand(edit, 5)])
    assert running.entries("m") == {1: 5}


def test_values_behind_32_kilobytes(lab: Lab) -> None:
    running = lab.old(program("USE(a)", "__u64 a[40000];"))
    edits = [Edit(How.ADD, 8 * at, 8) for at in (0, 5000, 39999)]
    with Adder(running.map(".bss"), edits) as adder:
        adder.run(bytes(4), [operand(one, number) for number, one in enumerate(edits, 1)])
    found = running.variables()["a"]
    assert (found[0], found[5000], found[39999], sum(found)) == (1, 2, 3, 6)
