"""Reading ahead: what a thread reads from the kernel while the last of it is being written."""

import threading
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")
_AHEAD = 8  # items at most that wait to be taken


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The items, in their order, made in a thread of their own; what they raise is raised here.

    The thread has ended when this generator has, also when it is closed early (``contextlib.closing``).
    """
    from queue import SimpleQueue

    ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(_AHEAD)
    done = threading.Event()

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    room.acquire()
                    if done.is_set():
                        return
                    ready.put((item,))
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who takes the items
            ready.put(error)

    thread = threading.Thread(target=make, name="netbpf-ahead", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            room.release()
            yield found[0]
    finally:
        done.set()
        room.release()
        thread.join()
