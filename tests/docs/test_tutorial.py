"""docs/tutorial.md: what its session cannot compare, because it differs from run to run."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from netbpf import layout
from tests.cli.conftest import private
from tests.cli.lab import run_cli
from tests.docs.session import parse

__all__ = ["private"]

PAGE = parse((Path(__file__).parents[2] / "docs/tutorial.md").read_text())


def test_no_other_tool_looks_into_programs() -> None:
    commands = "\n".join(step.command for step in PAGE.steps)
    for tool in ("bpftool", "readelf", "objdump", "tcpdump", "trace_pipe", "cat "):
        assert tool not in commands


def test_the_map_of_kills_has_victim_and_sender(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What attach auto pins is the whole host's: here it is in a BPF file system of this test alone.
    monkeypatch.setattr(layout, "BPFFS", private / "none")
    Path("kills.bpf.c").write_text(PAGE.files["kills.bpf.c"])
    assert run_cli("attach", "auto", "kills.bpf.c").code == 0
    try:
        [group] = run_cli("status", "--json").json["auto"]
        [number] = group["programs"][0]["program"]["map_ids"]
        victim = subprocess.Popen(["sleep", "1000"])
        os.kill(victim.pid, signal.SIGTERM)
        assert run_cli("map", "lookup", number, victim.pid).code != 0
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        found = run_cli("map", "lookup", number, victim.pid)
    finally:
        assert run_cli("detach", "auto").code == 0
    assert found.out.endswith(f" ({os.getpid()})\n"), found.err
