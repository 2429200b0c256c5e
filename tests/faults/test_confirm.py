"""Changes that go back by themselves: in time, exactly, whatever happens to who made them; never once confirmed."""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netbpf import Namespace, api
from netbpf._sys import waiting
from netbpf.constants import Hook, ProgType, XdpFlag
from netbpf.errors import (
    HookBusyError,
    LockTimeoutError,
    NetbpfError,
    NotAttachedError,
    NotSupportedError,
    UsageError,
)
from netbpf.manager import guard_watcher, mechanism, watcher
from netbpf.manager import pending as changes
from netbpf.model import Occupant
from netbpf.net import netlink, tcx
from netbpf.net.interfaces import resolve
from netbpf.net.occupants import occupants
from netbpf.net.rtnetlink import Session
from netbpf.state import pending as store
from netbpf.state import records
from netbpf.state.lock import locked
from netbpf.state.pending import boottime
from tests.faults.confirming import (
    LONG,
    SHORT,
    all_ended,
    ended,
    forget_words,
    process,
    the_pending,
    watchers,
)
from tests.faults.lab import ROOT, Lab
from tests.faults.ways import WAYS, Way, detach_all, each_way
from tests.support.foreign import foreign_program
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def no_watcher_outlives_its_test(state: Path) -> Iterator[None]:
    """Also of a test that fails."""
    yield
    for pid in watchers(state):
        os.kill(pid, signal.SIGKILL)


def there(lab: Lab) -> list[Occupant]:
    """What is on every hook, but for the ids of links: a link that is made again is a new one."""
    with Session(lab.namespace) as session:
        return [replace(one, link_id=min(one.link_id, 1)) for one in occupants(session)]


def kept(lab: Lab) -> list[records.Record]:
    return sorted(records.read_all(), key=lambda one: (one.ifindex, one.hook))


def after_the_deadline(lab: Lab) -> None:
    """Wait until the watchers have done what they wait for; it was not before the deadline."""
    deadline = the_pending().deadline
    all_ended(lab.state)
    assert deadline <= boottime() < deadline + 5
    assert not list(lab.state.glob("pending/*"))


def cleaned(lab: Lab) -> None:
    all_ended(lab.state)
    detach_all(lab)
    forget_words(lab)
    lab.assert_nothing_left()


# --- going back is exact ---


@each_way
@pytest.mark.parametrize("what", ["attach", "add", "replace", "detach"])
def test_it_goes_back(lab: Lab, way: Way, what: str) -> None:
    if what != "attach":
        assert way.attach(lab, way.first)["error"] is None
    before, known, qdiscs = there(lab), kept(lab), lab.qdiscs()
    if what == "detach":
        answer = lab.detach(everything=True, confirm=SHORT)
    else:
        source = way.first if what == "attach" else way.second
        answer = way.attach(
            lab, source, confirm=SHORT, **{"replace": True} if what == "replace" else {}
        )
    assert answer["error"] is None, answer
    assert there(lab) != before
    after_the_deadline(lab)
    # The very program, so the very maps, at the very place; and the record says so.
    assert there(lab) == before
    assert kept(lab) == known
    assert lab.qdiscs() == qdiscs
    words = api.pending(netns=lab.namespace).went_back
    assert {one.interface.name for one in words} == set(way.interfaces.split(","))
    assert all(not one.failed and not one.result for one in words)
    forget_words(lab)
    lab.assert_consistent()
    cleaned(lab)


@each_way
def test_what_is_confirmed_stays(lab: Lab, way: Way) -> None:
    assert way.attach(lab, way.first, confirm=SHORT)["error"] is None
    watcher = the_pending().watcher
    new = there(lab)
    [confirmed] = api.confirm(netns=lab.namespace)
    assert not confirmed.undone
    # Nobody is left who could go back.
    assert ended(watcher, 0)
    assert not watchers(lab.state)
    with pytest.raises(NotAttachedError, match="no change waits"):
        api.confirm(netns=lab.namespace)
    assert there(lab) == new
    lab.assert_consistent()
    cleaned(lab)


