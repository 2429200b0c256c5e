"""Ctrl-C, SIGTERM, SIGHUP and SIGPIPE at the command line: in order, with the right exit code, and no traceback."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netbpf import api
from netbpf.state.lock import locked
from tests.faults.lab import ROOT, Lab
from tests.support.compiling import CLANGS, compile_object
from tests.support.waiting import eventually

ENDS = {
    "SIGINT": (signal.SIGINT, 130, "netbpf: interrupted\n"),
    "SIGTERM": (signal.SIGTERM, 143, ""),
    "SIGHUP": (signal.SIGHUP, 129, ""),
}
each_signal = pytest.mark.parametrize(("number", "code", "words"), ENDS.values(), ids=ENDS)


@contextmanager
def started(lab: Lab, *words: str, **env: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*lab.command, *words, "--netns", lab.path], cwd=ROOT, env={**os.environ, **env}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def has_open(process: "subprocess.Popen[str]", end: str) -> bool:
    """Whether a process has a file open whose name ends like that."""
    found = []
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except OSError:
            continue  # closed meanwhile
    return any(name.endswith(end) for name in found)


def interrupt(
    process: "subprocess.Popen[str]", number: int, when: Callable[[], object]
) -> tuple[int, str, str]:
    eventually(when, "it did not come so far")
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err.lstrip("\n")  # a new line after the terminal's ^C


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that keeps the verifier busy for a million instructions."""
    path = tmp_path_factory.mktemp("endless") / "endless.bpf.o"
    path.write_bytes(compile_object("endless"))
    return path


@each_signal
def test_while_the_verifier_works(
    lab: Lab, endless: Path, number: int, code: int, words: str
) -> None:
    with started(lab, "attach", "xdp", "v0", str(endless)) as process:
        # The types are loaded directly before the program.
        ended = interrupt(process, number, lambda: has_open(process, "anon_inode:btf"))
    assert ended == (code, "", words)
    lab.assert_nothing_left()


@each_signal
@pytest.mark.parametrize("command", ["attach xdp v0 builtin:xdp_globals", "detach xdp v0"])
def test_while_waiting_for_the_lock(
    lab: Lab, command: str, number: int, code: int, words: str
) -> None:
    with locked(), started(lab, *command.split()) as process:
        ended = interrupt(process, number, lambda: has_open(process, "/state/lock"))
    assert ended == (code, "", words)
    lab.assert_nothing_left()


@each_signal
def test_while_the_compiler_works(
    lab: Lab, tmp_path: Path, number: int, code: int, words: str
) -> None:
    """The compiler is ended too, and no temporary file is left."""
    marker = tmp_path / "pid"
    compiler = tmp_path / "clang"
    compiler.write_text(
        f"""#!/bin/sh
case "$*" in *slow.bpf.c*) echo $$ > {marker}.new; mv {marker}.new {marker}; exec sleep 1000 ;; esac
exec {CLANGS[0]} "$@"
"""
    )
    compiler.chmod(0o755)
    source = tmp_path / "slow.bpf.c"
    source.write_text((ROOT / "xdp" / "xdp_globals.bpf.c").read_text())
    temporary, cache = tmp_path / "tmp", tmp_path / "cache"
    temporary.mkdir()
    words_of = ("attach", "xdp", "v0", str(source), "--clang", str(compiler))
    with started(lab, *words_of, TMPDIR=str(temporary), NETBPF_CACHE_DIR=str(cache)) as process:
        ended = interrupt(process, number, marker.exists)
    assert ended == (code, "", words)
    assert not Path("/proc", marker.read_text().strip()).exists()
    assert list(temporary.iterdir()) == []
    assert list(cache.iterdir()) == []
    lab.assert_nothing_left()


@pytest.fixture
def attached(lab: Lab) -> Lab:
    api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
    return lab


@each_signal
def test_while_watching(attached: Lab, number: int, code: int, words: str) -> None:
    """Ctrl-C between two rounds is the ordinary end."""
    with started(attached, "stats", "v0", "--watch", "1000", "--json") as process:
        assert process.stdout is not None
        # The first round is out when it waits for the second; its line comes when the stream is flushed.
        ended, _, err = interrupt(process, number, lambda: sleeps(process))
    assert ended in ({0, 130} if number == signal.SIGINT else {code})
    assert err in ("", words)
    assert [one.managed for one in attached.status()] == [True]


def sleeps(process: "subprocess.Popen[str]") -> bool:
    """Whether it waits in select(2) or pselect6(2), whose first argument is 0: no descriptor."""
    try:
        words = Path(f"/proc/{process.pid}/syscall").read_text().split()
    except OSError:
        return False
    return len(words) > 2 and words[0] in ("23", "270", "72") and words[1] == "0x0"


def test_nobody_reads_any_more(attached: Lab) -> None:
    """``| head -1`` ends --watch at its next line."""
    done = attached.cli(
        "stats", "v0", "--watch", "0.05", "--json",
        before=("bash", "-c", '"$@" | head -1; echo "${PIPESTATUS[0]}"', "bash"), timeout=60,
    )  # fmt: skip
    first, status = done.stdout.splitlines()
    assert first.startswith('{"schema":"netbpf.stats/1"')
    assert status == "141"
    assert done.stderr == ""


def test_nohup(attached: Lab) -> None:
    """Who ignores SIGHUP goes on."""
    before = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    with locked():
        process = subprocess.Popen(
            [*before, *attached.command, "detach", "xdp", "v0", "--netns", attached.path],
            cwd=ROOT, text=True, stdout=subprocess.PIPE,
        )  # fmt: skip
        eventually(lambda: has_open(process, "/state/lock"), "it does not wait")
        process.send_signal(signal.SIGHUP)
    with process:
        process.communicate(timeout=10)
    assert process.returncode == 0
    attached.assert_nothing_left()
