import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf.constants import Hook, ProgType
from netbpf.errors import (
    HookBusyError,
    InterfaceNotFoundError,
    KernelError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    UsageError,
)
from netbpf.model import Interface, TcFilter
from netbpf.net import bpflinks, filters, netlink, tc, tcx
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session

Ip = Callable[[str], str]
Load = Callable[..., Fd]
ProgId = Callable[[Fd], int]
HOOKS = pytest.mark.parametrize("hook", [Hook.TC_INGRESS, Hook.TC_EGRESS])
INGRESS = Hook.TC_INGRESS


@pytest.fixture
def program(load: Load) -> Fd:
    return load(ProgType.SCHED_CLS, name="mine")


@pytest.fixture
def clsact(session: Session, veth: Interface) -> Interface:
    assert tc.ensure_clsact(session, veth)
    return veth


def on(session: Session, interface: Interface, hook: Hook) -> list[tuple[int, int, int]]:
    """(priority, handle, program id) in running order."""
    found = tc.query(session, interface, hook)
    return [(one.place.priority, one.place.handle, one.prog_id) for one in found]


@HOOKS
def test_attach_query_replace_detach(
    session: Session,
    clsact: Interface,
    load: Load,
    program: Fd,
    prog_id: ProgId,
    hook: Hook,
    run: Ip,
) -> None:
    place = tc.attach(session, clsact, hook, program.fileno(), name="mine", priority=50)
    assert place == TcFilter(1, 50, tc.ETH_P_ALL, 0, "mine", direct_action=True)
    (found,) = tc.query(session, clsact, hook)
    assert (found.kind, found.place, found.prog_id) == ("bpf", place, prog_id(program))
    side = hook.value.removeprefix("tc/")
    shown = run(f"tc filter show dev v0 {side}")
    assert (
        f"pref 50 bpf chain 0 handle 0x1 mine direct-action not_in_hw id {prog_id(program)}"
        in shown
    )
    assert f"tag {found.tag}" in shown
    other = Hook.TC_EGRESS if hook is INGRESS else INGRESS
    assert tc.query(session, clsact, other) == []

    second = load(ProgType.SCHED_CLS)
    tc.replace(session, clsact, hook, place, second.fileno(), expected_id=prog_id(program))
    assert on(session, clsact, hook) == [(50, 1, prog_id(second))]
    tc.detach(session, clsact, hook, place, expected_id=prog_id(second))
    assert tc.query(session, clsact, hook) == []


def test_the_qdisc_is_made_once_and_removed_when_unused(
    session: Session, veth: Interface, run: Ip
) -> None:
    assert tc.ensure_clsact(session, veth)
    assert not tc.ensure_clsact(session, veth)
    assert "clsact ffff:" in run("tc qdisc show dev v0")
    assert tc.remove_unused_clsact(session, veth)
    assert "clsact" not in run("tc qdisc show dev v0")
    assert not tc.remove_unused_clsact(session, veth)
    assert filters.qdisc(session, veth.index) is None
    assert tc.ensure_clsact(session, veth)


def test_attach_without_qdisc(session: Session, veth: Interface, program: Fd) -> None:
    with pytest.raises(NotAttachedError, match="there is no clsact qdisc"):
        tc.attach(session, veth, INGRESS, program.fileno(), name="p", priority=1)


@HOOKS
def test_same_program_twice_sits_in_two_filters(
    session: Session, clsact: Interface, program: Fd, prog_id: ProgId, hook: Hook
) -> None:
    first = tc.attach(session, clsact, hook, program.fileno(), name="p", priority=50)
    second = tc.attach(session, clsact, hook, program.fileno(), name="p", priority=50)
    assert (first.handle, second.handle) == (1, 2)
    tc.detach(session, clsact, hook, first, expected_id=prog_id(program))
    assert on(session, clsact, hook) == [(50, 2, prog_id(program))]
    third = tc.attach(session, clsact, hook, program.fileno(), name="p", priority=50)
    assert third.handle == 1


def test_filters_are_listed_as_they_run(session: Session, clsact: Interface, program: Fd) -> None:
    for priority in (60, 1, 0xFFFF, 50, 50):
        tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=priority)
    order = [(priority, handle) for priority, handle, _ in on(session, clsact, INGRESS)]
    assert order == [(1, 1), (50, 2), (50, 1), (60, 1), (0xFFFF, 1)]


@pytest.mark.parametrize("priority", [0, -1, 65536])
def test_a_priority_that_cannot_be(
    session: Session, clsact: Interface, program: Fd, priority: int
) -> None:
    with pytest.raises(UsageError, match=f"1 to 65535, not {priority}"):
        tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=priority)


