"""``make demo``: exact, and clean after success, failure and Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netbpf.bpf import ids
from netbpf.state import records

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tools" / "demo.py"
BROKEN = """
import sys
sys.path.insert(0, {tools!r})
import demo
{change}
sys.exit(demo.main())
"""

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leak_check")]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )


def broken(change: str) -> subprocess.CompletedProcess[str]:
    """The demo with something in it changed."""
    return run("-c", BROKEN.format(tools=str(DEMO.parent), change=change))


def programs(output: str) -> set[int]:
    """The ids of the programs that were attached."""
    return {int(one) for one in re.findall(r"attached \(.*program (\d+)", output)}


def recorded(attached: set[int]) -> list[str]:
    return [
        one.interface
        for one in records.read_all()
        if any(generation.prog_id in attached for generation in one.generations)
    ]


def test_it_counts_exactly_and_leaves_nothing() -> None:
    done = run(DEMO)
    assert done.returncode == 0, done.stderr
    assert "Exact: 292 packets sent, and 48 numbers" in done.stdout
    assert "Nothing is left: 3 programs, 20 maps" in done.stdout
    attached = programs(done.stdout)
    assert len(attached) == 3
    assert not attached & set(ids.program_ids())
    assert not recorded(attached)


def test_one_packet_more_than_it_says_is_noticed() -> None:
    done = broken(
        "send = demo.Host.send\n"
        "demo.Host.send = lambda host, flows: [host.end.send(flows[0].packet), send(host, flows)][1]"
    )
    assert done.returncode == 1
    assert "demo: error: xdp_drop: packets of pass: 121 counted, but 120 expected" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_that_fails_ends_it() -> None:
    done = broken(
        "show = demo.Host.show\n"
        "demo.Host.show = lambda host, command: show(host, command.replace('xdp_count', 'xdp_cuont'))"
    )
    assert done.returncode == 1
    assert "netbpf: error:" in done.stderr
    assert "on client ended with exit code 3" in done.stderr
    assert not recorded(programs(done.stdout))


def test_what_is_left_is_named() -> None:
    done = broken(
        "demo.PATIENCE = 0.2\n"
        "show = demo.Host.show\n"
        "demo.Host.show = lambda host, command: 'detach' in command or show(host, command)"
    )
    assert done.returncode == 1
    assert re.search(r"left behind: program \d+, .*record of server0 xdp", done.stderr)
    run("-m", "netbpf", "status")  # sweeps what belonged to the namespaces


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_it_cleans_up(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, DEMO], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as demo:  # fmt: skip
        assert demo.stdout is not None
        assert demo.stderr is not None
        shown = ""
        while "The client sends" not in shown:  # all three programs are attached by then
            line = demo.stdout.readline()
            assert line, demo.stderr.read()
            shown += line
        os.killpg(demo.pid, number)  # as a terminal does, to the command that runs as well
        demo.stdout.read()
        errors = demo.stderr.read()
    assert demo.returncode == 128 + signal.SIGINT
    assert "demo: interrupted; everything is off again" in errors
    assert "Traceback" not in errors
    assert len(programs(shown)) == 3
    assert not recorded(programs(shown))
