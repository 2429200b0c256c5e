"""A thread that makes items ahead: in order, with its errors, and gone when nobody takes them any more."""

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from netbpf.errors import ObjectError
from netbpf.insight.ahead import ahead


class Source:
    """Numbers without end; ``closed`` when nobody wants more."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = False
        self.thread: threading.Thread | None = None

    def numbers(self) -> Generator[int, None, None]:
        self.thread = threading.current_thread()
        try:
            while True:
                self.made += 1
                yield self.made
        finally:
            self.closed = True


def test_all_items_in_their_order() -> None:
    assert list(ahead(number for number in range(1000))) == list(range(1000))
    assert not list(ahead(number for number in range(0)))


def test_what_the_thread_raises_is_raised_where_the_items_are_taken() -> None:
    def broken() -> Generator[int, None, None]:
        yield 1
        raise ObjectError("no more")

    numbers = ahead(broken())
    assert next(numbers) == 1
    with pytest.raises(ObjectError, match="no more"):
        next(numbers)


def test_who_stops_early_ends_the_thread() -> None:
    source = Source()
    with closing(ahead(source.numbers())) as numbers:
        assert [next(numbers) for _ in range(3)] == [1, 2, 3]
    assert source.closed
    assert source.made < 100  # it does not run away from who takes them
    assert source.thread is not None
    assert not source.thread.is_alive()


def test_threads_behind_each_other_end_together() -> None:
    source = Source()

    def doubled(numbers: Generator[int, None, None]) -> Generator[int, None, None]:
        with closing(numbers):
            for number in numbers:
                yield 2 * number

    with closing(ahead(doubled(ahead(source.numbers())))) as numbers:
        assert [next(numbers), next(numbers)] == [2, 4]
    assert source.closed
    assert source.thread is not None
    assert not source.thread.is_alive()