def test_a_program_of_another_type_is_refused(
    session: Session, clsact: Interface, load: Load
) -> None:
    with pytest.raises(KernelError, match="cannot attach a program to tc/ingress of v0") as caught:
        tc.attach(session, clsact, INGRESS, load(ProgType.XDP).fileno(), name="p", priority=1)
    assert caught.value.errno == errno.EINVAL
    assert on(session, clsact, INGRESS) == []


# ------------------------------------------------------------------------------------- neighbours


def test_foreign_filters_and_their_qdisc_survive(
    session: Session, clsact: Interface, load: Load, program: Fd, prog_id: ProgId, run: Ip
) -> None:
    foreign = load(ProgType.SCHED_CLS, name="foreign")
    run("tc filter add dev v0 egress prio 7 protocol ip u32 match u32 0 0 classid 1:1")
    place = TcFilter(1, 50, tc.ETH_P_ALL, 0, "foreign")
    netlink.add_filter(session, clsact.index, INGRESS, place, foreign.fileno())
    before = run("tc filter show dev v0 ingress") + run("tc filter show dev v0 egress")

    mine = tc.attach(session, clsact, INGRESS, program.fileno(), name="mine", priority=50)
    assert mine.handle == 2
    assert not tc.remove_unused_clsact(session, clsact)
    tc.detach(session, clsact, INGRESS, mine, expected_id=prog_id(program))
    assert not tc.remove_unused_clsact(session, clsact)
    assert run("tc filter show dev v0 ingress") + run("tc filter show dev v0 egress") == before
    run("tc filter del dev v0 ingress prio 50")
    assert not tc.remove_unused_clsact(session, clsact)
    run("tc filter del dev v0 egress")
    assert tc.remove_unused_clsact(session, clsact)


def test_a_priority_of_another_kind_of_filter(
    session: Session, clsact: Interface, program: Fd, run: Ip
) -> None:
    run("tc filter add dev v0 ingress prio 50 protocol ip u32 match u32 0 0 classid 1:1")
    before = run("tc filter show dev v0 ingress")
    with pytest.raises(
        HookBusyError, match="priority 50 on tc/ingress of v0 belongs to a u32 filter"
    ) as caught:
        tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)
    assert "--pref" in (caught.value.hint or "")
    assert run("tc filter show dev v0 ingress") == before


def test_a_priority_of_another_protocol(session: Session, clsact: Interface, program: Fd) -> None:
    place = TcFilter(1, 50, 0x0800, 0, "ip")
    netlink.add_filter(session, clsact.index, INGRESS, place, program.fileno())
    with pytest.raises(HookBusyError, match="a bpf filter for protocol 0x0800"):
        tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)


def test_a_handle_somebody_takes_meanwhile(
    session: Session,
    clsact: Interface,
    load: Load,
    program: Fd,
    prog_id: ProgId,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    foreign = load(ProgType.SCHED_CLS)
    add, numbers = netlink.add_filter, count(1)

    def late(session: Session, ifindex: int, hook: Hook, place: TcFilter, prog_fd: int) -> None:
        if next(numbers) == 1:
            add(session, ifindex, hook, place, foreign.fileno())
        add(session, ifindex, hook, place, prog_fd)

    monkeypatch.setattr(netlink, "add_filter", late)
    place = tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)
    assert place.handle == 2
    assert on(session, clsact, INGRESS) == [(50, 2, prog_id(program)), (50, 1, prog_id(foreign))]


def test_a_filter_goes_back_to_its_place_or_not_at_all(
    session: Session, clsact: Interface, load: Load, program: Fd, prog_id: ProgId
) -> None:
    place = tc.attach(session, clsact, INGRESS, program.fileno(), name="mine", priority=50)
    tc.detach(session, clsact, INGRESS, place, expected_id=prog_id(program))
    tc.attach_at(session, clsact, INGRESS, place, program.fileno())
    assert on(session, clsact, INGRESS) == [(50, 1, prog_id(program))]
    other = load(ProgType.SCHED_CLS, name="other")
    with pytest.raises(HookBusyError, match="another filter has priority 50, handle 1 on tc/ingre"):
        tc.attach_at(session, clsact, INGRESS, place, other.fileno())
    assert on(session, clsact, INGRESS) == [(50, 1, prog_id(program))]


