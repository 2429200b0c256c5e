import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbpf.errors import NamespaceNotFoundError, PermissionDeniedError
from netbpf.net.netns import RUN_DIRECTORY, Namespace, all_namespaces, names

NAME = f"netbpf-test-{os.getpid()}"


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def named() -> Iterator[str]:
    """A namespace with a name, which ip-netns(8) makes."""
    subprocess.run(["ip", "netns", "add", NAME], check=True)
    try:
        yield NAME
    finally:
        subprocess.run(["ip", "netns", "delete", NAME], check=False, capture_output=True)


# ------------------------------------------------------------------------------------------------ run


def test_run_is_inside_and_the_caller_stays_outside(space: Namespace) -> None:
    before = interfaces()
    assert space.run(interfaces) == ["lo"]
    assert interfaces() == before != ["lo"]


def test_run_passes_arguments_and_returns_the_result(space: Namespace) -> None:
    assert space.run(divmod, 17, 5) == (3, 2)
    assert space.run(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]


@pytest.mark.parametrize("kind", [KeyError, SystemExit, KeyboardInterrupt])
def test_run_raises_what_the_function_raises(space: Namespace, kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("from inside")

    with pytest.raises(kind, match="from inside") as caught:
        space.run(fail)
    assert "fail" in [entry.name for entry in caught.traceback]


def test_run_in_the_present_namespace_needs_no_thread(space: Namespace) -> None:
    with Namespace.current() as here:
        assert here.run(threading.get_ident) == threading.get_ident()

    def nested() -> bool:
        return space.run(threading.get_ident) == threading.get_ident()

    assert space.run(nested)


def test_run_from_one_namespace_into_another(space: Namespace, other_space: Namespace) -> None:
    def both() -> tuple[int, int]:
        with Namespace.current() as mine:
            return mine.inode, other_space.run(Path("/proc/thread-self/ns/net").stat).st_ino

    assert space.run(both) == (space.inode, other_space.inode)


def test_run_leaves_no_thread_and_no_descriptor(space: Namespace) -> None:
    space.run(int)
    threads, fds = threading.active_count(), descriptors()
    for _ in range(200):
        space.run(int)
        with pytest.raises(ValueError, match="invalid literal"):
            space.run(int, "x")
    assert (threading.active_count(), descriptors()) == (threads, fds)


def test_a_thousand_namespaces_come_and_go() -> None:
    fds = descriptors()
    for _ in range(1000):
        with Namespace.create():
            pass
    assert descriptors() == fds


def test_a_closed_namespace_says_so(space: Namespace) -> None:
    space.close()
    space.close()
    with pytest.raises(ValueError, match="closed"):
        space.run(int)


_INTERRUPTED = """
import os, sys
from netbpf.net import netns
netns._GRACE = float(sys.argv[1])
def work():
    print("inside", flush=True)
    os.read(0, 1)
    print("finished", flush=True)
with netns.Namespace.create() as space:
    try:
        space.run(work)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def interrupt(grace: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, grace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "inside\n"
    child.send_signal(signal.SIGINT)
    return child


def test_ctrl_c_lets_the_function_finish_first() -> None:
    child = interrupt("60")
    output, _ = child.communicate("x", timeout=30)
    assert output.split() == ["finished", "interrupted"]
    assert child.returncode == 0


def test_ctrl_c_does_not_wait_for_a_function_that_never_ends() -> None:
    with interrupt("0.05") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "interrupted\n"
        assert child.wait(timeout=30) == 0


def test_second_ctrl_c_ends_the_waiting() -> None:
    with interrupt("60") as child:
        assert child.stdout is not None
        # The signal may come before the first was seen; one of those that follow is the second.
        while child.poll() is None:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
        assert "finished" not in child.stdout.read()


# ----------------------------------------------------------------------------------------------- open


def test_open_by_name_path_and_process(named: str) -> None:
    with Namespace.open(named) as by_name, Namespace.open(f"/run/netns/{named}") as by_path:
        assert by_name == by_path
        assert by_name.name == by_path.name == by_name.label == named
        child = by_name.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
        with child, Namespace.open(f"pid:{child.pid}") as by_pid:
            assert by_pid == by_name
            assert by_pid.name is None
            assert by_pid.run(interfaces) == ["lo"]
            with Namespace.open(f"/proc/{child.pid}/ns/net") as by_proc:
                assert by_proc == by_name
            child.communicate()


def test_open_through_a_descriptor(space: Namespace) -> None:
    with Namespace.open(f"/proc/self/fd/{space.fileno()}") as again:
        assert again == space
        assert hash(again) == hash(space)
        assert again.fileno() != space.fileno()


def test_an_open_namespace_outlives_its_name(named: str) -> None:
    with Namespace.open(named) as namespace:
        subprocess.run(["ip", "netns", "delete", named], check=True)
        assert namespace.run(interfaces) == ["lo"]
        with pytest.raises(NamespaceNotFoundError):
            Namespace.open(named)


def test_unknown_name_lists_near_ones(named: str) -> None:
    with pytest.raises(NamespaceNotFoundError, match=f"no network namespace '{named}x'") as caught:
        Namespace.open(f"{named}x")
    assert (caught.value.hint or "").startswith(f"did you mean {named}")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("", "'' is no network namespace name", None),
        ("..", "'..' is no network namespace name", None),
        ("424242", "no network namespace '424242'", "process 424242 is pid:424242"),
        ("pid:4194305", "there is no such process", None),
        ("pid:x", "no network namespace 'pid:x'", None),
        ("/does/not/exist", "'/does/not/exist': No such file", None),
        ("/etc/hostname/x", "Not a directory", None),
        ("/etc/passwd", "/etc/passwd is an ordinary file", None),
        ("/dev/zero", "/dev/zero is no namespace file", None),
        ("/tmp", "/tmp is no namespace file", None),
        ("/proc/self/ns/mnt", "is a mount namespace, not a network one", None),
        ("/proc/self/ns/user", "is a user namespace, not a network one", None),
        ("a\0b", r"no network namespace 'a\\x00b'", None),
        ("./a\0b", "holds a NUL byte", None),
        ("a\nb", r"no network namespace 'a\\nb'", None),
        ("x" * 5000, "no network namespace 'xxx", None),
    ],
)
def test_what_is_no_network_namespace(spec: str, message: str, hint: str | None) -> None:
    fds = descriptors()
    with pytest.raises(NamespaceNotFoundError, match=message) as caught:
        Namespace.open(spec)
    assert "\n" not in caught.value.message
    if hint:
        assert hint in (caught.value.hint or "")
    assert descriptors() == fds


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NamespaceNotFoundError, match="is no namespace file"):
        Namespace.open(str(tmp_path / "pipe"))


def test_the_leftover_of_a_deleted_namespace_is_named_as_such(named: str) -> None:
    subprocess.run(["umount", "-l", RUN_DIRECTORY / named], check=True)
    with pytest.raises(NamespaceNotFoundError, match="what is left of a deleted one") as caught:
        Namespace.open(named)
    assert caught.value.hint == f"remove it: ip netns delete {named}"
    assert named not in names().values()


# ----------------------------------------------------------------------------------------------- list


@pytest.mark.serial
def test_all_namespaces_finds_each_once(named: str, space: Namespace) -> None:
    child = space.run(subprocess.Popen, ["cat"], stdin=subprocess.PIPE)
    with Namespace.current() as here, Namespace.open(named) as known, child:
        found = [(one.inode, one.name, one.fileno() >= 0) for one in all_namespaces()]
        child.communicate()
        inodes = [inode for inode, _, _ in found]
        assert inodes[0] == here.inode
        assert len(set(inodes)) == len(inodes)
        assert (known.inode, named, True) in found
        assert (space.inode, None, True) in found
        assert names()[known.inode] == named


@pytest.mark.serial
def test_a_namespace_nobody_is_in_is_not_listed(space: Namespace) -> None:
    assert space.inode not in [one.inode for one in all_namespaces()]


def test_a_namespace_has_one_entry_whatever_its_names(named: str) -> None:
    alias = RUN_DIRECTORY / f"a-{named}"
    alias.touch()
    subprocess.run(["mount", "--bind", RUN_DIRECTORY / named, alias], check=True)
    try:
        with Namespace.open(named) as known:
            assert [one.name for one in all_namespaces() if one == known] == [alias.name]
    finally:
        subprocess.run(["umount", "-l", alias], check=True)
        alias.unlink()


def test_listing_leaks_nothing_when_it_is_left_early(named: str) -> None:
    fds = descriptors()
    kept = next(one.duplicate() for one in all_namespaces() if one.name == named)
    assert descriptors() == fds + 1
    with kept:
        assert kept.run(interfaces) == ["lo"]


# ------------------------------------------------------------------------------------------ permission


def without(capability: str, script: str, *fds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}", sys.executable, "-c", script],
        pass_fds=fds,
        text=True,
        capture_output=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("Namespace.create()", "create a network namespace"),
        ("Namespace.open('/proc/self/fd/{fd}').run(int)", "enter network namespace"),
    ],
)
def test_missing_cap_sys_admin_is_named(space: Namespace, call: str, action: str) -> None:
    script = f"""
from netbpf.errors import PermissionDeniedError
from netbpf.net.netns import Namespace
try:
    {call.format(fd=space.fileno())}
except PermissionDeniedError as error:
    print(error)
"""
    done = without("sys_admin", script, space.fileno())
    assert action in done.stdout, done.stderr
    assert done.stdout.endswith("CAP_SYS_ADMIN is missing\n")


def test_a_namespace_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionDeniedError, match="no permission to open network namespace"):
        Namespace.open("/proc/self/ns/net")
