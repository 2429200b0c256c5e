"""Measuring side by side: in every round each contestant runs once, so that what disturbs one disturbs all."""

import errno
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

_TRIES: Final = 20


class BenchmarkError(Exception):
    """A contestant that ran before failed, or the bed could not be made."""


def nothing() -> None:
    """For contestants that need no preparation."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do a line's job.

    ``before`` and ``after`` are not measured. With ``reads_own_clock`` the command prints the nanoseconds that count.
    ``extra`` marks what is measured for a calculation only. ``note`` says what the number includes.
    """

    who: str
    command: Sequence[str]
    before: Callable[[], None] = nothing
    after: Callable[[], None] = nothing
    reads_own_clock: bool = False
    extra: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One job. ``at_most`` is the aim for netbpf, in multiples of a bare ``python -c pass``.

    ``missing`` names peers that could take part but are not installed, and peers that cannot do this, with why.
    """

    name: str
    what: str
    contestants: tuple[Contestant, ...]
    at_most: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(slots=True)
class Times:
    """One contestant's seconds, a value per round; ``failure`` is why there are none."""

    contestant: Contestant
    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass(slots=True)
class Result:
    """One line's times, with those of a bare Python from the same rounds."""

    line: Line
    python: list[float]
    times: list[Times]

    def of(self, who: str) -> Times:
        """One contestant's times."""
        return next(one for one in self.times if one.contestant.who == who)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long: the median of the rounds, and the quartiles."""

    middle: float
    low: float
    high: float


def ratio(these: Sequence[float], those: Sequence[float]) -> Ratio:
    """Of each round's pair."""
    pairs = sorted(one / other for one, other in zip(these, those, strict=True))
    if len(pairs) == 1:
        return Ratio(pairs[0], pairs[0], pairs[0])
    low, middle, high = statistics.quantiles(pairs, n=4, method="inclusive")
    return Ratio(middle, low, high)


class Measurer:
    """Runs lines, with one environment for all commands and one bare Python for comparison."""

    def __init__(self, python: Sequence[str], environment: Mapping[str, str]) -> None:
        self._python = Contestant("python -c pass", python)
        self._environment = dict(environment)

    def run(self, line: Line, rounds: int) -> Result:
        """Measure ``rounds`` rounds after one that is not counted, which fills caches and finds who cannot do it."""
        python = Times(self._python)
        times = [Times(one) for one in line.contestants]
        for number in range(rounds + 1):
            running = [python, *(one for one in times if not one.failure)]
            turn = number % len(running)  # nobody always comes after the same one
            for one in running[turn:] + running[:turn]:
                try:
                    seconds = self._once(one.contestant)
                except BenchmarkError as error:
                    if number:
                        raise
                    one.failure = str(error)
                    continue
                if number:
                    one.seconds.append(seconds)
        return Result(line, python.seconds, times)

    def _once(self, contestant: Contestant) -> float:
        contestant.before()
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            start = time.perf_counter()
            code = subprocess.call(
                contestant.command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=self._environment
            )  # fmt: skip
            seconds = time.perf_counter() - start
            output.seek(0)
            errors.seek(0)
            own = output.read() if contestant.reads_own_clock and not code else ""
            problem = " ".join(errors.read()[-300:].split()) if code else ""
        contestant.after()
        if code:
            raise BenchmarkError(f"{contestant.who} ended with {code}: {problem or 'no message'}")
        return int(own) / 1e9 if contestant.reads_own_clock else seconds


def nanoseconds(program: int, packet: bytes, repeat: int, *, room: int = 0) -> int:
    """What a run on a packet takes, in the kernel: the mean of ``repeat``. With ``room`` bytes for the packet after it.

    Whatever stops this process for a moment ends the runs with EINTR: they are started again.
    """
    from netbpf._sys.bpf import prog_test_run
    from netbpf.errors import KernelError

    for _ in range(_TRIES - 1):
        try:
            return prog_test_run(program, packet, data_out_size=room, repeat=repeat).duration_ns
        except KernelError as error:
            if error.errno != errno.EINTR:
                raise
    return prog_test_run(program, packet, data_out_size=room, repeat=repeat).duration_ns