def test_an_ingress_qdisc_is_named_and_left_alone(
    session: Session, veth: Interface, program: Fd, run: Ip
) -> None:
    run("tc qdisc add dev v0 ingress")
    attempts: list[Callable[[], object]] = [
        lambda: tc.ensure_clsact(session, veth),
        lambda: tc.attach(session, veth, INGRESS, program.fileno(), name="p", priority=1),
        # The kernel itself would take this and run it on ingress.
        lambda: tc.attach(session, veth, Hook.TC_EGRESS, program.fileno(), name="p", priority=1),
    ]
    for attempt in attempts:
        with pytest.raises(
            HookBusyError, match="v0 has an 'ingress' qdisc that netbpf did not make"
        ) as caught:
            attempt()
        assert "tc qdisc del dev v0 ingress" in (caught.value.hint or "")
    assert not tc.remove_unused_clsact(session, veth)
    assert "ingress ffff:" in run("tc qdisc show dev v0")
    run("tc qdisc del dev v0 ingress")
    assert tc.ensure_clsact(session, veth)


def test_a_shared_block_is_left_alone(session: Session, veth: Interface, run: Ip) -> None:
    run("tc qdisc add dev v0 ingress_block 5 clsact")
    assert filters.qdiscs(session) == [filters.Qdisc(veth.index, "clsact", shared=True)]
    assert not tc.remove_unused_clsact(session, veth)
    assert "clsact" in run("tc qdisc show dev v0")


def test_tcx_survives_the_removal_of_the_qdisc(
    session: Session, clsact: Interface, program: Fd, prog_id: ProgId
) -> None:
    with tcx.attach_link(session.namespace, clsact, INGRESS, program.fileno()):
        assert tc.remove_unused_clsact(session, clsact)
        (left,) = tcx.query(session.namespace, clsact, INGRESS).programs
        assert left.prog_id == prog_id(program)


# ------------------------------------------------------------------------------------- compare first


def test_replace_and_detach_only_what_is_expected(
    session: Session, clsact: Interface, load: Load, program: Fd, prog_id: ProgId
) -> None:
    foreign = load(ProgType.SCHED_CLS, name="foreign")
    place = tc.attach(session, clsact, INGRESS, foreign.fileno(), name="p", priority=50)
    mine = prog_id(program)
    with pytest.raises(
        HookBusyError, match=r"changed meanwhile: program \d+ 'foreign' is at priority 50"
    ):
        tc.replace(session, clsact, INGRESS, place, program.fileno(), expected_id=mine)
    with pytest.raises(HookBusyError, match="changed meanwhile"):
        tc.detach(session, clsact, INGRESS, place, expected_id=mine)
    assert on(session, clsact, INGRESS) == [(50, 1, prog_id(foreign))]


@pytest.mark.parametrize(
    "change", [{"handle": 9}, {"priority": 51}, {"protocol": 0x0800}, {"chain": 3}], ids=str
)
def test_a_filter_that_is_not_there(
    session: Session, clsact: Interface, program: Fd, prog_id: ProgId, change: dict[str, Any]
) -> None:
    number = prog_id(program)
    place = tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)
    absent = replace(place, **change)
    with pytest.raises(NotAttachedError, match="tc/ingress of v0 has no filter at priority"):
        tc.replace(session, clsact, INGRESS, absent, program.fileno(), expected_id=number)
    with pytest.raises(NotAttachedError, match="tc/ingress of v0 has no filter at priority"):
        tc.detach(session, clsact, INGRESS, absent, expected_id=number)
    assert on(session, clsact, INGRESS) == [(50, 1, number)]


def test_a_qdisc_deleted_meanwhile(
    session: Session,
    clsact: Interface,
    program: Fd,
    prog_id: ProgId,
    run: Ip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)
    monkeypatch.setattr(tc, "_expect", lambda *_: run("tc qdisc del dev v0 clsact"))
    with pytest.raises(NotAttachedError, match="went away meanwhile"):
        tc.detach(session, clsact, INGRESS, place, expected_id=prog_id(program))
    monkeypatch.setattr(tc, "_expect", lambda *_: None)
    with pytest.raises(NotAttachedError, match="went away meanwhile"):
        tc.replace(session, clsact, INGRESS, place, program.fileno(), expected_id=1)


@pytest.mark.parametrize("place", [TcFilter(0, 50, 3), TcFilter(1, 0, 3)])
def test_never_removes_a_whole_priority(
    session: Session, clsact: Interface, place: TcFilter
) -> None:
    with pytest.raises(ValueError, match="needs a handle and a priority"):
        filters.remove_filter(session, clsact.index, INGRESS, place)


