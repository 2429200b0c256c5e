"""What packets are sent through, and how."""

from collections.abc import Callable
from dataclasses import dataclass

from netbpf.bpf.loader import Loaded
from netbpf.constants import Hook
from netbpf.live.reader import OpenMap
from netbpf.packets.batch import batch_runner
from netbpf.packets.replay_runner import Runner
from netbpf.packets.replay_single import SingleRunner
from netbpf.packets.testrun import Bench

Shares = dict[str, dict[str, int]]


def alone() -> Shares:
    """What there is to say of the members of a program that has none."""
    return {}


@dataclass(frozen=True, slots=True)
class Target:
    """A program in the kernel that is on no hook: ``fd``. The caller owns it and its maps.

    ``loaded`` is None for what was not loaded from one object, a chain. ``maps`` are by the names they are shown by.
    ``shares`` says how often each member of a chain gave which verdict.
    """

    name: str
    hook: Hook
    fd: int
    loaded: Loaded | None
    maps: dict[str, OpenMap]
    notes: tuple[str, ...] = ()
    shares: Callable[[], Shares] = alone

    @classmethod
    def of(cls, bench: Bench) -> "Target":
        """The program of an object."""
        return cls(bench.program, bench.hook, bench.fd, bench.loaded, bench.maps(), bench.notes)


def runner_of(target: Target, *, outputs: bool, few: bool = False) -> Runner:
    """The fastest way there is for a program. ``few`` packets are not worth loading it a second time."""
    batch = None
    if target.loaded and target.hook is Hook.XDP and not few:
        batch = batch_runner(target.loaded, outputs=outputs)
    return batch or SingleRunner(target.fd, target.hook, outputs=outputs)
