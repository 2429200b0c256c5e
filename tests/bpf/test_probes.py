"""What the kernel is asked for, where it does not come to an answer."""

import errno
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.probing import ProgramProbe
from netbpf.bpf import probes
from netbpf.bpf.btf.kernel import kernel_btf
from netbpf.bpf.btf.types import Kind
from netbpf.constants import AttachType, MapType, ProgType
from netbpf.insight import instruction_sets

STORM = """
import os, signal, time
while os.getppid() == {pid}:
    os.kill({pid}, signal.SIGUSR1)
    time.sleep(0.0005)
"""


@pytest.fixture
def storm() -> Iterator[list[int]]:
    """Signals from another process, thousands a second; those that came in are noted."""
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    with subprocess.Popen([sys.executable, "-c", STORM.format(pid=os.getpid())]) as sender:
        try:
            yield seen
        finally:
            sender.kill()
            sender.wait()
            signal.signal(signal.SIGUSR1, before)


def test_signals_change_no_answer(storm: list[int]) -> None:
    """Each makes the verifier give up, and what it has said by then is no answer; asked again, it is."""
    (function,) = kernel_btf().find("bpf_prog_load", Kind.FUNC)
    probe = ProgramProbe()
    code = sys_bpf.ProgLoad(ProgType.XDP, probes.RETURN_ONE, "GPL")
    told: Counter[object] = Counter()
    loaded: Counter[int] = Counter()
    while len(storm) < 500:
        told[probes.kernel_function(probe, function.id, ProgType.XDP, AttachType.XDP).here] += 1
        fd, number, _ = sys_bpf.prog_load(code)
        loaded[number] += 1
        if fd:
            fd.close()
    assert set(told) == {False}
    assert set(loaded) == {0}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM, errno.EAGAIN, errno.EMFILE])
def test_a_failure_that_is_about_nothing_asked_is_no_answer(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys_bpf, "_syscall", lambda *_: -number)
    probe = ProgramProbe()
    xdp = (ProgType.XDP, AttachType.XDP)
    assert {
        probes.program_type(probe, *xdp).here,
        probes.helper(probe, 1, *xdp).here,
        probes.kernel_function(probe, 1, *xdp).here,
        probes.xdp_frags(probe),
        probes.large_programs(),
        probes.map_type(MapType.HASH).here,
        instruction_sets.accepts(probes.RETURN_ONE),
    } == {None}