def test_never_drops_the_chain(session: Session, clsact: Interface, program: Fd) -> None:
    with pytest.raises(ValueError, match="chain 0 only"):
        netlink.add_filter(session, clsact.index, INGRESS, TcFilter(1, 50, 3, 7), program.fileno())


def test_many_at_once_all_get_a_filter_of_their_own(
    session: Session, clsact: Interface, load: Load, prog_id: ProgId
) -> None:
    programs = [load(ProgType.SCHED_CLS) for _ in range(16)]
    start = threading.Barrier(len(programs))
    failures: list[NetbpfError] = []

    def race(program: Fd) -> None:
        with Session(session.namespace) as own:
            start.wait()
            try:
                tc.attach(own, clsact, INGRESS, program.fileno(), name="p", priority=50)
            except NetbpfError as error:
                failures.append(error)

    threads = [threading.Thread(target=race, args=(one,)) for one in programs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = on(session, clsact, INGRESS)
    assert {number for _, _, number in found} == {prog_id(one) for one in programs}
    assert {handle for _, handle, _ in found} == set(range(1, 17))


# ------------------------------------------------------------------------------------- kernel and permission


@pytest.mark.parametrize(
    ("function", "failure", "config"),
    [
        ("add_clsact", (errno.ENOENT, "Specified qdisc kind is unknown"), "CONFIG_NET_SCH_INGRESS"),
        ("add_filter", (errno.ENOENT, "TC classifier not found"), "CONFIG_NET_CLS_BPF"),
    ],
)
def test_a_kernel_without(
    session: Session,
    veth: Interface,
    program: Fd,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    failure: tuple[int, str],
    config: str,
) -> None:
    def refuse(*_: object) -> None:
        raise KernelError("RTM_NEW", *failure)

    def attempt() -> None:
        tc.ensure_clsact(session, veth)
        tc.attach(session, veth, INGRESS, program.fileno(), name="p", priority=50)

    monkeypatch.setattr(netlink, function, refuse)
    with pytest.raises(NotSupportedError, match=failure[1]) as caught:
        attempt()
    assert config in (caught.value.hint or "")


def test_an_interface_that_is_gone(
    session: Session, clsact: Interface, program: Fd, run: Ip
) -> None:
    place = tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)
    run("ip link delete v0")
    attempts: list[Callable[[], object]] = [
        lambda: tc.ensure_clsact(session, clsact),
        lambda: tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50),
        lambda: tc.replace(session, clsact, INGRESS, place, program.fileno(), expected_id=1),
        lambda: tc.detach(session, clsact, INGRESS, place, expected_id=1),
    ]
    for attempt in attempts:
        with pytest.raises(InterfaceNotFoundError, match=r"v0 .* is gone"):
            attempt()
    assert tc.query(session, clsact, INGRESS) == []
    assert not tc.remove_unused_clsact(session, clsact)


def without(
    capabilities: str, script: str, space: Namespace, *fds: Fd
) -> subprocess.CompletedProcess[str]:
    """Run a script inside the namespace, without some capabilities."""
    dropped = ",".join(f"-{one}" for one in capabilities.split())
    return space.run(
        subprocess.run,
        [
            "setpriv",
            f"--bounding-set={dropped}",
            f"--inh-caps={dropped}",
            sys.executable,
            "-c",
            script,
        ],
        pass_fds=[space.fileno(), *(fd.fileno() for fd in fds)],
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    "call",
    [
        "tc.ensure_clsact(session, v1)",
        "tc.attach(session, v0, hook, {prog}, name='p', priority=50)",
        "tc.replace(session, v0, hook, place, {prog}, expected_id={id})",
        "tc.detach(session, v0, hook, place, expected_id={id})",
    ],
)
def test_missing_cap_net_admin_is_named(
    session: Session, clsact: Interface, program: Fd, prog_id: ProgId, call: str
) -> None:
    tc.attach(session, clsact, INGRESS, program.fileno(), name="p", priority=50)
    before = on(session, clsact, INGRESS)
    script = f"""
from netbpf.constants import Hook
from netbpf.errors import PermissionDeniedError
from netbpf.net import tc, tcx
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
hook = Hook.TC_INGRESS
with Namespace.open("/proc/self/fd/{session.namespace.fileno()}") as space, Session(space) as session:
    v0, v1 = resolve(session, "v0"), resolve(session, "v1")
    (place,) = [one.place for one in tc.query(session, v0, hook)]
    try:
        {call.format(prog=program.fileno(), id=prog_id(program))}
    except PermissionDeniedError as error:
        print(error)
"""
    done = without("net_admin", script, session.namespace, program)
    assert done.stdout.endswith("CAP_NET_ADMIN is missing\n"), done.stderr
    assert on(session, clsact, INGRESS) == before


