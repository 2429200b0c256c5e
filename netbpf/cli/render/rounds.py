"""Rounds of what is shown again and again."""

import itertools
import select
import time
from collections.abc import Iterator


def rounds(seconds: float, count: int | None) -> Iterator[int]:
    """Count rounds in step with the clock; those that were missed, while stopped by Ctrl-Z, are left out."""
    due = time.monotonic()
    for number in itertools.count():
        yield number
        if number + 1 == count:
            return
        due = max(due + seconds, time.monotonic())
        # Waits for nothing but the time: a signal ends it.
        select.select([], [], [], max(due - time.monotonic(), 0))
