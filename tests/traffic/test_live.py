"""XDP frames: how the kernel is asked for them, and that each is what it should be."""

import platform
import resource
import threading
from contextlib import closing

import pytest

import netbpf
from netbpf.errors import PermissionDeniedError
from netbpf.net.netns import Namespace
from netbpf.traffic.live import LiveSender
from netbpf.traffic.outlet import Outlet
from netbpf.traffic.pace import Flood
from tests.cli.lab import Lab
from tests.traffic.test_send import ARP


def refuse(cls: type[Namespace]) -> Namespace:
    raise PermissionDeniedError("no permission to create a network namespace")


def shortest_wait(lab: Lab) -> int:
    """How often a call of 100 frames slept, of several the least: page pools may have to wait for memory."""

    def sleeps() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        sender._call(ARP, 100)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    with (
        Outlet.open("dut0", lab.namespace) as outlet,
        closing(LiveSender.open(outlet, [ARP], None, None, 1000, 64)) as sender,
    ):
        return lab.namespace.run(lambda: min(sleeps() for _ in range(5)))


def test_a_call_waits_for_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program stays in the kernel's dispatcher between calls: none has to wait for all processors (RCU)."""
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    assert shortest_wait(lab) == 0
    monkeypatch.setattr(Namespace, "create", classmethod(refuse))
    # Other machines have no dispatcher (arch/x86/net/bpf_jit_comp.c).
    assert shortest_wait(lab) > 0 or platform.machine() != "x86_64"


def test_who_may_make_no_namespace_sends_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    monkeypatch.setattr(Namespace, "create", classmethod(refuse))
    result = netbpf.send("dut0", ARP, count=700, rate=0, xdp=True, netns=lab.namespace)
    assert (result.sent, result.warnings) == (700, ())


def test_bytes_of_frames_of_several_lengths(lab: Lab) -> None:
    """Also where it ends in the middle of a round."""
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    frames = [ARP, ARP.ljust(1000, b"\0"), ARP.ljust(300, b"\0")]
    result = netbpf.send("dut0", frames, count=8, rate=0, xdp=True, netns=lab.namespace)
    assert (result.sent, result.bytes) == (8, 3 * 60 + 3 * 1000 + 2 * 300)


def test_what_the_kernel_refuses_is_counted(lab: Lab) -> None:
    """The MTU becomes smaller meanwhile: long frames do not come as far as the driver."""
    lab.run("ethtool", "-K", "peer0", "gro", "on", at=lab.wire.peer)
    frames = [ARP, ARP.ljust(1000, b"\0")]
    with (
        Outlet.open("dut0", lab.namespace) as outlet,
        closing(LiveSender.open(outlet, frames, None, None, 11, 64)) as sender,
    ):
        lab.run("ip", "link", "set", "dut0", "mtu", "500", at=lab.wire.dut)
        sender.run(Flood(), threading.Event())
        assert (sender.sent, sender.dropped) == (6, 5)
