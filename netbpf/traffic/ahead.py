"""Making things ahead of whoever uses them, in a thread."""

import threading
from collections.abc import Generator
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")
_LOOK: Final = 0.1  # seconds between looks whether to stop
_GRACE: Final = (
    0.5  # seconds for the thread's end, which takes a millisecond where it does not wait for a pipe
)


def ahead(
    items: Generator[T, None, None], stop: threading.Event, most: int
) -> Generator[T, None, None]:
    """The items, made by another thread while those before them are in use; until ``stop`` is set.

    At most ``most`` exist at a time, the one in use among them, which is over when the next is asked for. What making
    them raises is raised behind the last one. When this iterator is closed, the thread has ended, unless it waits for
    a pipe: then it ends with the process, or when the pipe has something for it.
    """
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

    maker = threading.Thread(target=make, name="netbpf-read", daemon=True)
    maker.start()
    try:
        while not stop.is_set():
            try:
                found = made.get(timeout=_LOOK)
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
        maker.join(_GRACE)
