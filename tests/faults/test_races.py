"""Several at once: processes that attach and detach against each other, and a foreign tool in between."""

import contextlib
import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbpf import NetbpfError, api
from netbpf._sys import bpf
from netbpf.bpf.program import Program
from netbpf.constants import Hook, ProgType, TcAction, XdpAction, XdpFlag
from netbpf.errors import (
    HookBusyError,
    KernelError,
    LockTimeoutError,
    NotAttachedError,
    PermissionDeniedError,
)
from netbpf.manager import mechanism
from netbpf.manager.change import Changes
from netbpf.model import Attachment, Interface, Occupant
from netbpf.net import bpflinks, netlink, tc, tcx, xdp
from netbpf.net.interfaces import expand
from netbpf.net.rtnetlink import Session
from netbpf.state import qdiscs
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
from tests.faults.lab import ROOT, Lab
from tests.support.foreign import foreign_program

CROWD = 16
RACES = {
    "xdp": ("xdp", "builtin:xdp_globals", {}),
    "xdp-link": ("xdp", "builtin:xdp_globals", {"link": True}),
    "tc": ("tc/ingress", "builtin:tc_globals", {}),
    "tcx": ("tc/ingress", "builtin:tc_globals", {"link": True}),
}
each_race = pytest.mark.parametrize(("hook", "source", "options"), RACES.values(), ids=RACES)


