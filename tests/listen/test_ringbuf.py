"""Ring buffers: what programs wrote is what is read, in any state of the buffer, and counts are true."""

import random
import select
import threading
from collections.abc import Iterator

import pytest

from netbpf.bpf.map import Map
from netbpf.bpf.ringbuf import RingBuffer
from netbpf.errors import UsageError
from tests.listen.sending import Outputs, outputs


@pytest.fixture(scope="module")
def loaded() -> Iterator[Outputs]:
    with outputs() as found:
        yield found


@pytest.fixture
def ring(loaded: Outputs) -> Iterator[RingBuffer]:
    with RingBuffer(loaded.map("ring")) as found:
        while found.read():
            pass
        yield found


def ready(reader: RingBuffer) -> bool:
    with select.epoll() as poll:
        poll.register(reader.fileno(), select.EPOLLIN)
        return bool(poll.poll(0))


def test_records_come_as_written_and_discarded_ones_are_counted(
    loaded: Outputs, ring: RingBuffer
) -> None:
    assert not ready(ring)
    loaded.ring(b"a")
    loaded.discard()
    loaded.ring(b"longer than one word", times=2)
    assert ready(ring)
    assert ring.pending == 16 + 32 + 2 * 32
    assert ring.read() == [b"a", b"longer than one word", b"longer than one word"]
    assert (ring.read(), ring.pending, ring.records, ring.discarded) == ([], 0, 3, 1)
    assert not ready(ring)


def test_every_length_around_the_end(loaded: Outputs, ring: RingBuffer) -> None:
    """The position goes several times around 4096 bytes, with records over the end at every alignment."""
    numbers = random.Random(6)
    for _ in range(300):
        data = numbers.randbytes(numbers.randint(1, 400))
        loaded.ring(data, times=3)
        assert ring.read() == [data] * 3
    assert (ring.full, ring.disturbed, ring.missed) == (0, 0, 0)


def test_a_limit_leaves_the_rest(loaded: Outputs, ring: RingBuffer) -> None:
    for number in range(5):
        loaded.ring(bytes([number]))
        loaded.discard()
    assert ring.read(2) == [b"\0", b"\1"]
    assert ring.read(2) == [b"\2", b"\3"]
    assert ring.read(2) == [b"\4"]
    assert ring.discarded == 5


def test_a_record_that_wakes_nobody_is_read(loaded: Outputs, ring: RingBuffer) -> None:
    loaded.ring(b"quiet", quiet=True)
    assert ring.read() == [b"quiet"]


def test_a_flood_loses_what_the_program_says_and_is_seen_as_full(
    loaded: Outputs, ring: RingBuffer
) -> None:
    before = loaded.lost
    loaded.ring(b"x" * 100, times=1000)
    kept = len(ring.read())
    assert kept == 4095 // 112
    assert loaded.lost - before == 1000 - kept
    assert ring.full == 0  # no record was known yet, so none was known not to fit
    loaded.ring(b"x" * 100, times=1000)
    assert len(ring.read()) == kept
    assert ring.full == 1
    # There is room again, for exactly as many.
    loaded.ring(b"y" * 100, times=kept)
    assert len(ring.read()) == kept


def test_producers_and_reader_at_once(loaded: Outputs, ring: RingBuffer) -> None:
    """Two threads write while one reads: each record whole, each writer's in order, none twice, the rest counted."""
    before, written = loaded.lost, 3000

    def write(letter: bytes) -> None:
        for number in range(written):
            size = 4 + number % 90
            loaded.ring(letter + number.to_bytes(4, "little") + letter * size)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    found: list[bytes] = []
    while any(one.is_alive() for one in threads):
        found += ring.read()
    found += ring.read()
    for letter in (b"a", b"b"):
        numbers = []
        for one in found:
            if one[:1] == letter:
                number = int.from_bytes(one[1:5], "little")
                assert one[5:] == letter * (4 + number % 90)
                numbers.append(number)
        assert numbers == sorted(set(numbers))
    assert len(found) + loaded.lost - before == 2 * written
    assert ring.disturbed == 0


def test_a_passive_reader_takes_nothing_away(loaded: Outputs, ring: RingBuffer) -> None:
    with RingBuffer(loaded.map("ring"), passive=True) as beside:
        loaded.ring(b"both")
        assert beside.read() == [b"both"]
        assert beside.read() == []
        assert ring.read() == [b"both"]
        # The reader is faster for a whole round of the buffer: what was missed is known, and what follows is whole.
        for _ in range(3):
            loaded.ring(b"z" * 400, times=5)
            assert len(ring.read()) == 5
        loaded.ring(b"after")
        assert beside.read() == [b"after"]
        assert beside.missed == 15 * 408
        assert ring.read() == [b"after"]
        assert ring.disturbed == 0


def test_a_second_reader_is_noticed(loaded: Outputs, ring: RingBuffer) -> None:
    loaded.ring(b"one")
    with RingBuffer(loaded.map("ring")) as other:
        assert other.read() == [b"one"]
    loaded.ring(b"two")
    assert ring.read() == [b"two"]
    assert ring.disturbed == 1


@pytest.mark.parametrize("nonsense", [3, 1 << 40, 1 << 63, 1])
def test_a_position_that_is_nonsense_harms_nobody(
    loaded: Outputs, ring: RingBuffer, nonsense: int
) -> None:
    """Whoever has the map open for writing can write anything to the reader's position."""
    loaded.ring(b"before", times=3)
    with RingBuffer(loaded.map("ring")) as other:
        other._taken[0] = nonsense
    found = ring.read()
    assert all(one == b"before" for one in found)
    assert ring.disturbed
    loaded.ring(b"afterwards")
    assert ring.read() == [b"afterwards"]


def test_a_position_within_a_record_is_left(loaded: Outputs, ring: RingBuffer) -> None:
    """The bytes there are taken for a header; a length that reaches behind the producer is no header."""
    loaded.ring(b"\xff\xff\xff\x0f" * 20)
    ring._taken[0] += 16
    ring.read()
    assert ring.disturbed == 2
    loaded.ring(b"afterwards")
    assert ring.read() == [b"afterwards"]


def test_other_maps_are_refused(loaded: Outputs) -> None:
    with pytest.raises(UsageError, match=r"map perf is no ring buffer"):
        RingBuffer(loaded.map("perf"))


def test_the_map_may_be_closed_first(loaded: Outputs) -> None:
    with Map(loaded.map("ring").fd.duplicate()) as opened:
        first = RingBuffer(opened)
    with first:
        loaded.ring(b"still")
        assert first.read()[-1] == b"still"
    first.close()  # twice does no harm
