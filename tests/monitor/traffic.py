"""Packets that provoke what goes wrong, and waiting until it is counted."""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from netbpf.listen.monitor import Monitor
from netbpf.listen.monitor_model import Count, Kind, Reading
from netns_fixtures.topology import End
from tests.cli.lab import Lab, frame, run_cli

SOURCE = Path(__file__).parent / "wrong.bpf.c"
PACKETS = 10
_PATIENCE = 20.0  # seconds; softirqs may be late on a busy machine


def send(end: End, what: str, number: int = PACKETS) -> None:
    """Packets that the program ``wrong`` treats as ``what`` says, from the other end of its wire."""
    end.send([frame(end, mark=ord(what) << 24 | at) for at in range(number)])


def attach(lab: Lab, compiled: bytes, *options: object, program: str = "wrong") -> None:
    """Put a program of wrong.bpf.c on dut0."""
    path = lab.directory / "wrong.o"
    path.write_bytes(compiled)
    lab("attach", "xdp", "dut0", path, "-n", program, *options)


def until(watching: Monitor, condition: Callable[[Reading], bool]) -> Reading:
    """Read until something is true: packets are dealt with a moment after they are sent."""
    patience = time.monotonic() + _PATIENCE
    while True:
        reading = watching.read()
        if condition(reading):
            return reading
        assert time.monotonic() < patience, reading
        select.select([], [], [], 0.005)


def counted(
    watching: Monitor, kind: Kind, number: int = PACKETS, matching: Callable[[Count], bool] = bool
) -> Count:
    """The one thing of a kind that happened to so many packets."""

    def those(reading: Reading) -> list[Count]:
        return [one for one in reading.counts if one.happening.kind is kind and matching(one)]

    found = those(until(watching, lambda reading: sum(c.packets for c in those(reading)) >= number))
    assert len(found) == 1, found
    assert found[0].packets == number
    return found[0]


@contextmanager
def quiet(lab: Lab) -> Iterator[Monitor]:
    """A monitor of dut0."""
    with Monitor("dut0", netns=lab.namespace) as watching:
        assert not watching.missing
        yield watching


@contextmanager
def passing(end: End) -> Iterator[None]:
    """A program that passes everything, on the far end of a wire."""
    there = f"/proc/{os.getpid()}/fd/{end.namespace.fileno()}"
    done = run_cli("attach", "xdp", end.ifname, "builtin:xdp_count", "--netns", there)
    assert done.code == 0, done.err
    yield
    assert run_cli("detach", "xdp", end.ifname, "--netns", there).code == 0
