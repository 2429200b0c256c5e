"""Undoing what was done so far when a later step fails, and keeping Ctrl-C out of the middle of a step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import ParamSpec, Self

from netbpf.errors import InterfaceNotFoundError, NetbpfError, NotAttachedError

P = ParamSpec("P")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Undo:
    """Inverse steps, run last to first if the block ends with an exception; otherwise they go on to ``parent``.

    A step's inverse is given before the step is made, for a step can be made and yet fail (an answer that is lost).
    So an inverse has to be harmless where there is nothing to undo: NotAttachedError and InterfaceNotFoundError
    count as undone. What cannot be undone is said in the message of the error that started it.
    """

    def __init__(self, parent: "Undo | None" = None) -> None:
        self._parent = parent
        self._steps: list[Callable[[], object]] = []

    def callback(self, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """The inverse of the step that is made next."""
        self._steps.append(lambda: step(*args, **kwargs))

    def adopt(self, other: "Undo") -> None:
        """Take the steps of another one too."""
        self._steps.append(other.run)

    def run(self) -> list[str]:
        """Undo everything; what could not be undone."""
        failures: list[str] = []
        while self._steps:
            try:
                nested = self._steps.pop()()
                failures += nested if isinstance(nested, list) else ()
            except (NotAttachedError, InterfaceNotFoundError):
                continue
            except NetbpfError as error:
                failures.append(error.message)
            except OSError as error:
                failures.append(str(error))
        return failures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            if self._parent is not None:
                self._parent.adopt(self)
            return
        failures = self.run()
        if not failures:
            return
        text = f"not everything could be undone: {'; '.join(failures)}"
        if isinstance(error, NetbpfError):
            error.message += f"; {text}"
            error.hint = "netbpf status shows what is there; netbpf detach takes it off"
        else:
            error.add_note(text)


@contextmanager
def uninterrupted() -> Iterator[Callable[[], None]]:
    """Hold back SIGINT, SIGTERM and SIGHUP, where they would raise an exception, until the block ends.

    Gives a function to call where an exception does no harm: it lets a signal through that came meanwhile. An
    exception between a system call and the line that notes its success would leave a program attached that nobody
    knows of. Python runs signal handlers in the main thread only, so in others there is nothing to hold back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}

    def deliver() -> None:
        while came:
            number = came.pop(0)
            before[number](number, None)

    try:
        for one in _SIGNALS:
            handler = signal.getsignal(one)
            if callable(handler):
                before[one] = handler
                signal.signal(one, lambda number, _: came.append(number))
        yield deliver
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        deliver()
