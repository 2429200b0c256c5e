"""Showing that a long step is alive."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
