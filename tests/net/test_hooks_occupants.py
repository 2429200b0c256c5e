import errno
import subprocess
import sys
from collections.abc import Callable, Container

import pytest

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf.constants import Hook, Mode, ProgType
from netbpf.model import Interface, Occupant, TcFilter
from netbpf.net import devices, netlink, tc, tcx, xdp
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session

Ip = Callable[[str], str]
Load = Callable[..., Fd]
ProgId = Callable[[Fd], int]
INGRESS, EGRESS = Hook.TC_INGRESS, Hook.TC_EGRESS


def test_an_empty_namespace(session: Session) -> None:
    assert occupants(session) == []
    assert occupants(session, 1) == []
    assert occupants(session, 4242) == []


def test_everything_in_running_order(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, run: Ip
) -> None:
    peer = resolve(session, "v1")
    in_xdp, on_peer = load(), load()
    classic = [load(ProgType.SCHED_CLS) for _ in range(3)]
    modern = [load(ProgType.SCHED_CLS) for _ in range(2)]
    tc.ensure_clsact(session, veth)
    run("tc filter add dev v0 ingress prio 7 protocol ip u32 match u32 0 0 classid 1:1")
    late = tc.attach(session, veth, INGRESS, classic[0].fileno(), name="late", priority=60)
    early = tc.attach(session, veth, INGRESS, classic[1].fileno(), name="early", priority=10)
    out = tc.attach(session, veth, EGRESS, classic[2].fileno(), name="out", priority=1)
    xdp.attach(session, veth, in_xdp.fileno(), Mode.NATIVE)
    space = session.namespace
    with (
        xdp.attach_link(session, peer, on_peer.fileno(), Mode.SKB),
        tcx.attach_link(space, veth, INGRESS, modern[0].fileno()),
        tcx.attach_link(space, veth, INGRESS, modern[1].fileno()),
    ):
        (peer_link,) = [one.link_id for one in xdp.query(session, peer)]
        links = [one.link_id for one in tcx.query(space, veth, INGRESS).programs]
        near = [
            Occupant(veth, Hook.XDP, Mode.NATIVE, prog_id(in_xdp)),
            Occupant(veth, INGRESS, Mode.TCX, prog_id(modern[0]), links[0], position=0),
            Occupant(veth, INGRESS, Mode.TCX, prog_id(modern[1]), links[1], position=1),
            Occupant(veth, INGRESS, Mode.CLSACT, prog_id(classic[1]), filter=early, position=2),
            Occupant(veth, INGRESS, Mode.CLSACT, prog_id(classic[0]), filter=late, position=3),
            Occupant(veth, EGRESS, Mode.CLSACT, prog_id(classic[2]), filter=out),
        ]
        far = [Occupant(peer, Hook.XDP, Mode.SKB, prog_id(on_peer), peer_link)]
        assert occupants(session, veth.index) == near
        assert occupants(session, peer.index) == far
        everything = sorted(near + far, key=lambda one: one.interface.index)
        assert occupants(session) == everything
        for hook in Hook:
            only = [one for one in everything if one.hook is hook]
            assert occupants(session, hooks=(hook,)) == only


def test_programs_on_an_ingress_qdisc_are_shown_once(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, run: Ip
) -> None:
    program = load(ProgType.SCHED_CLS)
    run("tc qdisc add dev v0 ingress")
    netlink.add_filter(session, veth.index, INGRESS, TcFilter(1, 5, 3, 0, "p"), program.fileno())
    (one,) = occupants(session)
    assert (one.hook, one.mode, one.prog_id) == (INGRESS, Mode.CLSACT, prog_id(program))
    assert [found.prog_id for found in tc.query(session, veth, INGRESS)] == [prog_id(program)]
    assert tc.query(session, veth, EGRESS) == []


def test_a_filter_without_direct_action_is_told_apart(
    session: Session, veth: Interface, load: Load
) -> None:
    tc.ensure_clsact(session, veth)
    place = TcFilter(1, 5, 3, 0, "p", direct_action=False)
    netlink.add_filter(session, veth.index, INGRESS, place, load(ProgType.SCHED_CLS).fileno())
    (one,) = occupants(session)
    assert one.filter == place


def test_an_interface_that_vanishes_is_left_out(
    session: Session,
    veth: Interface,
    load: Load,
    prog_id: ProgId,
    run: Ip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run("ip link add w0 type veth peer name w1")
    stays = resolve(session, "w0")
    program = load(ProgType.SCHED_CLS)
    for interface in (veth, stays):
        tc.ensure_clsact(session, interface)
        tc.attach(session, interface, INGRESS, program.fileno(), name="p", priority=1)

    def late(session: Session, only: Container[int] | None) -> list[devices.Device]:
        found = devices.devices(session, only)
        run("ip link delete v0")
        return found

    monkeypatch.setattr(sys.modules[occupants.__module__], "devices", late)
    assert [one.interface for one in occupants(session)] == [stays]


def test_a_new_name_and_another_namespace(
    session: Session, veth: Interface, load: Load, run: Ip, other_space: Namespace
) -> None:
    program = load(ProgType.SCHED_CLS)
    xdp.attach(session, veth, load().fileno(), Mode.SKB)
    tc.ensure_clsact(session, veth)
    tc.attach(session, veth, INGRESS, program.fileno(), name="p", priority=1)
    run("ip link set v0 name renamed")
    assert {one.interface.name for one in occupants(session)} == {"renamed"}
    child = other_space.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
    with child:
        run(f"ip link set renamed netns {child.pid}")
        child.communicate()
    assert occupants(session) == []
    with Session(other_space) as there:
        # The kernel takes the qdisc away on the journey, and says nothing.
        (one,) = occupants(there)
        assert (one.hook, one.interface.netns) == (Hook.XDP, other_space.inode)


def test_a_kernel_without_tcx_and_without_link_ids(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load()
    xdp.attach(session, veth, program.fileno(), Mode.NATIVE)
    expected = [Occupant(veth, Hook.XDP, Mode.NATIVE, prog_id(program))]
    monkeypatch.setattr(bpf, "_syscall", lambda *_: -errno.EINVAL)
    assert occupants(session) == expected