def test_going_back_before_the_deadline(lab: Lab) -> None:
    WAYS["several"].attach(lab, "builtin:xdp_globals", confirm=LONG)
    [undone] = api.confirm("v2", "xdp", undo=True, netns=lab.namespace)
    # What one command did goes back as a whole.
    assert {one.interface.name for one in undone.undone} == {"v0", "v2"}
    assert there(lab) == []
    lab.assert_nothing_left()


def test_the_order_of_tcx_programs(lab: Lab) -> None:
    """In the middle of others is where it was, and where it is again."""
    with Session(lab.namespace) as session:
        v0 = resolve(session, "v0")
    hook = Hook.TC_INGRESS
    with (
        foreign_program(ProgType.SCHED_CLS, 0) as one,
        foreign_program(ProgType.SCHED_CLS, 3) as other,
        tcx.attach_link(lab.namespace, v0, hook, one.fileno()),
    ):
        WAYS["tcx"].attach(lab, "builtin:tc_count")
        with tcx.attach_link(lab.namespace, v0, hook, other.fileno()):
            first, ours, last = (one.prog_id for one in there(lab))
            assert lab.detach("v0", confirm=SHORT)["error"] is None
            assert [one.prog_id for one in there(lab)] == [first, last]
            after_the_deadline(lab)
            assert [one.prog_id for one in there(lab)] == [first, ours, last]
    cleaned(lab)


def test_what_a_member_has_counted_goes_on(lab: Lab) -> None:
    way = WAYS["xdp-native"]
    way.attach(lab, "builtin:xdp_globals")
    way.attach(lab, "builtin:xdp_count")
    [before] = lab.status()
    assert lab.detach("v0", member="xdp_globals", confirm=SHORT)["error"] is None
    assert [one.name for one in lab.status()[0].members] == ["xdp_count"]
    after_the_deadline(lab)
    [again] = lab.status()
    assert (again.program.id, again.members, again.counters) == (
        before.program.id, before.members, before.counters,
    )  # fmt: skip
    cleaned(lab)


def test_a_block_that_ends_takes_off_what_waits(lab: Lab) -> None:
    for keep in (False, True):
        with api.attach("xdp", "v0,v2", "builtin:xdp_count", netns=lab.namespace, confirm=LONG):
            assert len(there(lab)) == 2
            if keep:
                api.confirm(netns=lab.namespace)
        assert there(lab) == []
    cleaned(lab)


