"""Perf buffers: what programs wrote, what was lost, and who else reads."""

import os
import random
import select
from collections.abc import Iterator

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.map import Map
from netbpf.bpf.perfbuf import PerfBuffer
from netbpf.bpf.perfring import online_cpus
from netbpf.bpf.perfslots import occupied
from netbpf.errors import HookBusyError, UsageError
from tests.listen.sending import Outputs, outputs


@pytest.fixture(scope="module")
def loaded() -> Iterator[Outputs]:
    with outputs() as found:
        yield found


def padded(size: int) -> int:
    """Length as the kernel rounds it: with its own 4 bytes a multiple of 8."""
    return (size + 4 + 7 & ~7) - 4


def test_records_with_cpu_and_time(loaded: Outputs) -> None:
    import time

    with PerfBuffer(loaded.map("perf")) as perf, select.epoll() as poll:
        poll.register(perf.fileno(), select.EPOLLIN)
        assert poll.poll(0) == []
        before = time.monotonic_ns()
        for size in range(1, 20):
            loaded.perf(bytes(range(size)))
        assert poll.poll(0)
        found = perf.read()
        assert [len(one.data) for one in found] == [padded(size) for size in range(1, 20)]
        assert all(one.data[:size] == bytes(range(size)) for size, one in enumerate(found, 1))
        times = [one.time_ns for one in found]
        assert times == sorted(times)
        assert before < times[0] < times[-1] < time.monotonic_ns()
        assert {one.cpu for one in found} <= {*online_cpus()}
        assert (perf.read(), perf.pending, perf.lost, perf.records) == ([], 0, 0, 19)
        assert poll.poll(0) == []


def test_around_the_end_and_with_a_limit(loaded: Outputs) -> None:
    numbers = random.Random(7)
    with PerfBuffer(loaded.map("perf"), pages=1) as perf:
        for _ in range(200):
            data = numbers.randbytes(numbers.randint(1, 400))
            loaded.perf(data, times=4)
            found = perf.read(1) + perf.read()
            while (
                len(found) < 4
            ):  # what is left where the runs were on several CPUs, with one read of each
                found += perf.read()
            assert [one.data[: len(data)] for one in found] == [data] * 4
        assert perf.lost == 0


def test_lost_records_are_the_programs_failures(loaded: Outputs) -> None:
    with PerfBuffer(loaded.map("perf"), pages=1) as perf:
        before = loaded.lost
        loaded.perf(b"x" * 100, times=1000)
        kept = len(perf.read())
        assert 0 < kept < 100
        assert perf.lost == loaded.lost - before == 1000 - kept


def test_lost_records_where_the_kernel_only_tells_them_in_between(
    loaded: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.0 the event has no count; PERF_RECORD_LOST comes before the next record."""
    with PerfBuffer(loaded.map("perf"), pages=1) as perf:
        for one in perf._buffers:
            monkeypatch.setattr(one, "_counts", False)
        loaded.perf(b"x" * 100, times=1000)
        kept = len(perf.read())
        assert perf.lost == 0
        allowed = os.sched_getaffinity(0)
        try:
            for cpu in allowed:  # each that lost some tells so before one more record
                os.sched_setaffinity(0, {cpu})
                loaded.perf(b"x", times=1)
        finally:
            os.sched_setaffinity(0, allowed)
        perf.read()
        assert perf.lost == 1000 - kept


def test_a_reader_is_not_cut_off(loaded: Outputs) -> None:
    one = loaded.map("perf")
    assert occupied(one, range(one.info.max_entries)) == []
    with PerfBuffer(one) as first:
        assert occupied(one, range(one.info.max_entries)) == online_cpus()
        with pytest.raises(
            HookBusyError, match=r"perf buffer perf \(map \d+\) already has a reader"
        ):
            PerfBuffer(one)
        loaded.perf(b"for the first")
        assert len(first.read()) == 1
        with PerfBuffer(one, take_over=True) as second:
            loaded.perf(b"for the second")
            assert (len(first.read()), len(second.read())) == (0, 1)
    # Slots are emptied with the reader, though the map itself is still open.
    assert occupied(one, range(one.info.max_entries)) == []


def test_slots_are_asked_without_writing_into_them(loaded: Outputs) -> None:
    one = loaded.map("perf")
    with PerfBuffer(one) as perf:
        occupied(one, range(one.info.max_entries))
        assert (perf.pending, perf.lost) == (0, 0)


def test_other_maps_and_sizes_are_refused(loaded: Outputs) -> None:
    with pytest.raises(UsageError, match=r"map ring is no perf event array"):
        PerfBuffer(loaded.map("ring"))
    with pytest.raises(UsageError, match=r"a power of two of pages, not 3"):
        PerfBuffer(loaded.map("perf"), pages=3)


def test_the_map_may_be_closed_first(loaded: Outputs) -> None:
    opened = Map(sys_bpf.fd_by_id("MAP", loaded.map("perf").info.id))
    with PerfBuffer(opened) as perf:
        opened.close()
        loaded.perf(b"still")
        assert [one.data[:5] for one in perf.read()] == [b"still"]
