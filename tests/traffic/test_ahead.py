"""Reading ahead: in order, never further than it may, and at an end whatever happens."""

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


@pytest.mark.parametrize("most", [2, 4])
def test_some_are_made_while_those_before_them_are_used(most: int) -> None:
    maker, found = Maker(50), []
    with closing(ahead(maker.items(), threading.Event(), most)) as items:
        for number in items:
            maker.wait(min(number + most, 50))
            # What is in use may not be written over.
            assert maker.given <= number + most
            found.append(number)
    assert found == list(range(50))
    assert maker.closed.is_set()


def test_an_error_comes_behind_what_was_made() -> None:
    maker = Maker(3, CaptureError("damaged"))
    items = ahead(maker.items(), threading.Event(), 2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(CaptureError, match="damaged"):
        next(items)


def test_who_stops_early_leaves_no_thread(own_leaks: None) -> None:
    maker = Maker(1000)
    with closing(ahead(maker.items(), threading.Event(), 2)) as items:
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

    assert list(ahead(silent(), stop, 2)) in ([0], [])
    goes_on.set()