def at_once(number: int, action: Callable[[int], object]) -> list[tuple[int, str]]:
    """Run ``action`` in that many processes, started by one signal: (exit code, message) of each."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(number), context.SimpleQueue()

    def body(index: int) -> None:
        start.wait()
        try:
            action(index)
            results.put((0, ""))
        except NetbpfError as error:
            results.put((int(error.exit_code), error.message))

    crowd = [context.Process(target=body, args=(index,)) for index in range(number)]
    for one in crowd:
        one.start()
    found = [results.get() for _ in crowd]
    for one in crowd:
        one.join()
    return sorted(found)


@each_race
def test_sixteen_attach_at_once(
    lab: Lab, hook: api.HookName, source: str, options: dict[str, bool]
) -> None:
    found = at_once(
        CROWD,
        lambda _: api.attach(hook, "v0", source, netns=lab.namespace, **options).close(),  # type: ignore[arg-type]
    )
    (winner,) = lab.status()
    assert winner.managed
    assert [code for code, _ in found] == [0] + [7] * (CROWD - 1)
    for _, message in found[1:]:
        assert f"{winner.program.name} (program {winner.program.id}, " in message
        assert message.endswith("managed by netbpf)")
    lab.assert_consistent()

    found = at_once(CROWD, lambda _: api.detach("v0", netns=lab.namespace))
    assert [code for code, _ in found] == [0] + [8] * (CROWD - 1)
    lab.assert_nothing_left()


@each_race
def test_attach_against_detach(
    lab: Lab, hook: api.HookName, source: str, options: dict[str, bool]
) -> None:
    """Each only ever gets what the hook can be: busy, or empty."""

    def loop(index: int) -> None:
        for _ in range(12):
            if index % 2:
                with contextlib.suppress(HookBusyError):
                    api.attach(hook, "v0", source, netns=lab.namespace, **options).close()  # type: ignore[arg-type]
            else:
                with contextlib.suppress(NotAttachedError):
                    api.detach("v0", netns=lab.namespace)

    assert at_once(4, loop) == [(0, "")] * 4
    lab.assert_consistent()
    api.detach("v0", netns=lab.namespace, missing_ok=True)
    lab.assert_nothing_left()


# --- a foreign tool between netbpf's look and its act ---


@pytest.fixture
def foreign(lab: Lab, load_foreign: int) -> Callable[[], None]:
    """Attach a foreign XDP program to v0, as ``ip link set xdp`` does."""
    lab.ip("link set v0 up")

    def attach() -> None:
        with Session(lab.namespace) as session:
            index = next(one.index for one in interfaces(lab) if one.name == "v0")
            netlink.set_xdp(session, index, load_foreign, XdpFlag.SKB_MODE)

    return attach


def interfaces(lab: Lab) -> list[Interface]:
    with Session(lab.namespace) as session:
        return expand(session, "v*")


@pytest.fixture
def load_foreign() -> Iterator[int]:
    with foreign_program(ProgType.XDP, XdpAction.PASS) as fd:
        yield fd.fileno()


def only_once(action: Callable[[], None], function: Callable[..., object]) -> Callable[..., object]:
    """``function`` with ``action`` directly before its first call."""
    left = [action]

    def call(*args: object, **kwargs: object) -> object:
        if left:
            left.pop()()
        return function(*args, **kwargs)

    return call


@pytest.mark.parametrize("link", [False, True], ids=["netlink", "link"])
def test_a_foreign_program_arrives_before_the_attach(
    lab: Lab, foreign: Callable[[], None], monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    name = "attach_link" if link else "attach"
    monkeypatch.setattr(xdp, name, only_once(foreign, getattr(xdp, name)))
    with pytest.raises(HookBusyError, match="'foreign'"):
        api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", link=link, netns=lab.namespace)
    (left,) = lab.status()
    assert (left.program.name, left.managed) == ("foreign", False)
    assert lab.files() == []
    assert lab.pins() == []


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("step", ["swap", "take"])
def test_a_foreign_program_takes_the_place(
    lab: Lab, foreign: Callable[[], None], monkeypatch: pytest.MonkeyPatch, step: str, late: bool
) -> None:
    """Replaced by force behind netbpf's back: neither --replace nor detach touches it.

    ``late`` is after netbpf has looked what is there, and opened it: then only the kernel's comparison is left.
    """
    api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
    module, name = (xdp, {"swap": "attach", "take": "detach"}[step]) if late else (mechanism, step)
    monkeypatch.setattr(module, name, only_once(foreign, getattr(module, name)))
    act: Callable[[], object] = {
        "swap": lambda: api.attach("xdp", "v0", "builtin:xdp_count", replace=True, netns=lab.namespace),
        "take": lambda: api.detach("v0", netns=lab.namespace),
    }[step]  # fmt: skip
    with pytest.raises(HookBusyError, match="foreign"):
        act()
    (left,) = lab.status()
    assert (left.program.name, left.managed) == ("foreign", False)
    with pytest.raises(NetbpfError, match="not managed by netbpf"):
        api.detach("v0", netns=lab.namespace)
    assert len(lab.status()) == 1


@pytest.mark.parametrize("kind", ["xdp", "tc"])
def test_another_program_gets_into_the_link(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: api.HookName
) -> None:
    """Whoever may open a link by its id can change its program: netbpf then leaves it alone."""
    first, second = f"builtin:{kind}_globals", f"builtin:{kind}_count"
    api.attach(kind, "v0", first, link=True, netns=lab.namespace).close()
    api.attach(
        kind, "v2", second, mode="skb" if kind == "xdp" else None, netns=lab.namespace
    ).close()
    before, other = lab.status()

    def changed() -> None:
        with (
            Program.by_id(other.program.id) as program,
            bpf.fd_by_id("LINK", before.occupant.link_id) as link,
        ):
            bpf.link_update(link.fileno(), program.fd.fileno(), old_prog_fd=None)

    monkeypatch.setattr(bpflinks, "update", only_once(changed, bpflinks.update))
    with pytest.raises(HookBusyError, match="it holds another program by now"):
        api.attach(kind, "v0", second, link=True, replace=True, netns=lab.namespace)
    left, _ = lab.status()
    assert (left.program.id, left.managed) == (other.program.id, False)
    api.detach(everything=True, force=True, netns=lab.namespace)
    lab.assert_nothing_left()


@pytest.mark.parametrize(("number", "error"), [
    (errno.ENOENT, NotAttachedError), (errno.EPERM, PermissionDeniedError), (errno.ENOMEM, KernelError),
])  # fmt: skip
def test_a_link_that_cannot_be_had(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, number: int, error: type[NetbpfError]
) -> None:
    """Gone is only what the kernel says is gone: all else fails, and the program is still there."""

    def fails(*_: object, **__: object) -> None:
        raise KernelError("BPF_LINK_GET_FD_BY_ID", number)

    api.attach("tc", "v0", "builtin:tc_globals", link=True, netns=lab.namespace).close()
    with monkeypatch.context() as patched:
        patched.setattr(mechanism, "fd_by_id", fails)
        with pytest.raises(error):
            api.detach("v0", netns=lab.namespace)
    assert len(lab.status()) == 1
    api.detach("v0", netns=lab.namespace)


def test_a_link_that_cannot_be_taken_off(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel says of a link that is open is no word that it is gone."""

    def fails(*_: object) -> None:
        raise KernelError("BPF_LINK_DETACH", errno.ENOMEM)

    api.attach("tc", "v0", "builtin:tc_globals", link=True, netns=lab.namespace).close()
    with monkeypatch.context() as patched:
        patched.setattr(bpf, "link_detach", fails)
        with pytest.raises(KernelError, match=r"cannot detach a link from v0.*ENOMEM"):
            api.detach("v0", netns=lab.namespace)
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()


