"""Signals that have to wait while the kernel works for long."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# What the user means to end or stop a process with, by default.
_ENDING: Final = frozenset({
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP,
})  # fmt: skip


@contextmanager
def held_back() -> Iterator[None]:
    """Within, no signal reaches this thread but those that end or stop a process; the others come afterwards.

    Any signal with a handler, such as a timer's, makes the verifier give up (EAGAIN) and test runs too (EINTR).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