@pytest.mark.parametrize("seconds", [LONG, None])
def test_a_detach_that_fails_half_way(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    """The link is off, the rest failed: what was to be confirmed still is."""
    WAYS["tcx"].attach(lab, "builtin:tc_globals")
    before = there(lab)

    def fails(_: object) -> None:
        raise NetbpfError("took off too little")

    monkeypatch.setattr(mechanism, "forget_pins", fails)
    with pytest.raises(NetbpfError, match="took off too little"):
        api.detach("v0", netns=lab.namespace, confirm=seconds)
    monkeypatch.undo()
    monkeypatch.setenv("NETBPF_STATE_DIR", str(lab.state))
    assert there(lab) == []
    if seconds:
        api.confirm(undo=True, netns=lab.namespace)
        assert there(lab) == before
    cleaned(lab)


# --- whoever dies ---

HOLDER = """
import signal, sys
from netbpf import api
if api.attach("xdp", "v0", "builtin:xdp_count", netns=sys.argv[1], confirm=float(sys.argv[2])):
    print("attached", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("end", ["hangup", "kill"])
def test_the_end_of_the_session(lab: Lab, end: str) -> None:
    """A terminal that hangs up sends SIGHUP to all in the session; a session may be killed as a whole."""
    session = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER, lab.path, "1"],
        stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT, pass_fds=(lab.namespace.fileno(),),
    )  # fmt: skip
    with session:
        try:
            assert session.stdout
            assert session.stdout.readline() == b"attached\n"
            [watcher] = watchers(lab.state)
            # It shares nothing with the session by which it could be reached.
            assert os.getsid(watcher) not in (session.pid, os.getsid(0))
            assert os.getpgid(watcher) != session.pid
        finally:
            os.killpg(session.pid, signal.SIGHUP if end == "hangup" else signal.SIGKILL)
    os.kill(watcher, signal.SIGHUP)
    os.kill(watcher, signal.SIGINT)
    assert watchers(lab.state) == {watcher}
    assert there(lab)
    after_the_deadline(lab)
    assert there(lab) == []
    cleaned(lab)


def test_nothing_of_the_terminal_is_held(lab: Lab) -> None:
    """A pipe to the reader of the command's output ends with the command."""
    done = lab.cli("attach", "xdp", "v0", "builtin:xdp_count", "--confirm", "1h", timeout=60)
    assert done.returncode == 0, done.stderr
    [watcher] = watchers(lab.state)
    links = {str(Path(f"/proc/{watcher}/fd/{fd}").readlink()) for fd in (0, 1, 2)}
    assert links == {"/dev/null"}
    assert str(Path(f"/proc/{watcher}/cwd").readlink()) == "/"
    assert lab.cli("confirm", "--undo").returncode == 0
    cleaned(lab)


@pytest.mark.parametrize("way", [WAYS["clsact"], WAYS["xdp-link"]], ids=["clsact", "xdp-link"])
@pytest.mark.parametrize("what", ["attach", "add", "detach"])
def test_the_watcher_is_killed(lab: Lab, way: Way, what: str) -> None:
    """Then status says so, and the next command goes back, with what can be had."""
    if what != "attach":
        way.attach(lab, way.first)
    before = lab.status()
    if what == "detach":
        lab.detach(everything=True, confirm=SHORT)
    else:
        way.attach(lab, way.second, confirm=SHORT)
    pending = the_pending()
    os.kill(pending.watcher, signal.SIGKILL)
    assert ended(pending.watcher)
    changed = there(lab)
    assert not the_pending().watched()
    with waiting.boottime_timer(pending.deadline) as timer:
        assert select.select([timer.fileno()], [], [], 10)[0]
    assert there(lab) == changed
    assert "was killed" in lab.cli("status").stdout
    # Any command that changes something: this one has nothing to do itself.
    assert lab.attach("xdp", "v3", "builtin:xdp_count", mode="skb")["error"] is None
    assert lab.detach("v3")["error"] is None
    after = [one for one in lab.status() if one.occupant.interface.name == "v0"]
    assert [one.occupant.hook for one in after] == [one.occupant.hook for one in before]
    for old, new in zip(before, after, strict=True):
        assert [one.name for one in new.members] == [one.name for one in old.members]
        assert replace(new.occupant, prog_id=0, link_id=0, filter=None) == replace(
            old.occupant, prog_id=0, link_id=0, filter=None
        )
    words = api.pending(netns=lab.namespace).went_back
    assert len(words) == 1
    assert ("lost with the process that kept them" in words[0].result) is (what == "detach")
    assert not list(lab.state.glob("pending/*"))
    cleaned(lab)


def test_confirming_when_the_watcher_was_killed(lab: Lab) -> None:
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=LONG)
    new = there(lab)
    os.kill(the_pending().watcher, signal.SIGKILL)
    api.confirm(netns=lab.namespace)
    assert there(lab) == new
    lab.assert_consistent()
    cleaned(lab)