def test_missing_cap_net_admin_to_look_at_tcx_is_named(session: Session, veth: Interface) -> None:
    script = f"""
from netbpf.constants import Hook
from netbpf.errors import PermissionDeniedError
from netbpf.model import Interface
from netbpf.net import tcx
from netbpf.net.netns import Namespace
with Namespace.current() as space:
    try:
        tcx.query(space, Interface("v0", {veth.index}, space.inode), Hook.TC_INGRESS)
    except PermissionDeniedError as error:
        print(error)
"""
    # CAP_SYS_ADMIN may look as well (kernel/bpf/syscall.c bpf_prog_query).
    done = without("net_admin sys_admin", script, session.namespace)
    assert "see the TCX programs of v0: CAP_NET_ADMIN is missing" in done.stdout, done.stderr


# ------------------------------------------------------------------------------------- TCX


@HOOKS
def test_tcx_attach_query_update_detach(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, hook: Hook
) -> None:
    space = session.namespace
    first, second = load(ProgType.SCHED_CLS), load(ProgType.SCHED_CLS)
    assert tcx.query(space, veth, hook).programs == ()
    with tcx.attach_link(space, veth, hook, first.fileno()) as link:
        with tcx.attach_link(space, veth, hook, second.fileno()):
            programs = tcx.query(space, veth, hook).programs
            assert [one.prog_id for one in programs] == [prog_id(first), prog_id(second)]
            assert all(one.link_id for one in programs)
            tcx_update(link, veth, first, first)
        other = Hook.TC_EGRESS if hook is INGRESS else INGRESS
        assert tcx.query(space, veth, other).programs == ()


def tcx_update(link: Fd, interface: Interface, new: Fd, old: Fd) -> None:
    bpflinks.update(link.fileno(), interface, new.fileno(), old_prog_fd=old.fileno())


def test_tcx_changes_are_noticed(
    session: Session, veth: Interface, load: Load, prog_id: ProgId
) -> None:
    space = session.namespace
    first, second, third = (load(ProgType.SCHED_CLS) for _ in range(3))
    seen = tcx.query(space, veth, INGRESS).revision
    with tcx.attach_link(space, veth, INGRESS, first.fileno(), expected_revision=seen) as link:
        with pytest.raises(HookBusyError, match="TCX tc/ingress of v0 changed meanwhile"):
            tcx.attach_link(space, veth, INGRESS, second.fileno(), expected_revision=seen)
        with pytest.raises(
            HookBusyError, match="this very program is on TCX tc/ingress of v0 already"
        ):
            tcx.attach_link(space, veth, INGRESS, first.fileno())
        with pytest.raises(HookBusyError, match="it holds another program by now"):
            tcx_update(link, veth, third, second)
        tcx_update(link, veth, third, first)
        assert [one.prog_id for one in tcx.query(space, veth, INGRESS).programs] == [prog_id(third)]


def test_tcx_refuses_an_xdp_program(session: Session, veth: Interface, load: Load) -> None:
    with pytest.raises(KernelError, match="cannot attach a TCX link to v0") as caught:
        tcx.attach_link(session.namespace, veth, INGRESS, load(ProgType.XDP).fileno())
    assert caught.value.errno == errno.EINVAL


def test_tcx_on_an_interface_that_is_gone(
    session: Session, veth: Interface, program: Fd, run: Ip
) -> None:
    with tcx.attach_link(session.namespace, veth, INGRESS, program.fileno()) as link:
        run("ip link delete v0")
        with pytest.raises(InterfaceNotFoundError):
            tcx.query(session.namespace, veth, INGRESS)
        with pytest.raises(InterfaceNotFoundError):
            tcx.attach_link(session.namespace, veth, INGRESS, program.fileno())
        with pytest.raises(InterfaceNotFoundError):
            tcx_update(link, veth, program, program)


def test_a_kernel_without_tcx(
    session: Session, veth: Interface, program: Fd, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tcx.supported()
    monkeypatch.setattr(bpf, "_syscall", lambda *_: -errno.EINVAL)
    assert not tcx.supported()
    with pytest.raises(NotSupportedError, match=r"no TCX \(Linux 6.6\)") as caught:
        tcx.query(session.namespace, veth, INGRESS)
    assert "without --link" in (caught.value.hint or "")
    with pytest.raises(NotSupportedError, match="no TCX"):
        tcx.attach_link(session.namespace, veth, INGRESS, program.fileno())
