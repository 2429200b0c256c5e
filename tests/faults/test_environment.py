"""What the surroundings refuse: capabilities, file systems, limits. One clear error, and the hook as it was."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbpf import api, layout
from tests.faults.lab import ROOT, Lab

XDP = ("attach", "xdp", "v0", "builtin:xdp_globals")
TC = ("attach", "tc", "v0", "builtin:tc_globals")
REPLACE = ("attach", "xdp", "v0", "builtin:xdp_count", "--replace")


def without(*names: str) -> tuple[str, ...]:
    return ("setpriv", f"--bounding-set=-{',-'.join(names)}")


def only(*names: str) -> tuple[str, ...]:
    return (
        "setpriv",
        f"--bounding-set=-all,+{',+'.join(names)}" if names else "--bounding-set=-all",
    )


def inside(
    lab: Lab, *words: str, before: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    """netbpf started in the lab's namespace, so that it need not enter it."""
    return lab.namespace.run(lab.cli, *words, before=before, netns="")


def assert_one_error(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    assert done.returncode == code, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("netbpf: error: ")
    for word in words:
        assert word in done.stderr


# --- capabilities: docs/operations.md has the table ---

ATTACH = ("bpf", "net_admin", "perfmon")


@pytest.mark.parametrize("words", [XDP, TC], ids=["xdp", "tc"])
def test_what_attach_needs(lab: Lab, words: tuple[str, ...]) -> None:
    done = inside(lab, *words, before=only(*ATTACH))
    assert done.returncode == 0, done.stderr
    assert [one.managed for one in lab.status()] == [True]
    lab.assert_consistent()


MAP = "type array key 4 value 4 entries 1 name x"


def test_an_attach_need_not_clear_away_what_it_may_not_look_at(lab: Lab) -> None:
    """The pin of a map whose record is lost: whether it is needed, only CAP_SYS_ADMIN could tell."""
    pins = layout.map_pins(lab.state / "bpffs")
    lab.state.mkdir(mode=0o700, exist_ok=True)
    (lab.state / "bpffs").mkdir(mode=0o700)
    for command in (
        ("mount", "-t", "bpf", "-o", "mode=0700", "bpf", lab.state / "bpffs"),
        ("mkdir", "-m", "0700", pins.parent, pins),
        ("bpftool", "map", "create", pins / "1", *MAP.split()),
    ):
        subprocess.run([str(word) for word in command], check=True)
    done = inside(lab, *XDP, before=only(*ATTACH))
    assert done.returncode == 0, done.stderr
    assert (pins / "1").exists()
    api.detach("v0", netns=lab.namespace)
    assert not (pins / "1").exists()


@pytest.mark.parametrize("missing", ATTACH)
@pytest.mark.parametrize("words", [XDP, TC, (*TC, "--link")], ids=["xdp", "tc", "tcx"])
def test_what_attach_lacks(lab: Lab, words: tuple[str, ...], missing: str) -> None:
    done = inside(lab, *words, before=only(*(name for name in ATTACH if name != missing)))
    assert_one_error(done, 10, f"CAP_{missing.upper()} is missing")
    others = {f"CAP_{name.upper()}" for name in (*ATTACH, "sys_admin", "net_raw")}
    assert not [name for name in others - {f"CAP_{missing.upper()}"} if name in done.stderr]
    lab.assert_nothing_left()


NEEDS = {
    "replace": (REPLACE, ("net_admin", "sys_admin")),
    "detach": (("detach", "xdp", "v0"), ("net_admin", "sys_admin")),
    "status": (("status",), ("sys_admin",)),
    "stats": (("stats", "v0"), ("sys_admin",)),
    "get": (("get", "v0", "packets"), ("sys_admin",)),
    "set": (("set", "v0", "min_bytes=20"), ("sys_admin",)),
}
each_need = pytest.mark.parametrize(("words", "needed"), NEEDS.values(), ids=NEEDS)


@pytest.fixture
def attached(lab: Lab) -> Lab:
    api.attach("xdp", "v0", "builtin:xdp_globals", netns=lab.namespace).close()
    return lab


@each_need
def test_what_the_others_need(
    attached: Lab, words: tuple[str, ...], needed: tuple[str, ...]
) -> None:
    done = inside(attached, *words, before=only(*needed))
    assert done.returncode == 0, done.stderr


@each_need
@pytest.mark.parametrize("missing", ["sys_admin", "net_admin"])
def test_what_the_others_lack(
    attached: Lab, words: tuple[str, ...], needed: tuple[str, ...], missing: str
) -> None:
    if missing not in needed:
        done = inside(attached, *words, before=without(missing))
        assert done.returncode == 0, done.stderr
        return
    before = attached.status()
    done = inside(attached, *words, before=without(missing))
    assert_one_error(done, 10, f"CAP_{missing.upper()} is missing")
    assert attached.status() == before
    attached.assert_consistent()


@pytest.mark.parametrize(
    "words", [XDP, REPLACE, ("status",), ("stats", "v0"), ("detach",)], ids=" ".join
)
def test_cap_net_raw_is_needed_for_nothing(attached: Lab, words: tuple[str, ...]) -> None:
    if words == XDP:
        api.detach("v0", netns=attached.namespace)
    assert attached.cli(*words, before=without("net_raw")).returncode == 0


def test_entering_a_namespace_and_mounting(lab: Lab) -> None:
    done = lab.cli(*XDP, before=without("sys_admin"))
    assert_one_error(done, 10, "enter network namespace", "CAP_SYS_ADMIN is missing")
    if not os.path.ismount("/sys/fs/bpf"):
        done = inside(lab, *XDP, "--link", before=only(*ATTACH))
        assert_one_error(done, 10, "mount a bpffs", "CAP_SYS_ADMIN is missing")
    lab.assert_nothing_left()


# --- file systems ---


@pytest.fixture
def named(lab: Lab) -> Iterator[str]:
    """The lab's namespace under a name, for ip-netns(8)."""
    name = f"netbpf-env-{os.getpid()}"
    target = Path("/run/netns", name)
    target.touch()
    subprocess.run(["mount", "--bind", lab.path, target], check=True)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.parametrize("words", [XDP, TC], ids=["xdp", "tc"])
def test_under_ip_netns_exec(lab: Lab, named: str, words: tuple[str, ...]) -> None:
    """All but links works: /sys is another one there, and /sys/fs/bpf hidden."""
    before = ("ip", "netns", "exec", named)
    assert lab.cli(*words, before=before, netns="").returncode == 0
    done = lab.cli("status", before=before, netns="")
    assert "netbpf" in done.stdout
    assert "globals" in done.stdout
    assert lab.cli("stats", "v0", before=before, netns="").returncode == 0
    assert lab.cli("detach", before=before, netns="").returncode == 0
    lab.assert_nothing_left()


SHELLS = {
    "ip-netns-exec": lambda name: ("ip", "netns", "exec", name),
    "with-a-bpffs-of-its-own": lambda name: (
        "ip", "netns", "exec", name, "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh",
    ),
    # Without a bpffs of the host, which would last.
    "unshare": lambda name: (
        "nsenter", f"--net=/run/netns/{name}", "unshare", "--mount", "sh", "-c",
        'while umount -l /sys/fs/bpf 2>/dev/null; do :; done; exec "$@"', "sh",
    ),
}  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_link_that_would_not_last(
    lab: Lab, named: str, shell: Callable[[str], tuple[str, ...]]
) -> None:
    """A bpffs mounted in there would vanish with the shell, and the attachment with it."""
    done = lab.cli(*XDP, "--link", before=shell(named), netns="")
    assert_one_error(done, 5, "outlives this mount namespace", "without --link")
    lab.assert_nothing_left()


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_link_in_a_bpffs_of_the_host(
    lab: Lab, named: str, shell: Callable[[str], tuple[str, ...]]
) -> None:
    """netbpf's own bpffs, mounted before, is visible in there: it lasts."""
    assert lab.cli("attach", "xdp", "v2", "builtin:xdp_globals", "--link").returncode == 0
    if os.path.ismount("/sys/fs/bpf"):
        (lab.state / "bpffs").mkdir(mode=0o700)
        subprocess.run(
            ["mount", "-t", "bpf", "-o", "mode=0700", "bpf", lab.state / "bpffs"], check=True
        )
    done = lab.cli(*XDP, "--link", before=shell(named), netns="")
    assert done.returncode == 0, done.stderr
    assert sorted(lab.on("xdp")) == ["v0", "v2"]
    assert lab.cli("detach", "--all", before=shell(named), netns="").returncode == 0
    assert lab.status() == []


def test_sys_read_only_and_without_bpffs(lab: Lab) -> None:
    script = 'mount -o remount,bind,ro /sys && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", script, "sh")
    for words in (XDP, ("status",), ("stats", "v0"), ("detach",), TC, ("detach",)):
        done = lab.cli(*words, before=before)
        assert done.returncode == 0, (words, done.stderr)
    lab.assert_nothing_left()


def test_run_cannot_be_written(lab: Lab) -> None:
    """The error says what could be done; looking works without."""
    script = 'mount -t tmpfs -o ro none /run && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", script, "sh")
    done = lab.cli(*XDP, before=before, env={"NETBPF_STATE_DIR": ""})
    assert_one_error(done, 1, "/run/netbpf", "Read-only file system")
    assert lab.cli("status", before=before, env={"NETBPF_STATE_DIR": ""}).returncode == 0
    assert lab.status() == []


# --- limits ---


@pytest.mark.parametrize("words", [XDP, TC, ("status",), ("detach",)], ids=" ".join)
def test_few_descriptors(lab: Lab, words: tuple[str, ...]) -> None:
    """From none but the standard three upwards: it works, or one line says why not."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if words[0] == "detach":
        api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
    codes = []
    for limit in range(5, 20):
        before = lab.status()
        done = lab.cli(*words, before=("prlimit", f"--nofile={limit}:{hard}"))
        codes.append(done.returncode)
        if done.returncode == 0:
            break
        assert_one_error(done, done.returncode, "Too many open files")
        assert lab.status() == before
    assert codes[-1] == 0
    api.detach(netns=lab.namespace, missing_ok=True)
    lab.assert_nothing_left()


def test_no_locked_memory(lab: Lab) -> None:
    """Since Linux 5.11 it is not counted there; before, netbpf raises the limit."""
    done = lab.cli(*XDP, before=("prlimit", "--memlock=0:0"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "redirect", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "| head -c 1 >/dev/null"]
)
@pytest.mark.parametrize(
    "words", [XDP, ("status",), ("status", "--json"), ("--help",)], ids=" ".join
)
def test_closed_streams(lab: Lab, redirect: str, words: tuple[str, ...]) -> None:
    """Nobody to talk to is no reason to fail."""
    script = f'set -o pipefail; "$@" {redirect}'
    done = lab.cli(
        *words, before=("bash", "-c", script, "bash"), netns="" if words == ("--help",) else None
    )
    assert done.returncode in ((0, 141) if "|" in redirect else (0,)), done
    assert done.stderr == ""
    if words == XDP:
        assert [one.managed for one in lab.status()] == [True]


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("--help",)], ids=" ".join)
def test_a_full_output(lab: Lab, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*lab.command, *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            cwd=ROOT,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_stats_without_run_statistics(attached: Lab) -> None:
    """kernel.bpf_stats_enabled is off: stats says so by saying nothing."""
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    if switch.exists():
        assert switch.read_text().strip() == "0"
    (one,) = api.stats("v0", netns=attached.namespace)
    assert one.attachment.program.run_count == 0
