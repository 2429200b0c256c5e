"""Reading ahead: in order, never further than two, and at an end whatever happens."""

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from netbpf.errors import CaptureError
from netbpf.traffic.ahead import ahead


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


def test_one_is_made_while_the_one_before_it_is_used() -> None:
    maker, found = Maker(50), []
    with closing(ahead(maker.items(), threading.Event())) as items:
        for number in items:
            maker.wait(min(number + 2, 50))
            # What is in use may not be written over.
            assert maker.given <= number + 2
            found.append(number)
    assert found == list(range(50))
    assert maker.closed.is_set()


def test_an_error_comes_behind_what_was_made() -> None:
    maker = Maker(3, CaptureError("damaged"))
    items = ahead(maker.items(), threading.Event())
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(CaptureError, match="damaged"):
        next(items)


def test_who_stops_early_leaves_no_thread(own_leaks: None) -> None:
    maker = Maker(1000)
    with closing(ahead(maker.items(), threading.Event())) as items:
        assert next(items) == 0
    assert maker.closed.is_set()
    assert maker.given <= 3


def test_a_stop_is_seen_while_nothing_comes() -> None:
    stop, goes_on = threading.Event(), threading.Event()

    def silent() -> Generator[int, None, None]:
        yield 0
        stop.set()
        assert goes_on.wait(20)
        yield 1

    assert list(ahead(silent(), stop)) in ([0], [])
    goes_on.set()
