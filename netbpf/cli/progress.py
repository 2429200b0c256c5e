"""Showing that a long step is alive."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_DELAY = 1.0  # seconds before anything is shown: most steps are done by then


@contextmanager
def patience(doing: str) -> Iterator[None]:
    """After a second, show on a terminal's standard error what is being done and for how long.

    The work stays in the calling thread, where Ctrl-C interrupts it; only the display has a thread.
    """
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(doing, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(doing: str, done: threading.Event) -> None:
    if done.wait(_DELAY):
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TextColumn("(Ctrl-C ends it)"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(doing, total=None)
        done.wait()


@contextmanager
def capture_bar(doing: str) -> Iterator[Callable[[int, int, int], None]]:
    """After a second, show on a terminal's standard error how far a capture is read; takes bytes, size and packets."""
    if not sys.stderr.isatty():
        yield lambda _read, _size, _packets: None
        return
    with ExitStack() as stack:
        yield _Bar(doing, stack)


@contextmanager
def count_bar(doing: str) -> Iterator[Callable[[int, int, float], None]]:
    """After a second, show on a terminal's standard error how many packets went; takes that, all (0: unknown), and
    seconds.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total, _seconds: None
        return
    with ExitStack() as stack:
        bar = _Bar(doing, stack)

        def show(done: int, total: int, seconds: float) -> None:
            bar(done, total, done, f", {done / seconds:,.0f}/s" if seconds else "")

        yield show


class _Bar:
    def __init__(self, doing: str, stack: ExitStack) -> None:
        self._doing, self._stack = doing, stack
        self._start = time.monotonic()
        self._shown: tuple[Progress, TaskID] | None = None

    def __call__(self, read: int, size: int, packets: int, more: str = "") -> None:
        if self._shown is None:
            if time.monotonic() - self._start < _DELAY:
                return
            self._shown = self._begin()
        bar, task = self._shown
        bar.update(task, total=size or None, completed=read, packets=f"{packets:,} packets{more}")

    def _begin(self) -> "tuple[Progress, TaskID]":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[packets]}"),
            TimeRemainingColumn(),
        )
        bar = self._stack.enter_context(
            Progress(*columns, console=Console(stderr=True), transient=True)
        )
        return bar, bar.add_task(self._doing, total=None, packets="")
