import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from netbpf._sys.fd import Fd
from netbpf.constants import Mode, ProgFlag, ProgType
from netbpf.errors import (
    HookBusyError,
    InterfaceNotFoundError,
    KernelError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
)
from netbpf.model import Interface
from netbpf.net import bpflinks, xdp
from netbpf.net.devices import remove_xdp
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session

Ip = Callable[[str], str]
Load = Callable[..., Fd]
ProgId = Callable[[Fd], int]
MODES = pytest.mark.parametrize("mode", [Mode.NATIVE, Mode.SKB])


def eventually(true: Callable[[], bool]) -> bool:
    """Whoever lists the links of the machine holds each one for a moment; the last to close it detaches it."""
    end = time.monotonic() + 30
    while not true():
        if time.monotonic() > end:
            return False
    return True


def on(session: Session, interface: Interface) -> list[tuple[Mode, int]]:
    return [(one.mode, one.prog_id) for one in xdp.query(session, interface)]


@MODES
def test_attach_query_replace_detach(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, mode: Mode
) -> None:
    first, second = load(), load()
    assert xdp.query(session, veth) == []
    xdp.attach(session, veth, first.fileno(), mode)
    assert xdp.query(session, veth) == [(mode, prog_id(first), 0)]
    xdp.attach(session, veth, second.fileno(), mode, expected_fd=first.fileno())
    assert on(session, veth) == [(mode, prog_id(second))]
    xdp.detach(session, veth, mode, expected_fd=second.fileno())
    assert xdp.query(session, veth) == []


@MODES
def test_the_kernel_and_ip_agree(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, run: Ip, mode: Mode
) -> None:
    program = load()
    xdp.attach(session, veth, program.fileno(), mode)
    shown = run("ip -d link show v0")
    assert f"prog/xdp id {prog_id(program)}" in shown
    assert ("xdpgeneric" in shown) == (mode is Mode.SKB)


@MODES
def test_a_first_attach_never_replaces(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, mode: Mode
) -> None:
    mine, foreign = load(), load(name="foreign")
    xdp.attach(session, veth, foreign.fileno(), mode)
    number = prog_id(foreign)
    for attach in (xdp.attach, xdp.attach_link):
        with pytest.raises(
            HookBusyError, match=rf"hook of v0 is taken: program {number} 'foreign' \({mode}\)"
        ) as caught:
            attach(session, veth, mine.fileno(), mode)
        assert caught.value.hint == "to take it off: netbpf detach xdp v0 --force"
        assert on(session, veth) == [(mode, number)]


@pytest.mark.parametrize(("there", "asked"), [(Mode.NATIVE, Mode.SKB), (Mode.SKB, Mode.NATIVE)])
def test_the_other_mode_is_in_the_way(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, there: Mode, asked: Mode
) -> None:
    foreign = load(name="foreign")
    xdp.attach(session, veth, foreign.fileno(), there)
    for attach in (xdp.attach, xdp.attach_link):
        with pytest.raises(
            HookBusyError, match=rf"'foreign' \({there}\) is there.*one mode at a time"
        ):
            attach(session, veth, load().fileno(), asked)
    with pytest.raises(
        NotAttachedError, match=rf"no XDP program in mode {asked}, only .*\({there}\)"
    ):
        xdp.detach(session, veth, asked, expected_fd=foreign.fileno())
    assert on(session, veth) == [(there, prog_id(foreign))]


@MODES
def test_replace_and_detach_only_what_is_expected(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, mode: Mode
) -> None:
    there, believed = load(name="there"), load()
    xdp.attach(session, veth, there.fileno(), mode)
    with pytest.raises(
        HookBusyError, match=r"v0 changed meanwhile: program \d+ 'there' .* is on it now"
    ):
        xdp.attach(session, veth, load().fileno(), mode, expected_fd=believed.fileno())
    with pytest.raises(HookBusyError, match=r"cannot detach .* 'there' .* is on it by now"):
        xdp.detach(session, veth, mode, expected_fd=believed.fileno())
    assert on(session, veth) == [(mode, prog_id(there))]
    xdp.detach(session, veth, mode, expected_fd=None)
    with pytest.raises(HookBusyError, match="v0 changed meanwhile: it is empty now"):
        xdp.attach(session, veth, load().fileno(), mode, expected_fd=there.fileno())
    assert on(session, veth) == []