def test_what_fails_is_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no memory for a moment: nobody is locked out for that."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=LONG)
    pending = the_pending()
    os.kill(pending.watcher, signal.SIGKILL)
    assert ended(pending.watcher)
    take, failures = mechanism.take, [NetbpfError("not now")]

    def fails(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        take(*arguments)

    monkeypatch.setattr(mechanism, "take", fails)
    here = watcher.Watching.__new__(
        watcher.Watching
    )  # its signal handlers are not for this process
    here.name, here.namespace = pending.name, lab.namespace
    here.pending, here.objects = pending, {}
    here.undo("it is tried")
    assert failures == []
    assert there(lab) == []
    [word] = api.pending(netns=lab.namespace).went_back
    assert (word.why, word.failed) == ("it is tried", False)
    cleaned(lab)


def test_confirmed_while_the_watcher_was_held_up(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, or starved: whatever it finds to do once it runs again, what was confirmed stays."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=LONG)
    new, pid = there(lab), the_pending().watcher
    monkeypatch.setattr(changes, "_PATIENCE", 0)
    os.kill(pid, signal.SIGSTOP)
    api.confirm(netns=lab.namespace)
    assert watchers(lab.state) == {pid}
    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)
    all_ended(lab.state)
    assert there(lab) == new
    assert api.pending(netns=lab.namespace).went_back == []
    lab.assert_consistent()
    cleaned(lab)


def test_the_watcher_is_told_to_end(lab: Lab) -> None:
    """What has to end leaves no unconfirmed change behind."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=LONG)
    os.kill(the_pending().watcher, signal.SIGTERM)
    all_ended(lab.state)
    assert there(lab) == []
    [word] = api.pending(netns=lab.namespace).went_back
    assert "told to end" in word.why
    cleaned(lab)


@pytest.mark.parametrize("moment", ["pending", "hold", "watch"])
@pytest.mark.parametrize("what", ["attach", "detach"])
def test_the_watcher_dies_while_the_command_runs(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, moment: str, what: str
) -> None:
    """Then the change is not made, or undone: nobody would go back."""
    if what == "detach" or moment == "hold":  # an attach where nothing is takes nothing off
        WAYS["clsact"].attach(lab, "builtin:tc_globals")
    before = there(lab)
    real = getattr(guard_watcher.Watcher, moment)

    def dies(self: guard_watcher.Watcher, *arguments: object) -> object:
        self.ready()
        os.kill(self._pid, signal.SIGKILL)
        assert ended(self._pid)
        return real(self, *arguments)

    monkeypatch.setattr(guard_watcher.Watcher, moment, dies)
    words = ("v0", "tc") if what == "detach" else ("tc", "v0", "builtin:tc_count")
    with pytest.raises(NetbpfError, match="process that waits for the confirmation"):
        getattr(api, what)(*words, netns=lab.namespace, confirm=LONG)
    assert there(lab) == before
    assert not list(lab.state.glob("pending/*"))
    cleaned(lab)


def test_no_watcher_can_be_started(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NetbpfError, match="cannot start the process that waits"):
        api.attach("xdp", "v0", "builtin:xdp_count", netns=lab.namespace, confirm=LONG)
    lab.assert_nothing_left()


# --- one winner ---


def test_confirming_at_the_deadline(lab: Lab) -> None:
    """Nearer and nearer to the last moment at which it succeeds, wherever that is: what confirm says is what is."""
    ends = set()
    way = WAYS["xdp-native"]
    ahead, closer = 0.3, 0.15  # seconds
    for _ in range(16):
        assert way.attach(lab, "builtin:xdp_count", confirm=0.5)["error"] is None
        pending = the_pending()
        with waiting.boottime_timer(pending.deadline - ahead) as timer:
            select.select([timer.fileno()], [], [], 10)
        answer = lab.ask("confirm")
        now = [one.prog_id for one in there(lab)]
        if answer["error"] is None:
            assert now == [pending.steps[0].after]
            assert not watchers(lab.state)
            ahead -= closer
        else:
            assert answer["error"] == "HookBusyError"
            assert "too late" in answer["message"]
            assert now == []
            ahead += closer
        closer = max(closer / 2, 0.002)
        ends.add(answer["error"])
        all_ended(lab.state)
        assert bool(there(lab)) == (api.pending(netns=lab.namespace).went_back == [])
        detach_all(lab)
        forget_words(lab)
    assert ends == {None, "HookBusyError"}
    cleaned(lab)


def test_the_lock_is_held_at_the_deadline(lab: Lab) -> None:
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=SHORT)
    new, pending = there(lab), the_pending()
    with locked():
        with waiting.boottime_timer(pending.deadline + 0.5) as timer:
            assert select.select([timer.fileno()], [], [], 10)[0]
        assert there(lab) == new
        assert watchers(lab.state) == {pending.watcher}
        with pytest.raises(LockTimeoutError):
            api.confirm(netns=lab.namespace, lock_timeout=0)
    all_ended(lab.state)
    assert there(lab) == []
    cleaned(lab)


# --- what happens meanwhile ---


def test_the_interface_vanishes(lab: Lab) -> None:
    WAYS["several"].attach(lab, "builtin:xdp_count", confirm=SHORT)
    lab.ip("link del v0")
    after_the_deadline(lab)
    words = {one.interface.name: one for one in api.pending(netns=lab.namespace).went_back}
    assert words["v0"].result == "interface v0 is gone"
    assert words["v2"].result == ""
    assert there(lab) == []
    cleaned(lab)


def test_the_namespace_is_left_by_all(lab: Lab) -> None:
    """It lives as long as the watcher, who goes back in it and lets go."""
    namespace = Namespace.create()
    wires = "link add v8 type veth peer name v9"
    namespace.run(subprocess.run, ["ip", *wires.split()], check=True)
    api.attach("xdp", "v8", "builtin:xdp_count", netns=namespace, confirm=SHORT).close()
    namespace.close()
    all_ended(lab.state)
    assert not list(lab.state.glob("pending/*"))
    cleaned(lab)


def test_command_and_watcher_are_killed(lab: Lab) -> None:
    """Before the change was complete: it has no deadline yet, and the next command goes back at once."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=LONG)
    pending = the_pending()
    os.kill(pending.watcher, signal.SIGKILL)
    assert ended(pending.watcher)
    store.write(replace(pending, phase=store.Phase.CHANGING, deadline=0.0))
    lab.put(Hook.XDP, "v2", "builtin:xdp_count")
    assert [one.interface.name for one in there(lab)] == ["v2"]
    [word] = api.pending(netns=lab.namespace).went_back
    assert word.why == "netbpf was killed before it was done"
    cleaned(lab)


@pytest.mark.parametrize("other", ["namespace", "boot"])
def test_numbers_that_are_used_again(lab: Lab, other: str) -> None:
    """What was changed in a namespace that is gone, or before a reboot that /run survived, is no business of now."""
    way = WAYS["xdp-native"]
    way.attach(lab, "builtin:xdp_count")
    assert lab.detach("v0", confirm=LONG)["error"] is None
    pending = the_pending()
    os.kill(pending.watcher, signal.SIGKILL)
    assert ended(pending.watcher)
    cookie = pending.cookie + (other == "namespace")
    store.write(replace(pending, cookie=cookie, deadline=boottime()))
    if other == "boot":
        [path] = lab.state.glob("pending/*")
        path.write_text(path.read_text().replace(records.boot_id(), "another"))
    lab.put(Hook.XDP, "v2", "builtin:xdp_count")  # any command goes back where that is due
    assert [one.interface.name for one in there(lab)] == ["v2"]
    assert api.pending(netns=lab.namespace).went_back == []
    assert not list(lab.state.glob("pending/*"))
    cleaned(lab)


def test_the_state_directory_is_emptied(lab: Lab) -> None:
    """The watcher writes its file again, so the change can be confirmed as if nothing had been."""
    WAYS["clsact"].attach(lab, "builtin:tc_globals")
    assert lab.detach("v0", confirm=LONG)["error"] is None
    watcher = the_pending().watcher
    for _ in range(3):
        shutil.rmtree(lab.state)
        eventually(lambda: list(lab.state.glob("pending/*.json")), "the file stays away")
    assert the_pending().watcher == watcher
    [one] = api.confirm(netns=lab.namespace)
    assert not one.undone
    assert not watchers(lab.state)
    assert there(lab) == []
    cleaned(lab)


def test_going_back_with_an_emptied_state_directory(lab: Lab) -> None:
    """Record and object are there again, too: what runs is netbpf's."""
    way = WAYS["xdp-link"]
    way.attach(lab, "builtin:xdp_globals")
    before, known = there(lab), kept(lab)
    way.attach(lab, "builtin:xdp_count", confirm=1.0)
    for path in lab.state.iterdir():
        # netbpf's own bpffs, mounted where the host has none, cannot be removed by that.
        if path.is_dir() and not path.is_mount():
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    all_ended(lab.state)
    assert there(lab) == before
    assert kept(lab) == known
    forget_words(lab)
    lab.assert_consistent()
    cleaned(lab)


def test_a_state_directory_that_cannot_be_had(lab: Lab) -> None:
    """Nobody is locked out by it: the watcher goes back without lock and record."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=1.0)
    shutil.rmtree(lab.state)
    lab.state.write_text("not a directory")
    all_ended(lab.state)
    lab.state.unlink()
    assert there(lab) == []
    cleaned(lab)


def test_somebody_else_took_the_place(lab: Lab) -> None:
    """What is neither before nor after is not touched, and that is said."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=SHORT)
    with Session(lab.namespace) as session, foreign_program(ProgType.XDP, 2) as other:
        netlink.set_xdp(session, resolve(session, "v0").index, other.fileno(), XdpFlag.DRV_MODE)
        foreign = there(lab)
        after_the_deadline(lab)
        assert there(lab) == foreign
        [word] = api.pending(netns=lab.namespace).went_back
        assert "is there by now, and stays" in word.result
        netlink.set_xdp(session, resolve(session, "v0").index, -1, XdpFlag.DRV_MODE)
    cleaned(lab)


# --- several, and others ---


def test_each_change_waits_for_itself(lab: Lab) -> None:
    lab.attach("xdp", "v0", "builtin:xdp_count", confirm=LONG)
    lab.attach("xdp", "v2", "builtin:xdp_count", confirm=LONG)
    lab.attach("tc", "v0", "builtin:tc_count", confirm=SHORT)
    assert len(watchers(lab.state)) == 3
    with pytest.raises(UsageError, match=r"3 changes are pending|2 changes are pending"):
        api.confirm(netns=lab.namespace)
    short = next(one for one in api.pending(netns=lab.namespace).pending if one.seconds == SHORT)
    assert ended(short.watcher)
    api.confirm("v0", netns=lab.namespace)
    api.confirm("v2", undo=True, netns=lab.namespace)
    assert [(one.interface.name, one.hook) for one in there(lab)] == [("v0", Hook.XDP)]
    cleaned(lab)


def test_each_namespace_decides_on_its_own(lab: Lab) -> None:
    """Also where the interfaces have the same names and numbers."""
    other = lab.topology.namespace()
    lab.topology.wire(other, other, names=("v0", "v1"), up=False)
    lab.attach("xdp", "v0", "builtin:xdp_count", confirm=LONG)
    before = the_pending()
    for undo in (False, True):
        for interface in ("v0", None):
            with pytest.raises(NotAttachedError) as refused:
                api.confirm(interface, undo=undo, netns=other)
            hint = str(refused.value.hint)
            assert hint.startswith("in another network namespace there is: attach on v0 xdp")
    assert the_pending() == before
    assert len(there(lab)) == 1
    api.confirm(undo=True, netns=lab.namespace)
    lab.attach("xdp", "v0", "builtin:xdp_count", confirm=SHORT)
    all_ended(lab.state)
    with pytest.raises(NotAttachedError, match="no change on v0"):
        api.confirm("v0", netns=other)
    with pytest.raises(HookBusyError, match="too late"):
        api.confirm("v0", netns=lab.namespace)
    cleaned(lab)


def test_a_pending_hook_is_not_changed(lab: Lab) -> None:
    way = WAYS["xdp-native"]
    way.attach(lab, way.first)
    way.attach(lab, way.second, confirm=LONG)
    before = there(lab)
    for refused in (
        way.attach(lab, "builtin:xdp_drop"),
        way.attach(lab, "builtin:xdp_drop", confirm=LONG),
        lab.detach("v0", "xdp", everything=True),
        lab.detach("v0", "xdp", everything=True, force=True),
        lab.detach("v0", "xdp", member="xdp_count"),
        lab.ask("set_member", "v0", "xdp_count", priority=7),
    ):
        assert refused["exit_code"] == 7, refused
        assert "waits for its confirmation" in refused["message"]
    assert there(lab) == before
    assert len(watchers(lab.state)) == 1
    # Other hooks are free.
    assert lab.attach("tc", "v0", "builtin:tc_count")["error"] is None
    api.confirm(netns=lab.namespace)
    assert lab.detach("v0", "xdp", everything=True)["error"] is None
    cleaned(lab)


def test_the_objects_of_before_are_kept(lab: Lab) -> None:
    """Whatever else sweeps: going back without the watcher needs them."""
    WAYS["clsact"].attach(lab, "builtin:tc_globals")
    [there_is] = kept(lab)
    lab.detach("v0", confirm=LONG)
    lab.attach("xdp", "v2", "builtin:xdp_count")
    lab.detach("v2")
    [member] = there_is.generations[0].members
    assert (lab.state / "objects" / f"{member.object.sha256}.o").exists()
    api.confirm(netns=lab.namespace)
    lab.attach("xdp", "v2", "builtin:xdp_count")
    assert not (lab.state / "objects" / f"{member.object.sha256}.o").exists()
    cleaned(lab)


def test_foreign_programs(lab: Lab) -> None:
    """An XDP program of somebody's comes back; the link of somebody's cannot, and is not taken off."""
    with Session(lab.namespace) as session, foreign_program(ProgType.XDP, 2) as other:
        netlink.set_xdp(session, resolve(session, "v0").index, other.fileno(), XdpFlag.DRV_MODE)
        before = there(lab)
        answer = lab.detach("v0", "xdp", force=True, confirm=SHORT)
        assert answer["error"] is None, answer
        assert there(lab) == []
        after_the_deadline(lab)
        assert there(lab) == before
        netlink.set_xdp(session, resolve(session, "v0").index, -1, XdpFlag.DRV_MODE)
    with foreign_program(ProgType.SCHED_CLS, 0) as other, Session(lab.namespace) as session:
        v0 = resolve(session, "v0")
        with tcx.attach_link(lab.namespace, v0, Hook.TC_INGRESS, other.fileno()):
            before = there(lab)
            with pytest.raises(NotSupportedError, match="could not be put back"):
                api.detach("v0", "tc", force=True, confirm=LONG, netns=lab.namespace)
            assert there(lab) == before
    cleaned(lab)


def test_some_interfaces_fail(lab: Lab) -> None:
    """Those that were changed wait together; the others were never meant."""
    with Session(lab.namespace) as session, foreign_program(ProgType.XDP, 2) as other:
        netlink.set_xdp(session, resolve(session, "v2").index, other.fileno(), XdpFlag.DRV_MODE)
        attached = api.attach(
            "xdp", "v0,v2", "builtin:xdp_count", netns=lab.namespace, confirm=LONG
        )
        attached.close()
        assert len(attached.errors) == 1
        assert [one.interface.name for one in the_pending().steps] == ["v0"]
        api.confirm(undo=True, netns=lab.namespace)
        netlink.set_xdp(session, resolve(session, "v2").index, -1, XdpFlag.DRV_MODE)
    cleaned(lab)


def test_nothing_changed_waits_for_nothing(lab: Lab) -> None:
    with pytest.raises(NotAttachedError):
        api.detach("v0", netns=lab.namespace, confirm=LONG)
    assert api.detach("v0", netns=lab.namespace, confirm=LONG, missing_ok=True) == []
    assert not watchers(lab.state)
    lab.assert_nothing_left()


@pytest.mark.parametrize("seconds", [0, 0.05, -1, 86401, float("nan"), float("inf")])
def test_times_that_make_no_sense(lab: Lab, seconds: float) -> None:
    with pytest.raises(UsageError, match="no time to confirm in"):
        api.attach("xdp", "v0", "builtin:xdp_count", netns=lab.namespace, confirm=seconds)
    lab.assert_nothing_left()


def test_the_watcher_outlives_the_memory_of_the_command(lab: Lab) -> None:
    """It is a process of its own, small, and child of nobody here."""
    WAYS["xdp-native"].attach(lab, "builtin:xdp_count", confirm=LONG)
    watcher = the_pending().watcher
    with open(f"/proc/{watcher}/status") as lines:
        facts = dict(line.split(":", 1) for line in lines)
    assert int(facts["VmRSS"].split()[0]) < 64 * 1024
    assert int(facts["PPid"]) not in (os.getpid(), lab.driver.process.pid)
    with process(watcher) as fd:
        api.confirm(undo=True, netns=lab.namespace)
        assert select.select([fd], [], [], 0)[0]
    cleaned(lab)
