"""Making things ahead of whoever uses them, in a thread: for what leaves Python to others while it waits or works."""

import threading
from collections.abc import Generator
from contextlib import closing
from typing import Final, TypeVar

T = TypeVar("T")
_LOOK: Final = 0.1  # seconds between looks whether to stop
_GRACE: Final = (
    0.5  # seconds for the end of a thread that may wait for a pipe; else it takes a millisecond
)


def ahead(
    items: Generator[T, None, None], *, most: int = 8, stop: threading.Event | None = None
) -> Generator[T, None, None]:
    """The items, made by another thread while those before them are in use; until ``stop`` is set, if there is one.

    At most ``most`` exist at a time, the one in use among them, which is over when the next is asked for. What making
    them raises is raised behind the last one. When this iterator is closed, the thread has ended; only where there is
    a ``stop`` it may still wait for a pipe: then it ends with the process, or when the pipe has something for it.
    """
    from queue import Empty, SimpleQueue

    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(most)
    over = threading.Event()

    def make() -> None:
        last: BaseException | None = None
        try:
            with closing(items):
                while room.acquire() and not over.is_set():
                    made.put((next(items),))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are used
            last = error
        made.put(last)

    maker = threading.Thread(target=make, name="netbpf-ahead", daemon=True)
    maker.start()
    try:
        while stop is None or not stop.is_set():
            try:
                found = made.get(timeout=_LOOK if stop is not None else None)
            except Empty:
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found[0]
            room.release()
    finally:
        over.set()
        room.release()
        maker.join(_GRACE if stop is not None else None)