def test_what_is_attached_again_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then detach does not say that it is gone, and it stays netbpf's."""
    api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
    take = mechanism.take

    def in_vain(session: Session, occupant: Occupant) -> None:
        with Program.by_id(occupant.prog_id) as program:
            take(session, occupant)
            xdp.attach(session, occupant.interface, program.fd.fileno(), occupant.mode)

    with monkeypatch.context() as patched:
        patched.setattr(mechanism, "take", in_vain)
        with pytest.raises(NetbpfError, match=r"still runs .* after it was taken off"):
            api.detach("v0", netns=lab.namespace)
    (left,) = lab.status()
    assert left.managed
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()


def test_one_of_several_is_not_what_it_should_be(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said to have failed is undone; the other one stays."""
    verified = Changes.verified

    def fails(self: Changes, made: Attachment, there: list[Occupant]) -> Attachment:
        if made.occupant.interface.name == "v2":
            raise HookBusyError("another program took its place")
        return verified(self, made, there)

    monkeypatch.setattr(Changes, "verified", fails)
    attached = api.attach("tc", "v0,v2", "builtin:tc_globals", netns=lab.namespace)
    assert [one.error is None for one in attached.results] == [True, False]
    assert [one.occupant.interface.name for one in lab.status()] == ["v0"]
    lab.assert_consistent()
    assert lab.qdiscs() == 1
    attached.close()
    api.detach(everything=True, netns=lab.namespace)
    lab.assert_nothing_left()


def test_a_foreign_qdisc_arrives_before_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not netbpf's, and stays when netbpf goes."""

    def before() -> None:
        lab.namespace.run(subprocess.run, ["tc", "qdisc", "add", "dev", "v0", "clsact"], check=True)

    monkeypatch.setattr(tc, "ensure_clsact", only_once(before, tc.ensure_clsact))
    api.attach("tc", "v0", "builtin:tc_globals", netns=lab.namespace).close()
    api.detach("v0", netns=lab.namespace)
    assert lab.qdiscs() == 1
    assert lab.files() == []


def test_the_mark_of_a_namespace_of_the_same_number(lab: Lab) -> None:
    """Numbers of namespaces are used again: the qdisc is not netbpf's for a mark that is left of another one."""
    lab.namespace.run(subprocess.run, ["tc", "qdisc", "add", "dev", "v0", "clsact"], check=True)
    (v0,) = [one for one in interfaces(lab) if one.name == "v0"]
    with Session(lab.namespace) as session:
        qdiscs.mark(v0, session.cookie() + 1)
    lab.put(Hook.XDP, "v2", "builtin:xdp_globals", mode="skb")  # any command clears away
    assert lab.qdiscs() == 1
    api.detach("v2", netns=lab.namespace)
    assert lab.files() == []


def test_a_foreign_tcx_program_arrives_before_ours(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TCX is made for several: a foreign program that comes in between does not matter."""
    fd = foreign_program(ProgType.SCHED_CLS, TcAction.UNSPEC)
    (v0,) = [one for one in interfaces(lab) if one.name == "v0"]
    made = []
    attach = tcx.attach_link

    def before() -> None:
        made.append(attach(lab.namespace, v0, Hook.TC_INGRESS, fd.fileno()))

    monkeypatch.setattr(tcx, "attach_link", only_once(before, attach))
    with fd:
        with api.attach("tc", "v0", "builtin:tc_globals", link=True, netns=lab.namespace):
            assert [(one.program.name, one.managed) for one in lab.status()] == [
                ("foreign", False), ("tc_globals", True),
            ]  # fmt: skip
        made[0].close()
    lab.assert_nothing_left()


# --- the lock ---

HOLDER = """
import sys
from netbpf.state.lock import DEFAULT_TIMEOUT, locked
with locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(state: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "some", "words"], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    "words",
    [("attach", "xdp", "v0", "builtin:xdp_globals"), ("detach", "xdp", "v0")],
    ids=["attach", "detach"],
)
def test_the_lock_names_its_holder(
    lab: Lab, holder: "subprocess.Popen[str]", words: tuple[str, ...]
) -> None:
    done = lab.cli(*words, "--lock-timeout", "0.05")
    assert done.returncode == 11
    assert done.stderr.count("\n") == 1
    assert re.match(
        rf"netbpf: error: process {holder.pid} \(-c some words\) has held the lock for more than 0.05 s; ",
        done.stderr,
    )
    assert lab.status() == []


def test_a_killed_holder_frees_the_lock(lab: Lab, holder: "subprocess.Popen[str]") -> None:
    """Who waits goes on at once."""
    waiting = threading.Thread(
        target=lambda: api.attach(
            "xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace
        ).close()
    )
    waiting.start()
    os.kill(holder.pid, signal.SIGKILL)
    waiting.join(10)
    assert not waiting.is_alive()
    assert [one.managed for one in lab.status()] == [True]


def test_waiting_ends_when_it_should(state: Path, holder: "subprocess.Popen[str]") -> None:
    start = time.monotonic()
    with pytest.raises(LockTimeoutError), locked(0.2):
        pass
    assert 0.2 <= time.monotonic() - start < DEFAULT_TIMEOUT


def test_status_needs_no_lock(lab: Lab, holder: "subprocess.Popen[str]") -> None:
    assert lab.status() == []


def test_a_netbpf_with_another_state_directory_keeps_its_hands_off(
    lab: Lab, tmp_path: Path
) -> None:
    """Two that share a bpffs have no lock in common: each clears away its own pins only."""
    options = {"link": True, "netns": lab.namespace}
    api.attach(Hook.TC_INGRESS, "v0", "builtin:tc_globals", **options).close()  # type: ignore[arg-type]
    (defunct,) = lab.pins()
    with bpf.obj_get(str(defunct)) as link:
        bpf.link_detach(link.fileno())
    other = {"NETBPF_STATE_DIR": str(tmp_path / "other")}
    assert lab.cli("detach", "--all", "--ignore-missing", env=other).returncode == 0
    assert lab.pins() == [defunct]
    assert lab.cli("detach", "--all", "--ignore-missing").returncode == 0
    assert lab.pins() == []
    assert not defunct.parent.exists()  # that directory was this state directory's alone
    lab.assert_nothing_left()