def test_detach_from_an_empty_hook(session: Session, veth: Interface) -> None:
    for mode in (Mode.NATIVE, Mode.SKB, Mode.HW):
        with pytest.raises(NotAttachedError, match="v0 has no XDP program"):
            xdp.detach(session, veth, mode, expected_fd=None)


def test_detach_that_somebody_else_did_first(
    session: Session, veth: Interface, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load()
    xdp.attach(session, veth, program.fileno(), Mode.NATIVE)

    def late(session: Session, ifindex: int, mode: Mode, expected_fd: int | None) -> None:
        remove_xdp(session, ifindex, mode, None)
        remove_xdp(session, ifindex, mode, expected_fd)

    monkeypatch.setattr(xdp, "remove_xdp", late)
    with pytest.raises(NotAttachedError, match="v0 has no XDP program"):
        xdp.detach(session, veth, Mode.NATIVE, expected_fd=program.fileno())


# ------------------------------------------------------------------------------------- not supported


def test_native_on_a_driver_without_it(session: Session, load: Load) -> None:
    loopback = resolve(session, "lo")
    with pytest.raises(
        NotSupportedError, match="driver does not support XDP in native mode"
    ) as caught:
        xdp.attach(session, loopback, load().fileno(), Mode.NATIVE)
    assert "--mode skb" in (caught.value.hint or "")
    assert caught.value.exit_code == 5
    assert on(session, loopback) == []


def test_hardware_on_a_veth(session: Session, veth: Interface, load: Load) -> None:
    for attach in (xdp.attach, xdp.attach_link):
        with pytest.raises(NotSupportedError, match="the driver veth cannot offload") as caught:
            attach(session, veth, load().fileno(), Mode.HW)
        assert "--mode native" in (caught.value.hint or "")
    assert on(session, veth) == []


def test_a_too_large_mtu_says_the_limit_and_three_remedies(
    session: Session, veth: Interface, load: Load, run: Ip
) -> None:
    run("ip link set v1 mtu 9000")
    limit = 0
    for attach in (xdp.attach, xdp.attach_link):
        with pytest.raises(
            NotSupportedError, match=r"other end v1 \(9000 bytes\) is too large"
        ) as caught:
            attach(session, veth, load().fileno(), Mode.NATIVE)
        hint = caught.value.hint or ""
        assert 'SEC("xdp.frags")' in hint
        assert "--mode skb" in hint
        limit = int(hint.rsplit(" ", 1)[1])
        assert on(session, veth) == []
    run(f"ip link set v1 mtu {limit + 1}")
    with pytest.raises(NotSupportedError, match="Peer MTU is too large"):
        xdp.attach(session, veth, load().fileno(), Mode.NATIVE)
    run(f"ip link set v1 mtu {limit}")
    xdp.attach(session, veth, load().fileno(), Mode.NATIVE)


def test_the_remedies_work(session: Session, veth: Interface, load: Load, run: Ip) -> None:
    run("ip link set v1 mtu 9000")
    frags = load(flags=ProgFlag.XDP_HAS_FRAGS)
    xdp.attach(session, veth, frags.fileno(), Mode.NATIVE)
    xdp.detach(session, veth, Mode.NATIVE, expected_fd=frags.fileno())
    xdp.attach(session, veth, load().fileno(), Mode.SKB)


def test_the_mtu_of_a_peer_in_another_namespace_is_not_made_up(
    session: Session, veth: Interface, load: Load, run: Ip, other_space: Namespace
) -> None:
    run("ip link set v1 mtu 9000")
    child = other_space.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
    with child:
        run(f"ip link set v1 netns {child.pid}")
        child.communicate()
    with pytest.raises(NotSupportedError, match="the MTU of its other end is too large"):
        xdp.attach(session, veth, load().fileno(), Mode.NATIVE)


def test_a_program_of_another_type_is_refused(
    session: Session, veth: Interface, load: Load
) -> None:
    program = load(ProgType.SCHED_CLS)
    for attach in (xdp.attach, xdp.attach_link):
        with pytest.raises(
            KernelError, match=r"cannot attach an XDP program to v0 in mode skb"
        ) as caught:
            attach(session, veth, program.fileno(), Mode.SKB)
        assert caught.value.errno == errno.EINVAL


# ------------------------------------------------------------------------------------- links


@MODES
def test_link(session: Session, veth: Interface, load: Load, prog_id: ProgId, mode: Mode) -> None:
    first, second = load(), load()
    with xdp.attach_link(session, veth, first.fileno(), mode) as link:
        (shown,) = xdp.query(session, veth)
        assert shown[:2] == (mode, prog_id(first))
        assert shown.link_id > 0
        with pytest.raises(HookBusyError, match="it holds another program by now"):
            bpflinks.update(link.fileno(), veth, second.fileno(), old_prog_fd=second.fileno())
        bpflinks.update(link.fileno(), veth, second.fileno(), old_prog_fd=first.fileno())
        assert xdp.query(session, veth) == [(mode, prog_id(second), shown.link_id)]
    assert eventually(lambda: xdp.query(session, veth) == [])


def test_netlink_cannot_touch_what_a_link_holds(
    session: Session, veth: Interface, load: Load, prog_id: ProgId
) -> None:
    program = load(name="held")
    with xdp.attach_link(session, veth, program.fileno(), Mode.NATIVE):
        held = rf"bpf_link \d+ holds it, kept by process {os.getpid()} \(.+\)"
        with pytest.raises(HookBusyError, match=held) as caught:
            xdp.detach(session, veth, Mode.NATIVE, expected_fd=program.fileno())
        assert "--force" in (caught.value.hint or "")
        with pytest.raises(HookBusyError, match=r"v0 is taken: .*'held'"):
            xdp.attach(session, veth, load().fileno(), Mode.NATIVE, expected_fd=program.fileno())
        assert on(session, veth) == [(Mode.NATIVE, prog_id(program))]


def test_a_detached_link_holds_nothing(session: Session, veth: Interface, load: Load) -> None:
    program = load()
    with xdp.attach_link(session, veth, program.fileno(), Mode.NATIVE) as link:
        bpflinks.detach(link.fileno(), veth)
        bpflinks.detach(link.fileno(), veth)
        assert xdp.query(session, veth) == []
        with pytest.raises(InterfaceNotFoundError, match="on no interface any more"):
            bpflinks.update(link.fileno(), veth, program.fileno(), old_prog_fd=program.fileno())


def test_a_link_whose_interface_is_deleted(
    session: Session, veth: Interface, load: Load, run: Ip
) -> None:
    program = load()
    with xdp.attach_link(session, veth, program.fileno(), Mode.NATIVE) as link:
        run("ip link delete v0")
        bpflinks.detach(link.fileno(), veth)
        with pytest.raises(InterfaceNotFoundError):
            bpflinks.update(link.fileno(), veth, program.fileno(), old_prog_fd=program.fileno())


# ------------------------------------------------------------------------------------- the world moves


def test_an_interface_that_is_gone(session: Session, veth: Interface, load: Load, run: Ip) -> None:
    program = load()
    run("ip link delete v0")
    attempts: list[Callable[[], object]] = [
        lambda: xdp.query(session, veth),
        lambda: xdp.attach(session, veth, program.fileno(), Mode.NATIVE),
        lambda: xdp.attach(session, veth, program.fileno(), Mode.SKB, expected_fd=program.fileno()),
        lambda: xdp.attach_link(session, veth, program.fileno(), Mode.NATIVE),
        lambda: xdp.detach(session, veth, Mode.NATIVE, expected_fd=program.fileno()),
    ]
    for attempt in attempts:
        with pytest.raises(InterfaceNotFoundError, match=rf"v0 \(ifindex {veth.index}\) is gone"):
            attempt()


def test_a_renamed_interface_keeps_its_program(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, run: Ip
) -> None:
    program = load()
    xdp.attach(session, veth, program.fileno(), Mode.NATIVE)
    run("ip link set v0 name renamed")
    assert on(session, resolve(session, "renamed")) == [(Mode.NATIVE, prog_id(program))]
    xdp.detach(session, veth, Mode.NATIVE, expected_fd=program.fileno())


def test_a_moved_interface_takes_its_program_along(
    session: Session, veth: Interface, load: Load, prog_id: ProgId, run: Ip, other_space: Namespace
) -> None:
    program = load()
    xdp.attach(session, veth, program.fileno(), Mode.NATIVE)
    child = other_space.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
    with child:
        run(f"ip link set v0 netns {child.pid}")
        child.communicate()
    with pytest.raises(InterfaceNotFoundError, match=r"v0 .* is gone from its network namespace"):
        xdp.detach(session, veth, Mode.NATIVE, expected_fd=program.fileno())
    with Session(other_space) as there:
        assert on(there, resolve(there, "v0")) == [(Mode.NATIVE, prog_id(program))]


def test_many_at_once_have_one_winner(
    session: Session, veth: Interface, load: Load, prog_id: ProgId
) -> None:
    programs = [load() for _ in range(16)]
    start = threading.Barrier(len(programs))
    outcomes: list[int | NetbpfError] = []

    def race(program: Fd, expected: int | None) -> None:
        with Session(session.namespace) as own:
            start.wait()
            try:
                xdp.attach(own, veth, program.fileno(), Mode.NATIVE, expected_fd=expected)
                outcomes.append(prog_id(program))
            except NetbpfError as error:
                outcomes.append(error)

    for expected in (None, "winner"):
        winner = on(session, veth)[0][1] if expected else 0
        held = next((one.fileno() for one in programs if prog_id(one) == winner), None)
        # The winner does not run again: replacing a program by itself would succeed beside another.
        racers = [one for one in programs if prog_id(one) != winner]
        start = threading.Barrier(len(racers))
        outcomes.clear()
        threads = [threading.Thread(target=race, args=(one, held)) for one in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [one for one in outcomes if isinstance(one, int)]
        lost = [one for one in outcomes if not isinstance(one, int)]
        assert len(won) == 1
        assert on(session, veth) == [(Mode.NATIVE, won[0])]
        assert len(lost) == len(racers) - 1
        assert all(isinstance(one, HookBusyError) for one in lost), lost


# ------------------------------------------------------------------------------------- permission


@pytest.mark.parametrize(
    "call",
    [
        "xdp.attach(session, v0, {prog}, Mode.NATIVE)",
        "xdp.detach(session, v0, Mode.SKB, expected_fd=None)",
    ],
)
def test_missing_cap_net_admin_is_named(
    session: Session, veth: Interface, load: Load, call: str
) -> None:
    program = load()
    if "detach" in call:
        xdp.attach(session, veth, program.fileno(), Mode.SKB)
    before = on(session, veth)
    script = f"""
from netbpf.constants import Mode
from netbpf.errors import PermissionDeniedError
from netbpf.net import xdp
from netbpf.net.devices import remove_xdp
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session
with Namespace.open("/proc/self/fd/{session.namespace.fileno()}") as space, Session(space) as session:
    v0 = resolve(session, "v0")
    try:
        {call.format(prog=program.fileno())}
    except PermissionDeniedError as error:
        print(error)
"""
    done = subprocess.run(
        [
            "setpriv",
            "--bounding-set=-net_admin",
            "--inh-caps=-net_admin",
            sys.executable,
            "-c",
            script,
        ],
        pass_fds=[session.namespace.fileno(), program.fileno()],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.stdout.endswith("CAP_NET_ADMIN is missing\n"), done.stderr
    assert on(session, veth) == before
