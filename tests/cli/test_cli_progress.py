"""Steps that take long show on a terminal that they are alive, and Ctrl-C ends them."""

import os
import pty
import select
import signal
import subprocess
import sys

from tests.cli.lab import ROOT, Lab

LONG = """
import select
from netbpf.cli.progress import patience
try:
    with patience("the verifier is working"):
        select.select([], [], [])
except KeyboardInterrupt:
    print("interrupted")
"""


def read_until(fd: int, text: str) -> str:
    shown = ""
    while text not in shown:
        ready, _, _ = select.select([fd], [], [], 20)
        assert ready, shown
        shown += os.read(fd, 65536).decode()
    return shown


def test_it_says_what_it_does_and_for_how_long() -> None:
    near, far = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", LONG], cwd=ROOT, stdout=subprocess.PIPE, stderr=far, text=True,
            env=os.environ | {"TERM": "xterm"},
        ) as running:  # fmt: skip
            shown = read_until(near, "0:00:01")
            assert "the verifier is working" in shown
            assert "Ctrl-C" in shown
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=20)
            assert out == "interrupted\n"
            # The line is wiped out and the cursor is back.
            assert read_until(near, "\x1b[?25h")
    finally:
        os.close(near)
        os.close(far)


def test_nobody_is_told_who_does_not_read(lab: Lab) -> None:
    done = lab.process("attach", "xdp", "dut0", lab.object("filter"))
    assert (done.code, done.err) == (0, "")
