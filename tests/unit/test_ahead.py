"""Reading ahead: in order, never further than it may, and at an end whatever happens."""

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from netbpf.ahead import ahead
from netbpf.errors import CaptureError


class Maker:
    """Gives numbers, and knows how many it gave. ``made`` lets one wait for that."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error = count, error
        self.given = 0
        self.closed = threading.Event()
        self.made = threading.Condition()

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                with self.made:
                    self.given += 1
                    self.made.notify()
                yield number
            if self.error:
                raise self.error
        finally:
            self.closed.set()

    def wait(self, given: int) -> None:
        with self.made:
            assert self.made.wait_for(lambda: self.given >= given, 20)


@pytest.mark.parametrize("most", [2, 4])
def test_some_are_made_while_those_before_them_are_used(most: int) -> None:
    maker, found = Maker(50), []
    with closing(ahead(maker.items(), most=most, stop=threading.Event())) as items:
        for number in items:
            maker.wait(min(number + most, 50))
            # What is in use may not be written over.
            assert maker.given <= number + most
            found.append(number)
    assert found == list(range(50))
    assert maker.closed.is_set()


def test_all_of_them_to_the_end() -> None:
    assert list(ahead(Maker(1000).items())) == list(range(1000))
    assert not list(ahead(Maker(0).items()))


def test_an_error_comes_behind_what_was_made() -> None:
    maker = Maker(3, CaptureError("damaged"))
    items = ahead(maker.items(), most=2, stop=threading.Event())
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(CaptureError, match="damaged"):
        next(items)


@pytest.mark.parametrize("stop", [None, threading.Event()], ids=["to the end", "with a stop"])
def test_who_stops_early_leaves_no_thread(stop: threading.Event | None) -> None:
    maker, before = Maker(1000), threading.active_count()
    with closing(ahead(maker.items(), most=2, stop=stop)) as items:
        assert next(items) == 0
    assert maker.closed.is_set()
    assert maker.given <= 3
    assert threading.active_count() == before


def test_threads_behind_each_other_end_together() -> None:
    maker, before = Maker(1000), threading.active_count()

    def doubled(numbers: Generator[int, None, None]) -> Generator[int, None, None]:
        with closing(numbers):
            for number in numbers:
                yield 2 * number

    with closing(ahead(doubled(ahead(maker.items())))) as numbers:
        assert [next(numbers), next(numbers), next(numbers)] == [0, 2, 4]
    assert maker.closed.is_set()
    assert threading.active_count() == before


def test_a_stop_is_seen_while_nothing_comes() -> None:
    stop, goes_on = threading.Event(), threading.Event()

    def silent() -> Generator[int, None, None]:
        yield 0
        stop.set()
        assert goes_on.wait(20)
        yield 1

    assert list(ahead(silent(), most=2, stop=stop)) in ([0], [])
    goes_on.set()
