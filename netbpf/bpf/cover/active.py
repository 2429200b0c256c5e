"""Whether programs are to be instrumented as they are loaded, and by whom.

The loader asks; nobody else need know. So whatever loads programs while a collector is in use, a run, a chain, an
attachment, is covered.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec, ProgramSpec


class Answer(NamedTuple):
    """What the kernel says of a program: 0 or an errno, and the verifier's log."""

    errno: int
    log: str


# Asks the verifier about code; with True also for its statistics (a few lines).
Submit = Callable[[Image, bool], Answer]


class Instrument(Protocol):
    """What makes an instrumented copy of a program's code."""

    def instrument(
        self, spec: ObjectSpec, program: ProgramSpec, image: Image, submit: Submit
    ) -> Image:
        """The code to load in place of ``image``; ``image`` itself where the verifier takes no other."""


_active: ContextVar[Instrument | None] = ContextVar("netbpf_cover", default=None)


def active() -> Instrument | None:
    """What instruments programs now, if anything does."""
    return _active.get()


@contextmanager
def collecting(by: Instrument | None) -> Iterator[None]:
    """Instrument every program that this thread loads meanwhile; with None, none."""
    token = _active.set(by)
    try:
        yield
    finally:
        _active.reset(token)


def start(by: Instrument | None) -> None:
    """The same until it is called with None: for whoever cannot keep a block open."""
    _active.set(by)
