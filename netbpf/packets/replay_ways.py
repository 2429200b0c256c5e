"""Choosing how packets are sent through a program."""

from netbpf.constants import Hook
from netbpf.packets.batch import batch_runner
from netbpf.packets.replay_runner import Runner
from netbpf.packets.replay_single import SingleRunner
from netbpf.packets.testrun import Bench


def runner_of(bench: Bench, *, outputs: bool, few: bool = False) -> Runner:
    """The fastest way there is for a program. ``few`` packets are not worth loading it a second time."""
    batch = None
    if bench.hook is Hook.XDP and not few:
        batch = batch_runner(bench.loaded, outputs=outputs)
    return batch or SingleRunner(bench.fd, bench.hook, outputs=outputs)
