"""Captures in a lab: by the library in this process, or by the command in one of its own."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import netbpf
from netbpf.constants import Hook
from netbpf.tap.model import CapturedPacket
from netbpf.tap.session import Capture
from tests.cli.lab import Lab
from tests.cli.test_cli_chain_traffic import Way

DEADLINE = 20.0  # seconds


def hooks(way: Way) -> tuple[Hook, ...]:
    """The hook of a way."""
    if way.kind == "xdp":
        return (Hook.XDP,)
    return (Hook.TC_EGRESS if way.egress else Hook.TC_INGRESS,)


def capture(lab: Lab, filter: str = "", way: Way | None = None, **options: Any) -> Capture:  # noqa: A002
    """A capture on dut0, or ``interface``."""
    given = {"interface": "dut0", "buffer": 1, "netns": lab.namespace, **options}
    return netbpf.capture(
        given.pop("interface"), filter, hooks(way) if way else tuple(Hook), **given
    )


def taken(capture: Capture, count: int) -> list[CapturedPacket]:
    """So many packets, or an error."""
    found: list[CapturedPacket] = []
    end = time.monotonic() + DEADLINE
    for batch in capture.batches():
        found += batch
        if len(found) >= count:
            return found
        assert time.monotonic() < end, f"{len(found)} of {count} came"
    raise AssertionError(f"it ended: {capture.summary()}")


def rest(capture: Capture) -> list[CapturedPacket]:
    """What is left after the end."""
    capture.stop()
    return [one for batch in capture.batches() for one in batch]


@contextmanager
def command(lab: Lab, *words: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """``netbpf capture`` in a process of its own, once it captures; it is ended afterwards if it has not."""
    with lab.spawn("capture", *words, **options) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        assert line.startswith("capturing on"), line + running.stderr.read()
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def signs() -> list[str]:
    """What captures have left in the state directory."""
    return os.listdir(os.environ["NETBPF_STATE_DIR"] + "/taps")


def program(lab: Lab) -> int:
    """The id of what runs on the one hook; 0 for nothing."""
    found = lab.hooks("dut0")
    return int(found[0]["program"]["id"]) if found else 0


def eventually(lab: Lab, prog_id: int) -> None:
    """What another process does in its own time."""
    end = time.monotonic() + DEADLINE
    while program(lab) != prog_id:
        assert time.monotonic() < end, lab.hooks("dut0")
